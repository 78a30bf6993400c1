// Which strategy a reload takes: by what was asked for, and by what fits.
//
// Thread safety: a pure function.
#ifndef BATON_RUNTIME_SUPERVISOR_STRATEGY_H_
#define BATON_RUNTIME_SUPERVISOR_STRATEGY_H_

#include <cstdint>
#include <string>

#include "loader/model_config.h"

namespace baton::runtime {

struct Footprint {
  uint64_t serving_bytes = 0;    // device bytes of the generation that serves, as measured
  uint64_t successor_bytes = 0;  // what the successor says that it needs
  uint64_t in_use_bytes = 0;     // of all generations, as measured
  uint64_t capacity_bytes = 0;   // of the device
};

struct StrategyChoice {
  bool overlap = false;
  std::string reason;  // a clause, for the receipt and for `shmctl reload --dry-run`

  const char* name() const { return overlap ? "overlap" : "exclusive"; }
};

// `overlap` and `auto` bring the successor up beside the generation that serves
// where its footprint, the larger of what was measured and what it says, fits
// into what is left of the capacity. `auto` does so only where device memory
// was measured at all: a model that keeps its weights elsewhere (ONNX Runtime
// on the host) may need twice of something that nobody counts.
StrategyChoice ChooseStrategy(loader::ReloadStrategy configured, const Footprint& footprint);

}  // namespace baton::runtime

#endif  // BATON_RUNTIME_SUPERVISOR_STRATEGY_H_
