// A real server for tests: the supervisor's program in a process of its own, with a run directory
// of its own, so that tests neither meet each other nor the user's servers.
#ifndef BATON_TESTS_SYSTEM_TEST_SERVER_H_
#define BATON_TESTS_SYSTEM_TEST_SERVER_H_

#include <sys/types.h>

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "baton/front.h"
#include "ipc/process.h"
#include "ipc/schema/control.capnp.h"

namespace baton::testing {

// Looks until `condition` holds, or a minute (more under a sanitizer) has
// passed; false then.
bool WaitFor(const std::function<bool()>& condition, absl::Duration timeout = absl::Minutes(1));

// A directory that goes with its object.
class TempDirectory {
 public:
  TempDirectory();
  ~TempDirectory();
  TempDirectory(const TempDirectory&) = delete;
  TempDirectory& operator=(const TempDirectory&) = delete;
  const std::string& path() const { return path_; }
  // Writes path()/name, directories included; returns its path.
  std::string Write(const std::string& name, const std::string& content) const;

 private:
  std::string path_;
};

struct TestServerOptions {
  std::string directory = {};  // model directory
  std::string name = "test";
  std::string run_directory = {};
  std::string secrets_directory = {};
  std::vector<std::string> extra_args = {};
  std::map<std::string, std::string> env = {};  // added to this process's
};

class TestServer {
 public:
  // Starts it and waits until it is ready. The error is what the server said.
  static absl::StatusOr<std::unique_ptr<TestServer>> Start(const TestServerOptions& options);
  ~TestServer();

  pid_t pid() const { return process_.pid(); }
  const TestServerOptions& options() const { return options_; }
  ipc::ChildProcess& process() { return process_; }
  // Everything that it and its workers wrote to stderr so far.
  std::string Log() const;
  std::string log_path() const { return log_path_; }

  absl::StatusOr<std::unique_ptr<Front>> Attach(FrontOptions options = {}) const;
  // SIGTERM, then waits for the end.
  absl::StatusOr<ipc::ExitStatus> Stop();

  // Its children that are called baton-worker.
  std::vector<pid_t> Workers() const;
  // The worker of that generation; 0: there is none (any more).
  pid_t WorkerOf(uint64_t generation) const;
  // The lines of its receipts file.
  std::vector<std::string> Receipts() const;

 private:
  TestServer() = default;
  TestServerOptions options_;
  std::string log_path_;
  ipc::ChildProcess process_;
};

// Live processes (no zombies) whose environment has BATON_TEST_MARK=`mark`: what a test started,
// however deep.
std::vector<pid_t> MarkedProcesses(const std::string& mark);
// Zombie children of this process.
int Zombies();
std::vector<pid_t> ZombiesOf(pid_t parent);
// As /proc has it: 'R', 'S', 'T' (stopped), 'Z', ...; 0: there is no such process.
char ProcessState(pid_t pid);
inline bool IsStopped(pid_t pid) { return ProcessState(pid) == 'T'; }
// Names under /dev/shm that are Baton's.
std::vector<std::string> SharedMemoryNames();
// Those that one of these processes has made.
std::vector<std::string> SharedMemoryNamesOf(const std::vector<pid_t>& makers);
int OpenDescriptors(pid_t pid);

// Writes a model directory for the probe model (tests/models), with these `native.options`, one
// "key: value" each, and these further lines of config.yaml; returns its path.
std::string ProbeModel(const TempDirectory& temp, const std::vector<std::string>& options,
                       const std::string& config = "");

}  // namespace baton::testing

#endif  // BATON_TESTS_SYSTEM_TEST_SERVER_H_
