// A model directory's config.yaml, parsed and checked.
#ifndef BATON_LOADER_MODEL_CONFIG_H_
#define BATON_LOADER_MODEL_CONFIG_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "baton/tensor.h"

namespace baton::loader {

// Limits and deadlines that a model directory may set. Every one has a unit.
struct ReloadPolicy {
  absl::Duration load_timeout = absl::Minutes(10);     // STAGING, and again ADMITTING (A26)
  absl::Duration drain_timeout = absl::Seconds(30);    // DRAINING
  absl::Duration close_timeout = absl::Seconds(5);     // CLOSING
  absl::Duration cleanup_timeout = absl::Seconds(10);  // EXITING, then SIGKILL (A23)
  absl::Duration confirm_timeout = absl::Seconds(30);  // CONFIRMING, then a verdict
};

struct ModelConfig {
  std::string directory;               // absolute
  std::string name;                    // defaults to the directory's name
  std::string loader;                  // "native", "onnx", "dense"
  std::string device = "host";         // "host", "cuda:0"
  std::string file;                    // library, .onnx or .safetensors, absolute
  std::optional<Signature> signature;  // where the loader does not know it
  uint64_t max_request_bytes = 0;      // 0: as the channel's arena allows
  uint64_t device_capacity_bytes = 0;  // 0: the device's own
  ReloadPolicy reload;
  std::map<std::string, std::string> options;  // the loader's own keys, each known to it
};

// Reads `directory`/config.yaml. Unknown keys, wrong types and missing files
// are INVALID_ARGUMENT or NOT_FOUND with "file:line: what, and what to write
// instead".
absl::StatusOr<ModelConfig> LoadModelConfig(const std::string& directory);

}  // namespace baton::loader

#endif  // BATON_LOADER_MODEL_CONFIG_H_
