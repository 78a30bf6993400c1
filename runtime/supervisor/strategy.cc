#include "runtime/supervisor/strategy.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace baton::runtime {

StrategyChoice ChooseStrategy(loader::ReloadStrategy configured, const Footprint& footprint) {
  using Strategy = loader::ReloadStrategy;
  if (configured == Strategy::kExclusive) return {false, "as configured"};
  const uint64_t needed = std::max(footprint.serving_bytes, footprint.successor_bytes);
  const uint64_t left =
      footprint.capacity_bytes - std::min(footprint.in_use_bytes, footprint.capacity_bytes);
  if (configured == Strategy::kAuto && footprint.serving_bytes == 0) {
    return {false, "auto: no device memory was measured that could be seen to fit twice"};
  }
  const std::string sizes = absl::StrCat(needed, " bytes beside the ", footprint.in_use_bytes,
                                         " in use of ", footprint.capacity_bytes);
  if (needed > left) return {false, absl::StrCat("does not fit twice: ", sizes)};
  return {true, absl::StrCat(configured == Strategy::kAuto ? "auto: fits twice: " : "fits twice: ",
                             sizes)};
}

}  // namespace baton::runtime
