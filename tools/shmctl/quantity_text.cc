#include "tools/shmctl/quantity_text.h"

#include <iterator>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace baton::shmctl {
namespace {

// What would be shown as 1000 is for the next unit.
constexpr double kNextUnit = 999.5;

std::string ThreeDigits(double value) {
  // As it is rounded: 9.996 is 10.0, not 10.00.
  const int decimals = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
  return absl::StrFormat("%.*f", decimals, value);
}

}  // namespace

std::string DurationText(uint64_t ns) {
  constexpr uint64_t kSecond = 1'000'000'000;
  const uint64_t seconds = ns / kSecond;
  if (seconds >= 3600) {
    return absl::StrFormat("%dh%02dm", seconds / 3600, seconds / 60 % 60);
  }
  if (seconds >= 120) return absl::StrFormat("%dm%02ds", seconds / 60, seconds % 60);
  if (ns < 1000) return absl::StrCat(ns, " ns");
  const double value = static_cast<double>(ns);
  if (value / 1e3 < kNextUnit) return ThreeDigits(value / 1e3) + " us";
  if (value / 1e6 < kNextUnit) return ThreeDigits(value / 1e6) + " ms";
  return ThreeDigits(value / 1e9) + " s";
}

std::string BytesText(uint64_t bytes) {
  if (bytes < 10'000) return absl::StrCat(bytes, " B");
  const char* const units[] = {" KiB", " MiB", " GiB", " TiB"};
  double value = static_cast<double>(bytes) / 1024;
  size_t unit = 0;
  for (; value >= kNextUnit && unit + 1 < std::size(units); ++unit) value /= 1024;
  return ThreeDigits(value) + units[unit];
}

}  // namespace baton::shmctl
