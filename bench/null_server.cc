#include "bench/null_server.h"

#include <dirent.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"

#include "bench/ping_pong.h"

namespace baton::bench {
namespace {

std::string ReadFile(const std::string& path) {
  std::ifstream in(path);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

// "pid (name) state ppid ...": the parent's pid, and the name.
std::pair<std::string, pid_t> NameAndParent(const std::string& pid) {
  const std::string stat = ReadFile("/proc/" + pid + "/stat");
  const size_t open = stat.find('(');
  const size_t close = stat.rfind(')');
  if (open == std::string::npos || close == std::string::npos || close + 4 > stat.size()) {
    return {"", 0};
  }
  return {stat.substr(open + 1, close - open - 1), std::atoi(stat.c_str() + close + 4)};
}

// Of the servers that this process has started.
std::set<pid_t>& Workers() {
  static auto& workers = *new std::set<pid_t>;
  return workers;
}

// The worker of the server that this process started last: a grandchild.
pid_t FindWorker() {
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    const std::string pid = entry.path().filename();
    if (pid.find_first_not_of("0123456789") != std::string::npos) continue;
    const auto [name, parent] = NameAndParent(pid);
    if (!name.starts_with("baton-worker")) continue;
    if (NameAndParent(std::to_string(parent)).second != ::getpid()) continue;
    if (Workers().insert(std::atoi(pid.c_str())).second) return std::atoi(pid.c_str());
  }
  return 0;
}

}  // namespace

absl::StatusOr<std::unique_ptr<NullServer>> NullServer::Launch(int worker_cpu,
                                                               const std::string& config) {
  std::unique_ptr<NullServer> server(new NullServer());
  std::string directory = std::filesystem::temp_directory_path() / "baton-bench-XXXXXX";
  if (::mkdtemp(directory.data()) == nullptr) {
    return absl::InternalError("cannot make a temporary directory for the null model");
  }
  server->directory_ = directory;
  std::ofstream(directory + "/config.yaml")
      << "name: noop\nloader: native\nfile: " << BATON_NULL_MODEL << "\n"
      << "limits: {device_results: " << kDeviceResultBytes << "}\n"
      << config;
  const absl::Status started = server->Start(directory, worker_cpu);
  if (!started.ok()) return started;
  return server;
}

absl::StatusOr<std::unique_ptr<NullServer>> NullServer::LaunchPython(int worker_cpu) {
  std::unique_ptr<NullServer> server(new NullServer());
  const absl::Status started = server->Start(BATON_NULL_PYTHON_MODEL, worker_cpu);
  if (!started.ok()) return started;
  return server;
}

absl::Status NullServer::Start(const std::string& directory, int worker_cpu) {
  LaunchOptions options;
  options.directory = directory;
  options.front.import_device = true;
  absl::StatusOr<std::unique_ptr<Front>> front = Front::Launch(options);
  if (!front.ok()) return front.status();
  front_ = *std::move(front);
  worker_pid_ = FindWorker();
  if (worker_pid_ == 0 || !PinProcess(worker_pid_, worker_cpu)) {
    return absl::InternalError("cannot find the worker, or cannot pin it");
  }
  return absl::OkStatus();
}

NullServer::~NullServer() {
  front_.reset();
  std::error_code ignored;
  if (!directory_.empty()) std::filesystem::remove_all(directory_, ignored);
}

}  // namespace baton::bench
