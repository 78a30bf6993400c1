#include "loader/backends.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace baton::loader {
namespace {

using Options = std::map<std::string, std::string>;

// A new loader, or a new option of one, is a line here. Values are checked by
// the loader itself; the types here are for errors that name the line.
const std::vector<Backend>& Table() {
  static const auto& table = *new std::vector<Backend>{
      {.name = "native",
       .default_file = "model.so",
       .options = {{.name = "options", .type = OptionType::kTextMap}}},
      {.name = "onnx",
       .default_file = "model.onnx",
       .options = {{.name = "intra_op_threads", .type = OptionType::kInteger},
                   {.name = "spin", .type = OptionType::kBool},
                   {.name = "cpu_arena", .type = OptionType::kBool},
                   {.name = "output_shapes"}}},
      {.name = "dense",
       .default_file = "model.safetensors",
       .options = {{.name = "activations", .type = OptionType::kTextList},
                   {.name = "layers",
                    .type = OptionType::kRecordList,
                    .fields = {"weight", "bias", "activation"}}}},
      {.name = "python",
       .default_file = "model.py",
       .options = {{.name = "executable"}, {.name = "construct"}}},
  };
  return table;
}

absl::Status ReadText(const ConfigNode& node, const std::string& key, Options& options) {
  absl::StatusOr<std::string> text = node.Text();
  if (!text.ok()) return text.status();
  options[key] = *std::move(text);
  return absl::OkStatus();
}

absl::Status ReadRecord(const OptionSpec& spec, const ConfigNode& node, const std::string& key,
                        Options& options) {
  std::vector<ConfigKey> fields;
  for (const std::string& field : spec.fields) {
    fields.push_back({field, [&options, key, field](const ConfigNode& value) {
                        return ReadText(value, absl::StrCat(key, ".", field), options);
                      }});
  }
  return node.Map(fields);
}

absl::Status ReadList(const OptionSpec& spec, const ConfigNode& node, Options& options) {
  absl::StatusOr<std::vector<ConfigNode>> entries = node.List();
  if (!entries.ok()) return entries.status();
  for (const ConfigNode& entry : *entries) {
    const std::string key = absl::StrCat(spec.name, ".", entry.name());
    absl::Status read = spec.type == OptionType::kRecordList ? ReadRecord(spec, entry, key, options)
                                                             : ReadText(entry, key, options);
    if (!read.ok()) return read;
  }
  return absl::OkStatus();
}

absl::Status ReadTextMap(const OptionSpec& spec, const ConfigNode& node, Options& options) {
  absl::StatusOr<std::vector<ConfigNode>> entries = node.Entries();
  if (!entries.ok()) return entries.status();
  for (const ConfigNode& entry : *entries) {
    absl::Status read = ReadText(entry, absl::StrCat(spec.name, ".", entry.name()), options);
    if (!read.ok()) return read;
  }
  return absl::OkStatus();
}

absl::Status ReadOption(const OptionSpec& spec, const ConfigNode& node, Options& options) {
  switch (spec.type) {
    case OptionType::kText:
      return ReadText(node, spec.name, options);
    case OptionType::kBool: {
      absl::StatusOr<bool> value = node.Bool();
      if (!value.ok()) return value.status();
      options[spec.name] = *value ? "true" : "false";
      return absl::OkStatus();
    }
    case OptionType::kInteger: {
      absl::StatusOr<int64_t> value = node.Integer();
      if (!value.ok()) return value.status();
      options[spec.name] = absl::StrCat(*value);
      return absl::OkStatus();
    }
    case OptionType::kTextList:
    case OptionType::kRecordList:
      return ReadList(spec, node, options);
    case OptionType::kTextMap:
      return ReadTextMap(spec, node, options);
  }
  return absl::InternalError("option of no type");
}

}  // namespace

std::span<const Backend> Backends() { return Table(); }

const Backend* FindBackend(const std::string& name) {
  for (const Backend& backend : Table()) {
    if (backend.name == name) return &backend;
  }
  return nullptr;
}

std::vector<std::string> BackendNames() {
  std::vector<std::string> names;
  for (const Backend& backend : Table()) names.push_back(backend.name);
  return names;
}

absl::StatusOr<Options> ReadOptions(const Backend& backend, const ConfigNode& node) {
  Options options;
  std::vector<ConfigKey> keys;
  for (const OptionSpec& spec : backend.options) {
    keys.push_back({spec.name, [&options, &spec](const ConfigNode& value) {
                      return ReadOption(spec, value, options);
                    }});
  }
  absl::Status read = node.Map(keys);
  if (!read.ok()) return read;
  return options;
}

}  // namespace baton::loader
