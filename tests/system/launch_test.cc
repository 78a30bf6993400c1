// A private server: starts with the front, ends with it, and reads real digits in between.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <string>

#include "absl/strings/str_cat.h"

#include "tests/system/test_server.h"
#include "tools/examples/digits/heldout.h"

namespace baton::testing {
namespace {

std::string DigitsDirectory() {
  const char* source = std::getenv("BATON_SOURCE_DIR");
  return absl::StrCat(source == nullptr ? "." : source, "/loader/models/digits");
}

class LaunchTest : public ::testing::Test {
 protected:
  LaunchTest() {
    // What is started inherits this process's environment, the mark too.
    ::setenv("BATON_TEST_MARK", temp_.path().c_str(), 1);
    ::mkdir((temp_.path() + "/run").c_str(), 0700);
  }
  LaunchOptions Options(const std::string& directory) {
    LaunchOptions options;
    options.directory = directory;
    options.front.run_directory = temp_.path() + "/run";
    return options;
  }
  TempDirectory temp_;
};

// The whole path, shared memory included: at least 0.97 of the images that training never saw.
TEST_F(LaunchTest, DigitsThroughTheRing) {
  absl::StatusOr<std::unique_ptr<Front>> front = Front::Launch(Options(DigitsDirectory()));
  ASSERT_TRUE(front.ok()) << front.status();
  const absl::StatusOr<examples::Heldout> heldout = examples::ReadHeldout(DigitsDirectory());
  ASSERT_TRUE(heldout.ok()) << heldout.status();
  EXPECT_GE(heldout->labels.size(), 300u);
  for (const int64_t batch : {1, 16, 360}) {
    const absl::StatusOr<examples::Score> score = examples::Classify(**front, *heldout, batch);
    ASSERT_TRUE(score.ok()) << score.status();
    EXPECT_EQ(score->images, heldout->labels.size());
    EXPECT_GE(score->accuracy(), 0.97);
    EXPECT_EQ(score->generation, 1u);
  }
}

TEST_F(LaunchTest, ServerEndsWithItsFront) {
  absl::StatusOr<std::unique_ptr<Front>> front = Front::Launch(Options(DigitsDirectory()));
  ASSERT_TRUE(front.ok()) << front.status();
  EXPECT_EQ((*front)->state(), "SERVING");
  EXPECT_EQ(MarkedProcesses(temp_.path()).size(), 3u);  // supervisor, worker, confirmation helper
  front->reset();
  EXPECT_TRUE(WaitFor([&] { return MarkedProcesses(temp_.path()).empty(); }));
}

// What outlives the server tells so, and stays readable.
TEST_F(LaunchTest, LeasesAndChannelsOutliveTheFront) {
  absl::StatusOr<std::unique_ptr<Front>> front = Front::Launch(Options(DigitsDirectory()));
  ASSERT_TRUE(front.ok()) << front.status();
  absl::StatusOr<Channel> channel = (*front)->OpenChannel();
  ASSERT_TRUE(channel.ok()) << channel.status();
  absl::StatusOr<Request> request = channel->NewRequest({{"pixels", DType::kFloat32, {1, 64}}});
  ASSERT_TRUE(request.ok()) << request.status();
  absl::StatusOr<Response> response = channel->Call(*std::move(request));
  ASSERT_TRUE(response.ok()) << response.status();
  const float before = response->output<float>("scores")[0];
  front->reset();
  EXPECT_EQ(response->output<float>("scores")[0], before);
  absl::Status status;
  EXPECT_TRUE(WaitFor([&] {
    absl::StatusOr<Request> next = channel->NewRequest({{"pixels", DType::kFloat32, {1, 64}}});
    if (!next.ok()) {
      status = next.status();
    } else {
      status = channel->Call(*std::move(next), {.timeout = absl::Seconds(5)}).status();
    }
    return absl::IsUnavailable(status);
  })) << status;
}

TEST_F(LaunchTest, SaysWhyAModelCannotBeServed) {
  const absl::StatusOr<std::unique_ptr<Front>> front =
      Front::Launch(Options(temp_.path() + "/no-such-model"));
  ASSERT_FALSE(front.ok());
  EXPECT_THAT(std::string(front.status().message()), ::testing::HasSubstr("no-such-model"));
  EXPECT_TRUE(WaitFor([&] { return MarkedProcesses(temp_.path()).empty(); }));
}

TEST_F(LaunchTest, LooksForItsProgramsAndSaysWhere) {
  LaunchOptions options = Options(DigitsDirectory());
  options.supervisor_executable = temp_.path() + "/baton-supervisor";
  const absl::StatusOr<std::unique_ptr<Front>> front = Front::Launch(options);
  EXPECT_TRUE(absl::IsNotFound(front.status())) << front.status();
}

}  // namespace
}  // namespace baton::testing
