#include "tests/system/test_server.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

#include "runtime/executable_path.h"
#include "tests/system/device_under_test.h"

extern char** environ;

namespace baton::testing {
namespace {

namespace fs = std::filesystem;

std::string ReadFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

std::vector<pid_t> AllPids() {
  std::vector<pid_t> pids;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator("/proc", error)) {
    const std::string name = entry.path().filename();
    if (name.find_first_not_of("0123456789") == std::string::npos) {
      pids.push_back(std::atoi(name.c_str()));
    }
  }
  return pids;
}

struct ProcessStat {
  std::string name;
  char state = 0;
  pid_t parent = 0;
};

std::optional<ProcessStat> StatOf(pid_t pid) {
  const std::string text = ReadFile(absl::StrCat("/proc/", pid, "/stat"));
  const size_t open = text.find('(');
  const size_t close = text.rfind(')');
  if (open == std::string::npos || close == std::string::npos || close + 4 >= text.size()) {
    return std::nullopt;
  }
  return ProcessStat{.name = text.substr(open + 1, close - open - 1),
                     .state = text[close + 2],
                     .parent = std::atoi(text.c_str() + close + 4)};
}

}  // namespace

bool WaitFor(const std::function<bool()>& condition, absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + timeout;
  while (!condition()) {
    if (absl::Now() > deadline) return condition();
    ::poll(nullptr, 0, 1);
  }
  return true;
}

TempDirectory::TempDirectory() {
  std::string pattern = fs::temp_directory_path() / "baton-test-XXXXXX";
  if (::mkdtemp(pattern.data()) != nullptr) path_ = pattern;
}

TempDirectory::~TempDirectory() {
  std::error_code ignored;
  if (!path_.empty()) fs::remove_all(path_, ignored);
}

std::string TempDirectory::Write(const std::string& name, const std::string& content) const {
  const fs::path path = fs::path(path_) / name;
  fs::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << content;
  return path;
}

absl::StatusOr<std::unique_ptr<TestServer>> TestServer::Start(const TestServerOptions& options) {
  std::unique_ptr<TestServer> server(new TestServer());
  server->options_ = options;
  server->log_path_ = absl::StrCat(options.run_directory, "/", options.name, ".log");
  ipc::UniqueFd log(
      ::open(server->log_path_.c_str(), O_CREAT | O_APPEND | O_WRONLY | O_CLOEXEC, 0600));
  int ready[2];
  if (!log || ::pipe2(ready, O_CLOEXEC) != 0)
    return absl::InternalError("cannot make a log or pipe");
  ipc::UniqueFd ready_read(ready[0]);
  ipc::UniqueFd ready_write(ready[1]);
  absl::StatusOr<std::string> program = runtime::FindExecutable("baton-supervisor");
  if (!program.ok()) return program.status();
  std::vector<std::string> args = {
      options.directory,     "--name",     options.name, "--run-directory",
      options.run_directory, "--ready-fd", "4"};
  if (!options.secrets_directory.empty()) {
    args.insert(args.end(), {"--secrets", options.secrets_directory});
  }
  args.insert(args.end(), options.extra_args.begin(), options.extra_args.end());
  std::vector<std::string> env;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string text(*entry);
    if (!options.env.contains(text.substr(0, text.find('=')))) env.push_back(text);
  }
  for (const auto& [name, value] : options.env) env.push_back(absl::StrCat(name, "=", value));
  absl::StatusOr<ipc::ChildProcess> process =
      ipc::SpawnProcess({.executable = *program,
                         .args = args,
                         .env = env,
                         .fds = {{log.get(), 2}, {ready_write.get(), 4}}});
  if (!process.ok()) return process.status();
  server->process_ = *std::move(process);
  ready_write.reset();
  std::string said;
  char buffer[4096];
  for (ssize_t got; (got = ::read(ready_read.get(), buffer, sizeof(buffer))) > 0;) {
    said.append(buffer, static_cast<size_t>(got));
    if (absl::StartsWith(said, "ready")) return server;
  }
  static_cast<void>(server->process_.Reap(absl::Seconds(30)));
  return absl::FailedPreconditionError(said.empty() ? server->Log() : said);
}

TestServer::~TestServer() {
  if (process_.running()) static_cast<void>(Stop());
}

std::string TestServer::Log() const { return ReadFile(log_path_); }

absl::StatusOr<std::unique_ptr<Front>> TestServer::Attach(FrontOptions options) const {
  options.run_directory = options_.run_directory;
  // A busy machine is no server that does not answer.
  if (options.connect_timeout == FrontOptions().connect_timeout) {
    options.connect_timeout = absl::Minutes(1);
  }
  return Front::Attach(options_.name, options);
}

absl::StatusOr<ipc::ExitStatus> TestServer::Stop() {
  static_cast<void>(process_.Kill(SIGTERM));
  return process_.Reap(absl::Minutes(1));
}

std::vector<pid_t> TestServer::Workers() const {
  std::vector<pid_t> workers;
  for (const pid_t pid : AllPids()) {
    const std::optional<ProcessStat> stat = StatOf(pid);
    if (stat && stat->parent == process_.pid() && stat->state != 'Z' &&
        absl::StartsWith(stat->name, "baton-worker")) {
      workers.push_back(pid);
    }
  }
  return workers;
}

pid_t TestServer::WorkerOf(uint64_t generation) const {
  const std::string wanted =
      absl::StrCat(std::string("--generation\0", 13), generation, std::string(1, '\0'));
  for (const pid_t pid : Workers()) {
    if (absl::StrContains(ReadFile(absl::StrCat("/proc/", pid, "/cmdline")), wanted)) return pid;
  }
  return 0;
}

std::vector<std::string> TestServer::Receipts() const {
  std::ifstream in(absl::StrCat(options_.run_directory, "/", options_.name, "/receipts.jsonl"));
  std::vector<std::string> lines;
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

std::vector<pid_t> MarkedProcesses(const std::string& mark) {
  std::vector<pid_t> marked;
  const std::string wanted = absl::StrCat("BATON_TEST_MARK=", mark);
  for (const pid_t pid : AllPids()) {
    if (pid == ::getpid()) continue;
    const std::string env = ReadFile(absl::StrCat("/proc/", pid, "/environ"));
    const size_t at = env.find(wanted);
    if (at == std::string::npos || (at > 0 && env[at - 1] != '\0')) continue;
    const std::optional<ProcessStat> stat = StatOf(pid);
    if (stat && stat->state != 'Z') marked.push_back(pid);
  }
  return marked;
}

int Zombies() { return static_cast<int>(ZombiesOf(::getpid()).size()); }

std::vector<pid_t> ZombiesOf(pid_t parent) {
  std::vector<pid_t> zombies;
  for (const pid_t pid : AllPids()) {
    const std::optional<ProcessStat> stat = StatOf(pid);
    if (stat && stat->state == 'Z' && stat->parent == parent) zombies.push_back(pid);
  }
  return zombies;
}

char ProcessState(pid_t pid) {
  const std::optional<ProcessStat> stat = StatOf(pid);
  return stat ? stat->state : '\0';
}

std::vector<std::string> SharedMemoryNames() {
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator("/dev/shm", error)) {
    const std::string name = entry.path().filename();
    if (absl::StartsWith(name, "baton.")) names.push_back(name);
  }
  return names;
}

std::vector<std::string> SharedMemoryNamesOf(const std::vector<pid_t>& makers) {
  std::vector<std::string> names = SharedMemoryNames();
  std::erase_if(names, [&](const std::string& name) {
    int pid = 0;  // baton.<user>.<pid namespace>.<pid>.<start time>...
    return std::sscanf(name.c_str(), "baton.%*u.%*u.%d.", &pid) != 1 ||
           std::find(makers.begin(), makers.end(), pid) == makers.end();
  });
  return names;
}

int OpenDescriptors(pid_t pid) {
  int count = 0;
  std::error_code error;
  for ([[maybe_unused]] const auto& entry :
       fs::directory_iterator(absl::StrCat("/proc/", pid, "/fd"), error)) {
    ++count;
  }
  return count;
}

std::string ProbeModel(const TempDirectory& temp, const std::vector<std::string>& options,
                       const std::string& config) {
  const char* build = std::getenv("BATON_BINARY_DIR");
  std::string text = absl::StrCat(
      "name: probe\nloader: native\nfile: ", build == nullptr ? "" : build,
      "/tests/models/probe_model.so\n", DeviceConfig(), config, "native:\n  options:\n");
  for (const std::string& option : options) absl::StrAppend(&text, "    ", option, "\n");
  temp.Write("model/config.yaml", text);
  return temp.path() + "/model";
}

}  // namespace baton::testing
