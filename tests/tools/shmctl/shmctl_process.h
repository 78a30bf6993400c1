// shmctl as a user runs it: a process, its exit code, and what it printed.
#ifndef BATON_TESTS_TOOLS_SHMCTL_SHMCTL_PROCESS_H_
#define BATON_TESTS_TOOLS_SHMCTL_SHMCTL_PROCESS_H_

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "ipc/process.h"
#include "tests/system/test_server.h"

namespace baton::testing {

struct ShmctlResult {
  int exit_code = -1;  // -1: killed by a signal
  std::string out;
  std::string err;
};

// One that runs. It is killed when this goes.
class ShmctlProcess {
 public:
  ShmctlProcess() = default;
  // What it prints goes to `path`.out and `path`.err; `env` is set beside what this test has.
  static ShmctlProcess Start(const std::string& path, const std::vector<std::string>& args,
                             const std::vector<std::string>& env, const std::string& out_path = "");

  std::string Out() const;
  std::string Err() const;
  ipc::ChildProcess& process() { return process_; }
  // Waits for its end.
  ShmctlResult Wait();

 private:
  std::string path_;
  ipc::ChildProcess process_;
};

// A run directory, and servers in it that `shmctl serve` runs.
class ShmctlTest : public ::testing::Test {
 protected:
  ShmctlTest();

  // Runs a command to its end. --run-directory is added.
  ShmctlResult Run(std::vector<std::string> args);
  ShmctlProcess Begin(std::vector<std::string> args, const std::string& out_path = "");
  // The same with standard output somewhere else.
  ShmctlResult RunInto(const std::string& out_path, std::vector<std::string> args);

  // Serves the probe model (tests/models) with these native.options, and waits until it is ready;
  // `config` are further lines of config.yaml, `args` of the command line.
  ShmctlProcess Serve(const std::vector<std::string>& options, const std::string& name = "probe",
                      const std::vector<std::string>& args = {}, const std::string& config = "");
  static bool WaitUntilReady(ShmctlProcess& server);

  // Of the processes that this test started, those called baton-worker.
  std::vector<pid_t> Workers() const;

  TempDirectory temp_;
  const std::string run_directory_ = temp_.path() + "/run";
  const std::string mark_;  // of whatever this test starts

 private:
  int started_ = 0;
};

}  // namespace baton::testing

#endif  // BATON_TESTS_TOOLS_SHMCTL_SHMCTL_PROCESS_H_
