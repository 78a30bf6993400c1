#include "tests/tools/shmctl/shmctl_process.h"

#include <fcntl.h>
#include <unistd.h>

#include <fstream>
#include <sstream>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"

#include "runtime/executable_path.h"

extern char** environ;

namespace baton::testing {
namespace {

std::string ReadAll(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

ipc::UniqueFd OpenLog(const std::string& path) {
  return ipc::UniqueFd(
      ::open(path.c_str(), O_CREAT | O_TRUNC | O_APPEND | O_WRONLY | O_CLOEXEC, 0600));
}

}  // namespace

ShmctlProcess ShmctlProcess::Start(const std::string& path, const std::vector<std::string>& args,
                                   const std::vector<std::string>& env,
                                   const std::string& out_path) {
  ShmctlProcess shmctl;
  shmctl.path_ = path;
  const ipc::UniqueFd out = OpenLog(out_path.empty() ? path + ".out" : out_path);
  const ipc::UniqueFd err = OpenLog(shmctl.path_ + ".err");
  const absl::StatusOr<std::string> program = runtime::FindExecutable("shmctl");
  EXPECT_TRUE(program.ok()) << program.status();
  if (!program.ok()) return shmctl;
  std::vector<std::string> whole_env(env);
  for (char** entry = environ; *entry != nullptr; ++entry) whole_env.emplace_back(*entry);
  absl::StatusOr<ipc::ChildProcess> process =
      ipc::SpawnProcess({.executable = *program,
                         .args = args,
                         .env = whole_env,
                         .fds = {{out.get(), 1}, {err.get(), 2}}});
  EXPECT_TRUE(process.ok()) << process.status();
  if (process.ok()) shmctl.process_ = *std::move(process);
  return shmctl;
}

std::string ShmctlProcess::Out() const { return ReadAll(path_ + ".out"); }
std::string ShmctlProcess::Err() const { return ReadAll(path_ + ".err"); }

ShmctlResult ShmctlProcess::Wait() {
  const absl::StatusOr<ipc::ExitStatus> ended = process_.Reap(absl::Minutes(4));
  EXPECT_TRUE(ended.ok()) << ended.status() << "\n" << Err();
  ShmctlResult result{.exit_code = -1, .out = Out(), .err = Err()};
  if (ended.ok() && ended->kind == ipc::ExitStatus::Kind::kExited) result.exit_code = ended->value;
  return result;
}

ShmctlTest::ShmctlTest() : mark_(absl::StrCat("shmctl-", ::getpid(), "-", temp_.path())) {}

ShmctlProcess ShmctlTest::Begin(std::vector<std::string> args, const std::string& out_path) {
  args.insert(args.end(), {"--run-directory", run_directory_});
  return ShmctlProcess::Start(absl::StrCat(temp_.path(), "/shmctl-", ++started_), args,
                              {absl::StrCat("BATON_TEST_MARK=", mark_)}, out_path);
}

ShmctlResult ShmctlTest::RunInto(const std::string& out_path, std::vector<std::string> args) {
  return Begin(std::move(args), out_path).Wait();
}

ShmctlResult ShmctlTest::Run(std::vector<std::string> args) {
  return Begin(std::move(args)).Wait();
}

ShmctlProcess ShmctlTest::Serve(const std::vector<std::string>& options, const std::string& name,
                                const std::vector<std::string>& args, const std::string& config) {
  std::vector<std::string> all = {"serve", ProbeModel(temp_, options, config), "--name", name};
  all.insert(all.end(), args.begin(), args.end());
  ShmctlProcess server = Begin(all);
  EXPECT_TRUE(WaitUntilReady(server)) << server.Err();
  return server;
}

bool ShmctlTest::WaitUntilReady(ShmctlProcess& server) {
  const auto ready = [&] { return absl::StrContains(server.Out(), "\n"); };
  const auto ended = [&] {
    const auto status = server.process().TryReap();
    return !status.ok() || status->has_value();
  };
  return WaitFor([&] { return ready() || ended(); }) && ready();
}

std::vector<pid_t> ShmctlTest::Workers() const {
  std::vector<pid_t> workers;
  for (const pid_t pid : MarkedProcesses(mark_)) {
    if (ReadAll(absl::StrCat("/proc/", pid, "/comm")) == "baton-worker\n") workers.push_back(pid);
  }
  return workers;
}

}  // namespace baton::testing
