// Python models in real workers: what a worker's life, a reload and a loss are to them. What a
// model can do is in tests/loader/python.
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "tests/system/python_system_test.h"

namespace baton::testing {
namespace {

namespace fs = std::filesystem;

class PythonSystemTest : public PythonSystemTestBase {
 protected:
  void ServePython(const std::string& config = "") {
    options_.env["CLEANUP_FILE"] = cleanup_file_;
    PythonSystemTestBase::ServePython("served", config);
  }

  absl::StatusOr<std::string> Try(const std::string& text,
                                  absl::Duration timeout = absl::Minutes(1)) {
    absl::StatusOr<Request> request = channel_->NewRequest({TextSpec("text", text)});
    if (!request.ok()) return request.status();
    Fill(*request, "text", text);
    absl::StatusOr<Response> response = channel_->Call(*std::move(request), {.timeout = timeout});
    if (!response.ok()) return response.status();
    return TextOf(*response);
  }
  std::string Ask(const std::string& text) {
    absl::StatusOr<std::string> answer = Try(text);
    return answer.ok() ? *answer : answer.status().ToString();
  }

  std::vector<std::string> Cleanups() const {
    std::vector<std::string> lines;
    std::ifstream file(cleanup_file_);
    for (std::string line; std::getline(file, line);) lines.push_back(line);
    return lines;
  }
  bool LogHas(const std::string& text) const { return absl::StrContains(server_->Log(), text); }

  const std::string cleanup_file_ = temp_.path() + "/cleanups";
};

TEST_F(PythonSystemTest, A1ServesADirectoryWithNothingButModelPy) {
  ServePython();
  EXPECT_EQ(Ask("echo grüße"), "grüße");
  EXPECT_EQ(Ask("echo "), "");
  // Larger than what is loaned for it: asked for again, with enough.
  EXPECT_EQ(Ask("big 300000").size(), 300000u);
  EXPECT_EQ(Ask("bigs"), "1");
  const absl::Status status = Try("nothing").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnknown);
  EXPECT_TRUE(absl::StrContains(status.message(), "AttributeError")) << status;
  EXPECT_TRUE(absl::StrContains(status.message(), "Traceback")) << status;
  EXPECT_TRUE(absl::StrContains(Try("exit 3").status().message(), "SystemExit: 3"));
  EXPECT_EQ(Ask("echo on"), "on");
  EXPECT_EQ(Generation(), 1u);
}

TEST_F(PythonSystemTest, A12A18A23SecretsBeforeTheImportAndOneCleanupEach) {
  SetSecret("APP_KEY", "first-key");
  ServePython("loader: python\n");
  EXPECT_EQ(Ask("keys"), "first-key first-key first-key 1");
  SetSecret("APP_KEY", "second-key");
  ASSERT_TRUE(WaitForGeneration(2));
  EXPECT_EQ(Ask("keys"), "second-key second-key second-key 1");
  EXPECT_EQ(Cleanups(), std::vector<std::string>{"first-key"});
  SetSecret("APP_KEY", "");  // deleted
  ASSERT_TRUE(WaitForGeneration(3));
  EXPECT_EQ(Ask("keys"), "none none none 1");
  EXPECT_TRUE(server_->Stop().ok());
  EXPECT_EQ(Cleanups(), (std::vector<std::string>{"first-key", "second-key", "none"}));
}

// A call that has a thread of its own was taken: it counts as started.
TEST_F(PythonSystemTest, AKillWhileACallHasAThreadAbortsItAndTheNextServes) {
  options_.env["BATON_CRASH_AT"] = "worker.call_started@1";
  ServePython("num_threads: 2\n");
  const absl::Status status = Try("echo x").status();
  EXPECT_TRUE(absl::IsAborted(status)) << status;
  EXPECT_EQ(Ask("echo y"), "y");
  EXPECT_TRUE(WaitForGeneration(2));
}

TEST_F(PythonSystemTest, A16WhatAModelPrintsHasNoSecret) {
  SetSecret("APP_KEY", "sword-fish");
  ServePython();
  EXPECT_EQ(Ask("print the sword-fish of model"), "");
  EXPECT_TRUE(WaitFor([&] { return LogHas("python model 'model': printed: the *** of model"); }))
      << server_->Log();
  // Nor has what goes past Python.
  EXPECT_TRUE(WaitFor([&] { return LogHas("\nwritten: the *** of model\n"); })) << server_->Log();
  EXPECT_EQ(Ask("print plain"), "");
  EXPECT_TRUE(WaitFor([&] { return LogHas("\nwritten: plain\n"); })) << server_->Log();
  EXPECT_FALSE(LogHas("sword-fish")) << server_->Log();
}

TEST_F(PythonSystemTest, A19AModelThatFailsKeepsTheOneBefore) {
  SetSecret("APP_KEY", "good");
  ServePython();
  SetSecret("APP_KEY", "bad");
  ASSERT_TRUE(WaitForReceipts(1));
  EXPECT_EQ(Ask("keys"), "good good good 1");
  EXPECT_EQ(Generation(), 1u);
  EXPECT_TRUE(LogHas("ValueError: this key does not work")) << server_->Log();
}

TEST_F(PythonSystemTest, A23ACleanupThatRaisesOrHangsBlocksNothing) {
  for (const char* how : {"raises", "hangs"}) {
    fs::remove_all(options_.directory);
    fs::remove(cleanup_file_);
    options_.env["CLEANUP"] = how;
    SetSecret("APP_KEY", absl::StrCat(how, "-first"));
    ServePython("reload: {cleanup_timeout: 200ms}\n");
    SetSecret("APP_KEY", absl::StrCat(how, "-second"));
    ASSERT_TRUE(WaitForGeneration(2)) << how;
    EXPECT_EQ(Ask("echo on"), "on");
    EXPECT_EQ(Cleanups(), std::vector<std::string>{absl::StrCat(how, "-first")});
    channel_.reset();
    front_.reset();
    EXPECT_TRUE(server_->Stop().ok());
  }
}

TEST_F(PythonSystemTest, A31ASegfaultFailsItsRequestAndTheWorkerIsReplaced) {
  ServePython();
  const absl::Status status = Try("segfault").status();
  EXPECT_TRUE(absl::IsAborted(status)) << status;
  EXPECT_EQ(Ask("echo on"), "on");
  EXPECT_TRUE(WaitForGeneration(2));  // said after it was told to serve
  // Its last words were read after its death.
  EXPECT_TRUE(LogHas("Fatal Python error: Segmentation fault")) << server_->Log();
}

TEST_F(PythonSystemTest, A31A32OneThatNeverReturnsIsReplaced) {
  options_.extra_args = {"--wedge-grace", "0.3"};
  ServePython("reload: {cleanup_timeout: 200ms, drain_timeout: 200ms}\n");
  const absl::Status status = Try("hang", absl::Milliseconds(100)).status();
  EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
  ASSERT_TRUE(WaitForGeneration(2)) << server_->Log();
  EXPECT_EQ(Ask("echo on"), "on");
}

TEST_F(PythonSystemTest, ASlowImportIsWaitedFor) {
  options_.env["SLOW_IMPORT"] = "3";
  ServePython();
  EXPECT_EQ(Ask("echo on"), "on");
}

}  // namespace
}  // namespace baton::testing
