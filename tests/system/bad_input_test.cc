// Bad input of every kind: a clear status, and a server that goes on serving.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"

#include "tests/system/system_test_base.h"

namespace baton::testing {
namespace {

using ::testing::HasSubstr;

class BadInputTest : public SystemTest {
 protected:
  void SetUp() override { Serve({"behaviour: echo"}); }

  Channel Open(const ChannelOptions& options = {}) {
    absl::StatusOr<Channel> channel = front_->OpenChannel(options);
    EXPECT_TRUE(channel.ok()) << channel.status();
    return *std::move(channel);
  }
  void ExpectStillServing() {
    Channel channel = Open();
    absl::StatusOr<Request> request = channel.NewRequest({{"data", DType::kUInt8, {3}}});
    ASSERT_TRUE(request.ok()) << request.status();
    absl::StatusOr<Response> response = channel.Call(*std::move(request));
    EXPECT_TRUE(response.ok()) << response.status();
    EXPECT_EQ(response->generation(), 1u);
  }
};

TEST_F(BadInputTest, WrongDtypeShapeAndName) {
  Channel channel = Open();
  const std::pair<TensorSpec, const char*> cases[] = {
      {{"data", DType::kFloat32, {3}}, "uint8"},
      {{"data", DType::kUInt8, {3, 3}}, "the model takes data: uint8[?]"},
      {{"image", DType::kUInt8, {3}}, "no such tensor"},
      {{"data", DType::kUInt8, {-1}}, "every dimension"},
      {{"data", DType::kInvalid, {3}}, "dtype"},
  };
  for (const auto& [spec, expected] : cases) {
    const absl::StatusOr<Request> request = channel.NewRequest({spec});
    EXPECT_TRUE(absl::IsInvalidArgument(request.status())) << request.status();
    EXPECT_THAT(std::string(request.status().message()), HasSubstr(expected));
  }
  const absl::StatusOr<Request> none = channel.NewRequest(std::initializer_list<TensorSpec>{});
  EXPECT_THAT(std::string(none.status().message()), HasSubstr("'data' is missing"));
  ExpectStillServing();
}

TEST_F(BadInputTest, RequestLargerThanTheArena) {
  Channel channel = Open({.request_arena_bytes = 1 << 20});
  const absl::StatusOr<Request> request =
      channel.NewRequest({{"data", DType::kUInt8, {(1 << 20) + 1}}});
  EXPECT_TRUE(absl::IsInvalidArgument(request.status())) << request.status();
  EXPECT_THAT(std::string(request.status().message()), HasSubstr("request_arena_bytes"));
  ExpectStillServing();
}

TEST_F(BadInputTest, ResultLargerThanTheArena) {
  Channel channel = Open({.request_arena_bytes = 4 << 20, .response_arena_bytes = 1 << 20});
  absl::StatusOr<Request> request = channel.NewRequest({{"data", DType::kUInt8, {2 << 20}}});
  ASSERT_TRUE(request.ok()) << request.status();
  const absl::StatusOr<Response> response = channel.Call(*std::move(request));
  EXPECT_TRUE(absl::IsResourceExhausted(response.status())) << response.status();
  EXPECT_THAT(std::string(response.status().message()), HasSubstr("response_arena_bytes"));
  ExpectStillServing();
}

// A28, R10: a full ring rejects at once, and loses nothing.
TEST_F(BadInputTest, FullRingRejectsAtOnce) {
  front_.reset();
  server_.reset();
  options_.name = "slow";
  Serve({"behaviour: slow", "ms: 50"});
  Channel channel = Open({.ring_entries = 4});
  for (int i = 0; i < 4; ++i) {
    absl::StatusOr<Request> request = channel.NewRequest({{"data", DType::kUInt8, {1}}});
    ASSERT_TRUE(request.ok()) << request.status();
    ASSERT_TRUE(channel.Submit(*std::move(request)).ok());
  }
  absl::StatusOr<Request> fifth = channel.NewRequest({{"data", DType::kUInt8, {1}}});
  ASSERT_TRUE(fifth.ok()) << fifth.status();
  Request request = *std::move(fifth);
  const absl::StatusOr<Ticket> refused = channel.Submit(std::move(request));
  EXPECT_TRUE(absl::IsResourceExhausted(refused.status())) << refused.status();
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("ring is full"));
  EXPECT_TRUE(request.valid()) << "a refused request is still the caller's";
  for (int i = 0; i < 4; ++i) {
    std::optional<Outcome> outcome = channel.Wait(absl::Minutes(1));
    ASSERT_TRUE(outcome.has_value());
    EXPECT_TRUE(outcome->response.ok()) << outcome->response.status();
  }
  EXPECT_TRUE(channel.Call(std::move(request)).ok());
}

TEST_F(BadInputTest, NameThatIsServedAlready) {
  const absl::StatusOr<std::unique_ptr<TestServer>> second = TestServer::Start(options_);
  ASSERT_FALSE(second.ok());
  EXPECT_THAT(std::string(second.status().message()), HasSubstr("already"));
  EXPECT_THAT(std::string(second.status().message()), HasSubstr(absl::StrCat(server_->pid())));
  ExpectStillServing();
}

TEST_F(BadInputTest, NoServerOfThatName) {
  const absl::StatusOr<std::unique_ptr<Front>> none =
      Front::Attach("nobody", {.run_directory = options_.run_directory});
  EXPECT_TRUE(absl::IsNotFound(none.status())) << none.status();
  EXPECT_THAT(std::string(none.status().message()), HasSubstr("test"));  // the one there is
}

// What cannot be served ends with a message and leaves nothing behind.
class BadModelTest : public SystemTest {
 protected:
  std::string StartError(const std::string& config) {
    TempDirectory model;
    model.Write("config.yaml", config);
    for (const auto& [name, content] : files_) model.Write(name, content);
    options_.directory = model.path();
    options_.env["BATON_TEST_MARK"] = temp_.path();
    const absl::StatusOr<std::unique_ptr<TestServer>> server = TestServer::Start(options_);
    EXPECT_FALSE(server.ok()) << "a bad model was served";
    EXPECT_TRUE(WaitFor([&] { return MarkedProcesses(temp_.path()).empty(); }));
    return std::string(server.status().message());
  }
  std::map<std::string, std::string> files_;
};

TEST_F(BadModelTest, UnknownLoader) {
  const std::string error = StartError("name: m\nloader: tensorflow\nfile: x\n");
  EXPECT_THAT(error, HasSubstr("tensorflow"));
  EXPECT_THAT(error, HasSubstr("native"));
}

TEST_F(BadModelTest, TypoInTheConfig) {
  const std::string error = StartError("name: m\nloader: dense\nfiel: weights.safetensors\n");
  EXPECT_THAT(error, HasSubstr("config.yaml:3"));
  EXPECT_THAT(error, HasSubstr("fiel"));
}

TEST_F(BadModelTest, MissingWeights) {
  const std::string error = StartError("name: m\nloader: dense\nfile: weights.safetensors\n");
  EXPECT_THAT(error, HasSubstr("weights.safetensors"));
}

TEST_F(BadModelTest, CorruptWeights) {
  files_["weights.safetensors"] = "this is no safetensors file, whatever its name says";
  const std::string error = StartError("name: m\nloader: dense\nfile: weights.safetensors\n");
  EXPECT_THAT(error, HasSubstr("weights.safetensors"));
}

TEST_F(BadModelTest, NoSuchDirectory) {
  options_.directory = temp_.path() + "/nowhere";
  const absl::StatusOr<std::unique_ptr<TestServer>> server = TestServer::Start(options_);
  EXPECT_THAT(std::string(server.status().message()), HasSubstr("nowhere"));
}

// R7: a /dev/shm that is too small is an error at open, not a SIGBUS later; the memfd backing does
// not mind. In a mount namespace of one thread, and of the threads it starts: a forked child would
// have the front's thread's locks as they were, those of a sanitizer's allocator among them.
TEST_F(BadInputTest, SharedMemoryThatIsTooSmall) {
  bool may_mount = false;
  std::thread([&] {
    may_mount = ::unshare(CLONE_NEWNS) == 0 &&
                ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
                ::mount("tmpfs", "/dev/shm", "tmpfs", 0, "size=1m") == 0;
    if (!may_mount) return;
    const absl::StatusOr<std::unique_ptr<Front>> front = server_->Attach();
    ASSERT_TRUE(front.ok()) << front.status();
    const absl::StatusOr<Channel> refused = (*front)->OpenChannel();
    EXPECT_TRUE(absl::IsResourceExhausted(refused.status())) << refused.status();
    EXPECT_THAT(std::string(refused.status().message()), HasSubstr("/dev/shm"));
    absl::StatusOr<Channel> channel =
        (*front)->OpenChannel({.backing = ChannelOptions::Backing::kMemfd});
    ASSERT_TRUE(channel.ok()) << channel.status();
    absl::StatusOr<Request> request = channel->NewRequest({{"data", DType::kUInt8, {3}}});
    ASSERT_TRUE(request.ok()) << request.status();
    EXPECT_TRUE(channel->Call(*std::move(request)).ok());
  }).join();
  if (!may_mount) GTEST_SKIP() << "this user may not mount a tmpfs";
  ExpectStillServing();
}

}  // namespace
}  // namespace baton::testing
