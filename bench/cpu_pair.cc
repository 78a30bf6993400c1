#include "bench/cpu_pair.h"

#include <fstream>
#include <string>

namespace baton::bench {
namespace {

// Equal for CPUs that are threads of one core.
std::string CoreOf(int cpu) {
  std::ifstream file("/sys/devices/system/cpu/cpu" + std::to_string(cpu) +
                     "/topology/thread_siblings_list");
  std::string siblings;
  std::getline(file, siblings);
  return siblings.empty() ? std::to_string(cpu) : siblings;
}

}  // namespace

CpuPair ChooseCpus() {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  CpuPair pair;
  if (::sched_getaffinity(0, sizeof(allowed), &allowed) != 0) return pair;
  int found = 0;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &allowed)) continue;
    if (++found == 1) pair = {.front = cpu, .peer = cpu};
    if (found == 2) pair.peer = cpu;
    if (CoreOf(cpu) != CoreOf(pair.front)) {
      pair.peer = cpu;
      break;
    }
  }
  return pair;
}

std::vector<int> FrontCpus(const CpuPair& pair) {
  std::vector<int> cpus{pair.front};
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  if (::sched_getaffinity(0, sizeof(allowed), &allowed) != 0) return cpus;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &allowed) && cpu != pair.front && cpu != pair.peer) cpus.push_back(cpu);
  }
  return cpus;
}

Unpinned::Unpinned() {
  CPU_ZERO(&pinned_);
  ::sched_getaffinity(0, sizeof(pinned_), &pinned_);
  cpu_set_t all;
  CPU_ZERO(&all);
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) CPU_SET(cpu, &all);
  // The kernel takes those away that this process may not use.
  ::sched_setaffinity(0, sizeof(all), &all);
}

Unpinned::~Unpinned() { ::sched_setaffinity(0, sizeof(pinned_), &pinned_); }

}  // namespace baton::bench
