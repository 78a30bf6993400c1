#include "bench/idle_cpu.h"

#include <sys/types.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"

#include "baton/front.h"

namespace baton::bench {
namespace {

namespace fs = std::filesystem;

struct Process {
  pid_t pid = 0;
  pid_t parent = 0;
  std::string name;
};

std::vector<Process> AllProcesses() {
  std::vector<Process> processes;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator("/proc", ignored)) {
    const std::string name = entry.path().filename();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    std::ifstream file(entry.path() / "stat");
    const std::string stat{std::istreambuf_iterator<char>(file), {}};
    // "pid (name) state parent ..."
    const size_t open = stat.find('(');
    const size_t close = stat.rfind(')');
    if (close == std::string::npos || close + 4 > stat.size()) continue;
    processes.push_back({.pid = std::atoi(stat.c_str()),
                         .parent = std::atoi(stat.c_str() + close + 4),
                         .name = stat.substr(open + 1, close - open - 1)});
  }
  return processes;
}

// Of the server whose worker that is, and of no other that this process has launched: the worker's
// parent, and all that it has started.
std::vector<pid_t> ServerProcesses(pid_t worker) {
  const std::vector<Process> all = AllProcesses();
  std::vector<pid_t> found;
  for (const Process& one : all) {
    if (one.pid == worker) found.push_back(one.parent);
  }
  for (size_t i = 0; i < found.size(); ++i) {
    for (const Process& one : all) {
      if (one.parent == found[i] && one.name.starts_with("baton-")) found.push_back(one.pid);
    }
  }
  return found;
}

// nullopt where the scheduler does not tell.
std::optional<uint64_t> CpuNs(pid_t pid) {
  uint64_t sum = 0;
  std::error_code error;
  for (const auto& task : fs::directory_iterator("/proc/" + std::to_string(pid) + "/task", error)) {
    uint64_t ns = 0;
    std::ifstream file(task.path() / "schedstat");
    if (!(file >> ns)) return std::nullopt;
    sum += ns;
  }
  if (error) return std::nullopt;
  return sum;
}

std::optional<uint64_t> CpuNs(const std::vector<pid_t>& pids) {
  uint64_t sum = 0;
  for (const pid_t pid : pids) {
    const std::optional<uint64_t> ns = CpuNs(pid);
    if (!ns) return std::nullopt;
    sum += *ns;
  }
  return sum;
}

// How long it is watched, and what it may take meanwhile, of one CPU, to be at rest.
constexpr absl::Duration kWatch = absl::Milliseconds(20);
constexpr double kAtRest = 0.02;
constexpr absl::Duration kLongestWork = absl::Seconds(10);

class IdleCpu final : public Subject {
 public:
  IdleCpu(std::vector<Channel> channels, std::vector<pid_t> server)
      : channels_(std::move(channels)), server_(std::move(server)) {}

  // Until the server has done what other rows have left it to do: channels that were opened and
  // closed are mapped and given back a while later.
  absl::Status Begin() override {
    const absl::Time latest = absl::Now() + kLongestWork;
    while (absl::Now() < latest) {
      const std::optional<uint64_t> before = CpuNs(server_);
      absl::SleepFor(kWatch);
      const std::optional<uint64_t> after = CpuNs(server_);
      if (!before || !after) return absl::OkStatus();  // Run says so
      if (static_cast<double>(*after - *before) < kAtRest * absl::ToDoubleNanoseconds(kWatch)) {
        return absl::OkStatus();
      }
    }
    return absl::DeadlineExceededError("the server has something to do all the time");
  }

  absl::Status Run(uint64_t until, Measured& measured) override {
    const std::optional<uint64_t> server_before = CpuNs(server_);
    const std::optional<uint64_t> front_before = CpuNs(::getpid());
    const uint64_t begin = Ticks();
    if (begin < until) {
      absl::SleepFor(absl::Nanoseconds(static_cast<double>(until - begin) * NsPerTick()));
    }
    const uint64_t end = Ticks();
    const std::optional<uint64_t> front = CpuNs(::getpid());
    const std::optional<uint64_t> server = CpuNs(server_);
    if (!server_before || !front_before || !front || !server) {
      return absl::UnimplementedError("the kernel does not say how long a thread ran");
    }
    measured.ticks += end - begin;
    measured.figures["server_cpu_ns"] += static_cast<double>(*server - *server_before);
    measured.figures["front_cpu_ns"] += static_cast<double>(*front - *front_before);
    const double ns = static_cast<double>(measured.ticks) * NsPerTick();
    for (const std::string side : {"server", "front"}) {
      measured.figures[side + "_cpu_share"] = measured.figures[side + "_cpu_ns"] / ns;
    }
    return absl::OkStatus();
  }

 private:
  const std::vector<Channel> channels_;
  const std::vector<pid_t> server_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Subject>> MakeIdleCpu(NullServer& server, int channels) {
  ChannelOptions options;
  options.backing = ChannelOptions::Backing::kMemfd;  // whatever the size of /dev/shm
  std::vector<Channel> open;
  for (int i = 0; i < channels; ++i) {
    absl::StatusOr<Channel> channel = server.front().OpenChannel(options);
    if (!channel.ok()) return channel.status();
    open.push_back(*std::move(channel));
  }
  std::vector<pid_t> processes = ServerProcesses(server.worker_pid());
  if (processes.empty()) return absl::NotFoundError("the server's processes are not in /proc");
  return std::make_unique<IdleCpu>(std::move(open), std::move(processes));
}

}  // namespace baton::bench
