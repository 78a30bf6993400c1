// Where a measurement puts its rows: a descriptor, one line each, at once, so
// that what was found before a crash or a hang is not lost with it.
//
// Thread safety: one thread at a time.
#ifndef BATON_TOOLS_GPU_CHECK_REPORT_H_
#define BATON_TOOLS_GPU_CHECK_REPORT_H_

#include <string>

#include "absl/status/status.h"

#include "tools/gpu_check/row.h"
#include "tools/gpu_check/samples.h"

namespace baton::gpu_check {

class Report {
 public:
  // `fd` stays the caller's.
  Report(int fd, bool simulated) : fd_(fd), simulated_(simulated) {}

  void Measured(const std::string& name, double value, const std::string& unit,
                const std::string& note = "");
  // Durations in `unit` ("us" or "ms"): the median, with the most and their
  // number in the note.
  void Times(const std::string& name, const Samples& samples, const std::string& unit,
             const std::string& note = "");
  // Held to a target; on a simulated GPU to none.
  void Against(const std::string& name, double value, const std::string& unit, const Target& target,
               const std::string& note = "");
  // A row "fact: <name>", which holds here or does not. `seen`: what was seen.
  void Fact(const std::string& name, bool holds, const std::string& seen = "");
  // A fact about speed or cost, which a simulated GPU can say nothing about.
  void FactOfHardware(const std::string& name, bool holds, const std::string& seen = "");
  void Told(const std::string& name, const std::string& text);
  void Error(const std::string& name, const absl::Status& status);
  void Skipped(const std::string& name, const std::string& why);

 private:
  void Add(const Row& row);
  const int fd_;
  const bool simulated_;
};

}  // namespace baton::gpu_check

#endif  // BATON_TOOLS_GPU_CHECK_REPORT_H_
