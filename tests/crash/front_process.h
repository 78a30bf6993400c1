// A front under load in a process of its own, and what it has seen.
#ifndef BATON_TESTS_CRASH_FRONT_PROCESS_H_
#define BATON_TESTS_CRASH_FRONT_PROCESS_H_

#include <cstdint>
#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "ipc/process.h"
#include "tests/crash/loaded_front.h"
#include "tests/system/test_server.h"

namespace baton::testing {

struct FrontLoad {
  int in_flight = 8;
  // Of each request. A short one: requests may expire, and a full ring or a server that says that
  // it has no time is no error.
  absl::Duration timeout = absl::InfiniteDuration();
};

class FrontProcess {
 public:
  // `number` tells the fronts of one test apart. `env` is all that it has beside the mark.
  FrontProcess(const TempDirectory& temp, const std::string& run_directory, const std::string& mark,
               int number, const std::map<std::string, std::string>& env = {},
               const FrontLoad& load = {});
  ~FrontProcess();
  FrontProcess(const FrontProcess&) = delete;
  FrontProcess& operator=(const FrontProcess&) = delete;

  FrontTally& tally() { return *tally_; }
  ipc::ChildProcess& process() { return process_; }
  pid_t pid() const { return process_.pid(); }
  // Has it answer `more` requests than it has now.
  bool Progress(uint64_t more);
  absl::StatusOr<ipc::ExitStatus> Finish();

 private:
  FrontTally* tally_ = nullptr;
  ipc::ChildProcess process_;
};

}  // namespace baton::testing

#endif  // BATON_TESTS_CRASH_FRONT_PROCESS_H_
