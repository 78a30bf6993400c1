// A model directory's config.yaml, parsed and checked.
#ifndef BATON_LOADER_MODEL_CONFIG_H_
#define BATON_LOADER_MODEL_CONFIG_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "baton/tensor.h"
#include "ipc/cuda/arena_token.h"
#include "loader/batching_policy.h"

namespace baton::loader {

// How a successor is brought up.
enum class ReloadStrategy {
  kExclusive,  // after the one before it has gone, confirmed: one model's memory at peak
  kOverlap,    // beside the one that serves, where both fit; exclusive where they do not
  kAuto,       // as overlap, but only where device memory was measured
};

// What happens when the memory of a generation is not confirmed freed in time.
enum class OnUnconfirmed {
  kHold,      // nothing may allocate before it is
  kOverride,  // the next one is admitted all the same, and the receipt says so
};

// Limits and deadlines that a model directory may set. Every one has a unit.
struct ReloadPolicy {
  absl::Duration load_timeout = absl::Minutes(10);     // STAGING, and again ADMITTING (A26)
  absl::Duration drain_timeout = absl::Seconds(30);    // DRAINING
  absl::Duration close_timeout = absl::Seconds(5);     // CLOSING
  absl::Duration cleanup_timeout = absl::Seconds(10);  // EXITING, then SIGKILL (A23)
  absl::Duration confirm_timeout = absl::Seconds(30);  // CONFIRMING, then a verdict
  absl::Duration helper_timeout = absl::Seconds(2);    // one answer of the confirmation helper
  ReloadStrategy strategy = ReloadStrategy::kExclusive;
  OnUnconfirmed on_unconfirmed = OnUnconfirmed::kHold;
  bool watch = false;  // reload when code, configuration or weights change
};

struct ModelConfig {
  std::string directory;        // absolute
  std::string text;             // of config.yaml, as it was read
  std::string name;             // defaults to the directory's name
  std::string loader;           // "native", "onnx", "dense", "python"
  std::string device = "host";  // "host", "cuda:0"
  // How fronts get at memory on a GPU; nullopt: as the GPU can.
  std::optional<ipc::cuda::Transport> device_transport;
  bool device_huge_pages = false;      // on the host device: huge pages, where there are any
  bool scrub_device_memory = false;    // cleared before it is freed, where a worker ends in order
  std::string file;                    // library, .onnx, .safetensors or model.py, absolute
  std::optional<Signature> signature;  // where the loader does not know it
  uint64_t max_request_bytes = 0;      // 0: as the channel's arena allows
  uint64_t device_capacity_bytes = 0;  // 0: the device's own
  uint64_t device_results_bytes = 0;   // set aside for results that stay on the device
  uint64_t device_inputs_bytes = 0;    // and as much more for inputs that lie there
  std::vector<int> worker_cpus;        // that its threads run on; none: any
  std::vector<int> worker_cpu;  // that its serving thread runs on, once it serves; at most one
  std::optional<int> worker_numa_node;            // that its memory is taken from; none: any
  std::optional<absl::Duration> worker_max_spin;  // before it sleeps; none: the runtime's own
  BatchingPolicy batching;
  ReloadPolicy reload;
  std::map<std::string, std::string> options;  // the loader's own keys, each known to it
  // Not of the file: what nothing that a model prints may show. nullptr: nothing.
  const std::vector<std::string>* secrets = nullptr;
};

// Reads `directory`/config.yaml. A directory with a model.py, or a 1/model.py,
// needs none, and no `loader` in it. Unknown keys, wrong types and missing files
// are INVALID_ARGUMENT or NOT_FOUND with "file:line: what, and what to write
// instead".
absl::StatusOr<ModelConfig> LoadModelConfig(const std::string& directory);
// As if config.yaml held `text`.
absl::StatusOr<ModelConfig> LoadModelConfig(const std::string& directory, const std::string& text);
// The text of config.yaml, which need not be a good one; where a directory
// needs none, one that says so.
absl::StatusOr<std::string> ReadModelConfigText(const std::string& directory);

}  // namespace baton::loader

#endif  // BATON_LOADER_MODEL_CONFIG_H_
