// Python generators behind a real ring: what the caller sees, and when.
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "tests/system/python_system_test.h"

namespace baton::testing {
namespace {

constexpr absl::Duration kLong = absl::Minutes(1);

class PythonStreamSystemTest : public PythonSystemTestBase {
 protected:
  void SetUp() override { ServePython("streaming"); }

  // A loaned request of `method` with these texts.
  Request TextRequest(const std::string& method,
                      const std::vector<std::pair<std::string, std::string>>& texts) {
    std::vector<TensorSpec> specs;
    for (const auto& [name, text] : texts) specs.push_back(TextSpec(name, text));
    const absl::StatusOr<uint32_t> number = channel_->FindMethod(method);
    EXPECT_TRUE(number.ok()) << number.status();
    absl::StatusOr<RequestPlan> plan = channel_->Plan(specs, {.method = number.value_or(0)});
    EXPECT_TRUE(plan.ok()) << plan.status();
    absl::StatusOr<Request> request = channel_->Loan(*plan);
    EXPECT_TRUE(request.ok()) << request.status();
    for (const auto& [name, text] : texts) Fill(*request, name, text);
    return *std::move(request);
  }
  Stream Open(const std::string& method,
              const std::vector<std::pair<std::string, std::string>>& texts,
              const StreamOptions& options = {}) {
    absl::StatusOr<Stream> stream = channel_->OpenStream(TextRequest(method, texts), options);
    EXPECT_TRUE(stream.ok()) << stream.status();
    return *std::move(stream);
  }
  static absl::Status Write(Stream& stream, const std::string& name, const std::string& text) {
    absl::StatusOr<Request> item = stream.NewItem({TextSpec(name, text)});
    if (!item.ok()) return item.status();
    Fill(*item, name, text);
    return stream.Write(*std::move(item), kLong);
  }
  static std::string Read(Stream& stream) {
    const absl::StatusOr<Stream::ReadResult> read = stream.Read(kLong);
    if (!read.ok()) return read.status().ToString();
    if (read->found == Stream::Found::kNothing) return "<nothing>";
    if (read->found == Stream::Found::kEnd) return "<end>";
    return TextOf(read->response);
  }
  // What the method "log" has given so far holds this event. (A list of texts has many zero bytes.)
  bool ModelLogHas(const std::string& event) {
    absl::StatusOr<Response> response = channel_->Call(TextRequest("log", {}), {.timeout = kLong});
    if (!response.ok()) return false;
    for (const char c : TextOf(*response)) {
      if (c != '\0') seen_ += c;
    }
    return absl::StrContains(seen_, event);
  }

  std::string seen_;
};

TEST_F(PythonStreamSystemTest, A2A7AGeneratorsResponsesComeInOrder) {
  Stream stream = Open("generate", {{"text", "x"}});
  EXPECT_EQ(Read(stream), "x0");
  EXPECT_EQ(Read(stream), "x1");
  EXPECT_EQ(Read(stream), "x2");
  EXPECT_EQ(Read(stream), "<end>");
}

// A7: item 2 is not there before output 1 has been read.
TEST_F(PythonStreamSystemTest, A7OutputOneComesBeforeItemTwoIsSent) {
  Stream stream = Open("stream", {{"prefix", "-"}});
  ASSERT_TRUE(Write(stream, "texts", "one").ok());
  EXPECT_EQ(Read(stream), "-one");
  ASSERT_TRUE(Write(stream, "texts", "two").ok());
  EXPECT_EQ(Read(stream), "-two");
  ASSERT_TRUE(stream.WritesDone().ok());
  EXPECT_EQ(Read(stream), "end");
  EXPECT_EQ(Read(stream), "<end>");
}

TEST_F(PythonStreamSystemTest, A8AnExceptionMidStreamComesAfterWhatWasThereBefore) {
  Stream stream = Open("fails_midway", {{"text", "that"}});
  EXPECT_EQ(Read(stream), "that");
  const std::string end = Read(stream);
  EXPECT_TRUE(absl::StrContains(end, "UNKNOWN")) << end;
  EXPECT_TRUE(absl::StrContains(end, "ValueError: enough of that")) << end;
  EXPECT_TRUE(absl::StrContains(end, "Traceback")) << end;
  Stream next = Open("generate", {{"text", "y"}});
  EXPECT_EQ(Read(next), "y0");
}

TEST_F(PythonStreamSystemTest, A32ACancelledGeneratorIsClosed) {
  {
    Stream stream = Open("generate", {{"text", "x"}}, {.window = 1});
    EXPECT_EQ(Read(stream), "x0");
    stream.Cancel();
  }
  EXPECT_TRUE(WaitFor([&] { return ModelLogHas("closed"); })) << seen_;
}

TEST_F(PythonStreamSystemTest, OneThatWaitsForItemsSeesTheCallerGo) {
  {
    // The second item has room once the first is taken: from then on it yields nothing, and can be
    // nowhere but on its way to the next item.
    Stream stream = Open("takes", {}, {.window = 1});
    ASSERT_TRUE(Write(stream, "texts", "one").ok());
    ASSERT_TRUE(Write(stream, "texts", "two").ok());
    stream.Cancel();
  }
  EXPECT_TRUE(WaitFor([&] { return ModelLogHas("CallEnded"); })) << seen_;
}

}  // namespace
}  // namespace baton::testing
