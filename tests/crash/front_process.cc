#include "tests/crash/front_process.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "tests/system/device_under_test.h"

namespace baton::testing {

FrontProcess::FrontProcess(const TempDirectory& temp, const std::string& run_directory,
                           const std::string& mark, int number,
                           const std::map<std::string, std::string>& env, const FrontLoad& load) {
  const std::string file = temp.Write(absl::StrCat("tally-", number), std::string(4096, '\0'));
  const int fd = ::open(file.c_str(), O_RDWR | O_CLOEXEC);
  tally_ = static_cast<FrontTally*>(
      ::mmap(nullptr, sizeof(FrontTally), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
  ::close(fd);
  std::vector<std::string> environment = {absl::StrCat("BATON_TEST_MARK=", mark)};
  for (const auto& [name, value] : DeviceEnvironment()) {
    environment.push_back(absl::StrCat(name, "=", value));
  }
  for (const auto& [name, value] : env) environment.push_back(absl::StrCat(name, "=", value));
  std::vector<std::string> args = {run_directory, "test", file, absl::StrCat(load.in_flight)};
  if (load.timeout != absl::InfiniteDuration()) {
    args.push_back(absl::StrCat(absl::ToInt64Milliseconds(load.timeout)));
  }
  absl::StatusOr<ipc::ChildProcess> process =
      ipc::SpawnProcess({.executable = BATON_LOADED_FRONT, .args = args, .env = environment});
  if (process.ok()) process_ = *std::move(process);
}

FrontProcess::~FrontProcess() { ::munmap(tally_, sizeof(FrontTally)); }

bool FrontProcess::Progress(uint64_t more) {
  const uint64_t goal = tally_->answered.load() + more;
  return WaitFor([&] { return tally_->answered.load() >= goal; });
}

absl::StatusOr<ipc::ExitStatus> FrontProcess::Finish() {
  tally_->stop.store(1);
  return process_.Reap(absl::Minutes(2));
}

}  // namespace baton::testing
