// The loaders by name, and what a config.yaml may say to each.
#ifndef BATON_LOADER_BACKENDS_H_
#define BATON_LOADER_BACKENDS_H_

#include <map>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "loader/config_node.h"

namespace baton::loader {

enum class OptionType {
  kText,
  kBool,
  kInteger,
  kTextList,    // "key.0", "key.1", ...
  kRecordList,  // a list of maps: "key.0.field", ...; `fields` names them
  kTextMap,     // any keys: "key.NAME"
};

struct OptionSpec {
  std::string name;
  OptionType type = OptionType::kText;
  std::vector<std::string> fields = {};
};

struct Backend {
  std::string name;
  std::string default_file;  // in the model directory, where `file` is left out
  std::vector<OptionSpec> options;
};

// All that this version knows, also those that this build left out.
std::span<const Backend> Backends();
const Backend* FindBackend(const std::string& name);  // nullptr when unknown
std::vector<std::string> BackendNames();

// Reads the part of config.yaml under the backend's name into flat keys, as
// OptionType says: what loaders get as ModelConfig::options.
absl::StatusOr<std::map<std::string, std::string>> ReadOptions(const Backend& backend,
                                                               const ConfigNode& node);

}  // namespace baton::loader

#endif  // BATON_LOADER_BACKENDS_H_
