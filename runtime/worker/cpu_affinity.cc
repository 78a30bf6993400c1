#include "runtime/worker/cpu_affinity.h"

#include <sched.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "absl/strings/str_cat.h"

namespace baton::runtime {
namespace {

// "0-3,8"
std::string Ranges(const cpu_set_t& set) {
  std::string text;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &set)) continue;
    const int first = cpu;
    while (cpu + 1 < CPU_SETSIZE && CPU_ISSET(cpu + 1, &set)) ++cpu;
    absl::StrAppend(&text, text.empty() ? "" : ",", first);
    if (cpu > first) absl::StrAppend(&text, "-", cpu);
  }
  return text;
}

absl::Status Failed(std::string_view key, const char* call) {
  return absl::InternalError(absl::StrCat(std::string(key), ": ", call, ": errno ", errno));
}

}  // namespace

absl::Status CheckCpus(std::span<const int> cpus, std::string_view key) {
  if (cpus.empty()) return absl::OkStatus();
  cpu_set_t usable;
  CPU_ZERO(&usable);
  // Fails on machines of more CPUs than the set has room for.
  if (::sched_getaffinity(0, sizeof(usable), &usable) != 0) return Failed(key, "sched_getaffinity");
  for (const int cpu : cpus) {
    if (cpu >= 0 && cpu < CPU_SETSIZE && CPU_ISSET(cpu, &usable)) continue;
    return absl::InvalidArgumentError(
        absl::StrCat(std::string(key), ": CPU ", cpu,
                     " is none that this worker may run on; it may run on ", Ranges(usable)));
  }
  return absl::OkStatus();
}

absl::Status UseCpus(std::span<const int> cpus, std::string_view key) {
  if (cpus.empty()) return absl::OkStatus();
  if (absl::Status usable = CheckCpus(cpus, key); !usable.ok()) return usable;
  cpu_set_t set;
  CPU_ZERO(&set);
  for (const int cpu : cpus) CPU_SET(cpu, &set);
  if (::sched_setaffinity(0, sizeof(set), &set) != 0) return Failed(key, "sched_setaffinity");
  return absl::OkStatus();
}

absl::StatusOr<ThreadCpus> ThreadCpus::OfThisThread() {
  ThreadCpus cpus;
  CPU_ZERO(&cpus.set_);
  if (::sched_getaffinity(0, sizeof(cpus.set_), &cpus.set_) != 0) {
    return Failed("this thread's CPUs", "sched_getaffinity");
  }
  return cpus;
}

absl::Status ThreadCpus::UseForThisThread() const {
  if (::sched_setaffinity(0, sizeof(set_), &set_) != 0) {
    return Failed("this thread's CPUs", "sched_setaffinity");
  }
  return absl::OkStatus();
}

}  // namespace baton::runtime
