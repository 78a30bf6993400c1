#include "tests/stress/soak_report.h"

#include <algorithm>
#include <cmath>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "tests/system/process_memory.h"
#include "tests/system/test_server.h"

namespace baton::testing {
namespace {

constexpr double kMiB = 1 << 20;

std::string Row(const char* name, const ProcessFigures& first, const ProcessFigures& last) {
  return absl::StrFormat(
      "  %-10s RSS %7.2f -> %7.2f MiB, own %6.2f -> %6.2f MiB, descriptors %d -> %d, mappings %d "
      "-> %d\n",
      name, static_cast<double>(first.resident_bytes) / kMiB,
      static_cast<double>(last.resident_bytes) / kMiB, static_cast<double>(first.own_bytes) / kMiB,
      static_cast<double>(last.own_bytes) / kMiB, first.descriptors, last.descriptors,
      first.mappings, last.mappings);
}

std::string ProcessJson(const ProcessFigures& figures) {
  return absl::StrFormat(R"({"resident_bytes":%d,"own_bytes":%d,"descriptors":%d,"mappings":%d})",
                         figures.resident_bytes, figures.own_bytes, figures.descriptors,
                         figures.mappings);
}

std::string SampleJson(const SoakSample& sample) {
  return absl::StrFormat(
      R"({"reloads":%d,"supervisor":%s,"worker":%s,"front_1":%s,"front_2":%s,"processes":%d,)"
      R"("zombies":%d,"shared_memory_names":%d})",
      sample.reloads, ProcessJson(sample.supervisor), ProcessJson(sample.worker),
      ProcessJson(sample.fronts[0]), ProcessJson(sample.fronts[1]), sample.processes,
      sample.zombies, sample.shared_memory_names);
}

}  // namespace

ProcessFigures FiguresOf(pid_t pid) {
  const ProcessMemory memory = MemoryOf(pid);
  ProcessFigures figures{.resident_bytes = memory.resident_bytes,
                         .own_bytes = memory.own_bytes,
                         .descriptors = OpenDescriptors(pid),
                         .mappings = 0};
  std::ifstream maps(absl::StrCat("/proc/", pid, "/maps"));
  for (std::string line; std::getline(maps, line);) ++figures.mappings;
  return figures;
}

double SoakReport::GapMs(double quantile) const {
  if (gaps_ns.empty()) return 0;
  std::vector<uint64_t> sorted(gaps_ns);
  std::sort(sorted.begin(), sorted.end());
  const auto at = static_cast<size_t>(std::ceil(quantile * static_cast<double>(sorted.size())));
  return static_cast<double>(sorted[std::min(std::max<size_t>(at, 1), sorted.size()) - 1]) / 1e6;
}

std::string SoakReport::Text() const {
  return absl::StrCat(
      absl::StrFormat("soak: %d reloads (%d by secrets, %d by command) in %.1f s\n", reloads,
                      by_secrets, by_command, seconds),
      absl::StrFormat(
          "  requests   %d answered of %d; failed %d, lost %d, duplicated %d, wrong %d, "
          "reordered %d, generation back %d\n",
          answered, submitted, failed, lost, duplicated, wrong, reordered, went_back),
      absl::StrFormat("  gap        p50 %.2f ms, p99 %.2f ms, max %.2f ms (%d gaps)\n", GapMs(0.5),
                      GapMs(0.99), GapMs(1), gaps_ns.size()),
      absl::StrFormat("  device     peak %.2f MiB of a model of %.2f MiB, at most %d arenas at "
                      "once (%d looks)\n",
                      static_cast<double>(device_peak_bytes) / kMiB,
                      static_cast<double>(device_model_bytes) / kMiB, device_peak_arenas,
                      device_samples),
      absl::StrFormat("  after %d and %d reloads: processes %d -> %d, zombies %d -> %d, names in "
                      "/dev/shm %d -> %d\n",
                      first.reloads, last.reloads, first.processes, last.processes, first.zombies,
                      last.zombies, first.shared_memory_names, last.shared_memory_names),
      Row("supervisor", first.supervisor, last.supervisor),
      Row("worker", first.worker, last.worker), Row("front 1", first.fronts[0], last.fronts[0]),
      Row("front 2", first.fronts[1], last.fronts[1]));
}

std::string SoakReport::Json() const {
  return absl::StrFormat(
      R"({"reloads":%d,"by_secrets":%d,"by_command":%d,"seconds":%.1f,"submitted":%d,)"
      R"("answered":%d,"failed":%d,"lost":%d,"duplicated":%d,"wrong":%d,"reordered":%d,)"
      R"("went_back":%d,"gap_p50_ms":%.3f,"gap_p99_ms":%.3f,"gap_max_ms":%.3f,)"
      R"("device_peak_bytes":%d,"device_model_bytes":%d,"device_peak_arenas":%d,)"
      R"("device_samples":%d,"first":%s,"last":%s})"
      "\n",
      reloads, by_secrets, by_command, seconds, submitted, answered, failed, lost, duplicated,
      wrong, reordered, went_back, GapMs(0.5), GapMs(0.99), GapMs(1), device_peak_bytes,
      device_model_bytes, device_peak_arenas, device_samples, SampleJson(first), SampleJson(last));
}

}  // namespace baton::testing
