#include "tools/gpu_check/report.h"

#include <unistd.h>

#include <cerrno>
#include <string_view>

#include "absl/strings/str_cat.h"

namespace baton::gpu_check {
namespace {

double UnitNanoseconds(const std::string& unit) { return unit == "ms" ? 1e6 : 1e3; }

std::string Joined(const std::string& note, const std::string& more) {
  return note.empty() || more.empty() ? note + more : absl::StrCat(note, "; ", more);
}

}  // namespace

void Report::Add(const Row& row) {
  const std::string line = RowLine(row) + "\n";
  for (std::string_view rest = line; !rest.empty();) {
    const ssize_t written = ::write(fd_, rest.data(), rest.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return;  // whoever reads it has gone, and this process goes with it
    rest.remove_prefix(static_cast<size_t>(written));
  }
}

void Report::Measured(const std::string& name, double value, const std::string& unit,
                      const std::string& note) {
  Add({.name = name, .value = value, .unit = unit, .note = note});
}

void Report::Times(const std::string& name, const Samples& samples, const std::string& unit,
                   const std::string& note) {
  if (samples.count() == 0) {
    Error(name, absl::UnavailableError(Joined(note, "there is no sample")));
    return;
  }
  const double scale = UnitNanoseconds(unit);
  const std::string of = samples.count() == 1
                             ? "one sample"
                             : absl::StrCat("median of ", samples.count(), "; most ",
                                            FigureText(samples.Most() / scale), " ", unit);
  Measured(name, samples.Median() / scale, unit, Joined(note, of));
}

void Report::Against(const std::string& name, double value, const std::string& unit,
                     const Target& target, const std::string& note) {
  if (simulated_) {
    Measured(name, value, unit, note);
    return;
  }
  const bool met = target.at_most ? value <= target.bound : value >= target.bound;
  Add({.name = name,
       .value = value,
       .unit = unit,
       .target = target,
       .outcome = met ? Outcome::kMet : Outcome::kMissed,
       .note = note});
}

void Report::Fact(const std::string& name, bool holds, const std::string& seen) {
  Add({.name = absl::StrCat("fact: ", name),
       .outcome = holds ? Outcome::kAsExpected : Outcome::kContradicted,
       .note = seen});
}

void Report::FactOfHardware(const std::string& name, bool holds, const std::string& seen) {
  if (simulated_) {
    Skipped(absl::StrCat("fact: ", name), Joined("only hardware can tell", seen));
  } else {
    Fact(name, holds, seen);
  }
}

void Report::Told(const std::string& name, const std::string& text) {
  Add({.name = name, .note = text});
}

void Report::Error(const std::string& name, const absl::Status& status) {
  Add({.name = name, .outcome = Outcome::kError, .note = std::string(status.message())});
}

void Report::Skipped(const std::string& name, const std::string& why) {
  Add({.name = name, .outcome = Outcome::kSkipped, .note = why});
}

}  // namespace baton::gpu_check
