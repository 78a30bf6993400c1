#include "bench/machine_name.h"

#include <sched.h>
#include <sys/utsname.h>

#include <fstream>

namespace baton::bench {
namespace {

std::string ProcessorModel() {
  std::ifstream cpus("/proc/cpuinfo");
  for (std::string line; std::getline(cpus, line);) {
    if (!line.starts_with("model name")) continue;
    const size_t colon = line.find(": ");
    if (colon != std::string::npos) return line.substr(colon + 2);
  }
  return "unknown processor";
}

}  // namespace

std::string MachineName() {
  std::string name = ProcessorModel();
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  if (::sched_getaffinity(0, sizeof(cpus), &cpus) == 0) {
    const int count = CPU_COUNT(&cpus);
    name = std::to_string(count) + (count == 1 ? " CPU, " : " CPUs, ") + name;
  }
  utsname kernel{};
  if (::uname(&kernel) == 0) name += std::string(", ") + kernel.sysname + " " + kernel.release;
  return name;
}

}  // namespace baton::bench
