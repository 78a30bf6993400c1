// A piece of a YAML file that knows where it stands, so that every error says
// "file:line: what is wrong, and what to write instead".
//
// Thread safety: none; an object belongs to one thread. No yaml-cpp exception
// leaves the calls of this header.
#ifndef BATON_LOADER_CONFIG_NODE_H_
#define BATON_LOADER_CONFIG_NODE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "yaml-cpp/yaml.h"

namespace baton::loader {

class ConfigNode;

// One key that a map may have, and what to do with its value.
struct ConfigKey {
  std::string name;
  std::function<absl::Status(const ConfigNode& value)> read;
};

// The key of `known` that `wrong` was probably meant to be; "" without one.
std::string ClosestName(const std::string& wrong, std::span<const std::string> known);

class ConfigNode {
 public:
  // Parses a file that holds one YAML document of at most kMaxFileBytes.
  static absl::StatusOr<ConfigNode> Load(const std::string& path);
  // Parses `text`; `path` is only for errors.
  static absl::StatusOr<ConfigNode> Parse(const std::string& path, const std::string& text);

  static constexpr size_t kMaxFileBytes = 256 * 1024;
  static constexpr size_t kMaxEntries = 1024;  // of one list or map

  // "reload.drain_timeout"; "" for the document itself.
  const std::string& key() const { return key_; }

  // INVALID_ARGUMENT "file:line: key: message".
  absl::Status Error(const std::string& message) const;

  // The value as a T. `Text` takes any scalar that is not empty.
  absl::StatusOr<std::string> Text() const;
  absl::StatusOr<bool> Bool() const;
  absl::StatusOr<int64_t> Integer() const;
  // "64MiB", "1GiB", "4096": bytes, more than 0.
  absl::StatusOr<uint64_t> Size() const;
  // "10s", "250ms", "1m30s": more than 0, at most kMaxDuration.
  absl::StatusOr<absl::Duration> Duration() const;
  // One of `choices`.
  absl::StatusOr<std::string> Choice(std::span<const std::string> choices) const;

  // The entries of a list.
  absl::StatusOr<std::vector<ConfigNode>> List() const;
  // Calls the reader of each key that the map has. An unknown key, a key given
  // twice and the first error of a reader end it.
  absl::Status Map(std::span<const ConfigKey> keys) const;
  // The entries of a map with any keys, in the file's order.
  absl::StatusOr<std::vector<ConfigNode>> Entries() const;
  // The last part of key(): "drain_timeout".
  const std::string& name() const { return name_; }

  static constexpr absl::Duration kMaxDuration = absl::Hours(24);

 private:
  ConfigNode(std::shared_ptr<const std::string> path, std::string key, std::string name,
             YAML::Node node, int line);

  ConfigNode Child(const std::string& suffix, const std::string& name, const YAML::Node& node,
                   int line) const;
  absl::Status Expected(const std::string& what) const;

  std::shared_ptr<const std::string> path_;
  std::string key_;
  std::string name_;
  YAML::Node node_;
  int line_;  // from 1; 0 when not known
};

}  // namespace baton::loader

#endif  // BATON_LOADER_CONFIG_NODE_H_
