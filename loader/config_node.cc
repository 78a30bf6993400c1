#include "loader/config_node.h"

#include <algorithm>
#include <exception>
#include <numeric>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "loader/file_reader.h"

namespace baton::loader {
namespace {

// Single edits that turn `a` into `b`.
size_t EditDistance(const std::string& a, const std::string& b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), 0);
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i);
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = std::exchange(row[j], std::min({replaced, row[j] + 1, row[j - 1] + 1}));
    }
  }
  return row.back();
}

std::string Quoted(const std::string& text) {
  constexpr size_t kMaxShown = 80;
  const std::string shown = absl::Utf8SafeCEscape(text.substr(0, kMaxShown));
  return absl::StrCat("'", shown, text.size() > kMaxShown ? "..." : "", "'");
}

int LineOf(const YAML::Node& node) { return node.Mark().is_null() ? 0 : node.Mark().line + 1; }

}  // namespace

std::string ClosestName(const std::string& wrong, std::span<const std::string> known) {
  constexpr size_t kMaxCompared = 64;  // bounds the work on a hostile file
  if (wrong.size() > kMaxCompared) return "";
  std::string best;
  size_t best_distance = std::max<size_t>(1, wrong.size() / 3) + 1;
  for (const std::string& name : known) {
    const size_t distance = EditDistance(absl::AsciiStrToLower(wrong), name);
    if (distance < best_distance) {
      best_distance = distance;
      best = name;
    }
  }
  return best;
}

ConfigNode::ConfigNode(std::shared_ptr<const std::string> path, std::string key, std::string name,
                       YAML::Node node, int line)
    : path_(std::move(path)),
      key_(std::move(key)),
      name_(std::move(name)),
      node_(std::move(node)),
      line_(line) {}

absl::StatusOr<ConfigNode> ConfigNode::Load(const std::string& path) {
  absl::StatusOr<std::string> text = ReadWholeFile(path, kMaxFileBytes);
  if (!text.ok()) return text.status();
  return Parse(path, *text);
}

absl::StatusOr<ConfigNode> ConfigNode::Parse(const std::string& path, const std::string& text) {
  try {
    const std::vector<YAML::Node> documents = YAML::LoadAll(text);
    if (documents.size() != 1) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": holds ", documents.size(), " YAML documents; write one"));
    }
    return ConfigNode(std::make_shared<const std::string>(path), "", "", documents[0], 1);
  } catch (const YAML::Exception& error) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ":", error.mark.line + 1, ": not YAML: ", error.msg));
  } catch (const std::exception& error) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": not YAML: ", error.what()));
  }
}

absl::Status ConfigNode::Error(const std::string& message) const {
  return absl::InvalidArgumentError(absl::StrCat(*path_, line_ > 0 ? absl::StrCat(":", line_) : "",
                                                 ": ", key_, key_.empty() ? "" : ": ", message));
}

absl::Status ConfigNode::Expected(const std::string& what) const {
  std::string found = "something else";
  if (node_.IsScalar()) {
    found = Quoted(node_.Scalar());
  } else if (node_.IsNull()) {
    found = "nothing";
  } else if (node_.IsMap()) {
    found = "a map";
  } else if (node_.IsSequence()) {
    found = "a list";
  }
  return Error(absl::StrCat("expected ", what, ", found ", found));
}

absl::StatusOr<std::string> ConfigNode::Text() const {
  if (!node_.IsScalar() || node_.Scalar().empty()) return Expected("a text");
  if (node_.Scalar().find('\0') != std::string::npos) return Error("holds a NUL character");
  return node_.Scalar();
}

absl::StatusOr<bool> ConfigNode::Bool() const {
  if (node_.IsScalar() && node_.Scalar() == "true") return true;
  if (node_.IsScalar() && node_.Scalar() == "false") return false;
  return Expected("true or false");
}

absl::StatusOr<int64_t> ConfigNode::Integer() const {
  int64_t value = 0;
  if (node_.IsScalar() && absl::SimpleAtoi(node_.Scalar(), &value)) return value;
  return Expected("a whole number");
}

absl::StatusOr<uint64_t> ConfigNode::Size() const {
  static constexpr struct {
    const char* suffix;
    int shift;
  } kUnits[] = {{"KiB", 10}, {"MiB", 20}, {"GiB", 30}, {"TiB", 40}, {"", 0}};
  const absl::Status expected =
      Expected("a size in bytes, more than 0, such as 4096, 64KiB, 16MiB or 2GiB");
  if (!node_.IsScalar()) return expected;
  const std::string& text = node_.Scalar();
  for (const auto& unit : kUnits) {
    const std::string suffix = unit.suffix;
    if (!text.ends_with(suffix)) continue;
    uint64_t value = 0;
    const std::string digits = text.substr(0, text.size() - suffix.size());
    if (digits.starts_with("-") || !absl::SimpleAtoi(digits, &value) || value == 0) return expected;
    if (value > (uint64_t{1} << 62) >> unit.shift) return Error("is more than 4 EiB");
    return value << unit.shift;
  }
  return expected;
}

absl::StatusOr<absl::Duration> ConfigNode::Duration() const {
  absl::Duration value;
  if (!node_.IsScalar() || !absl::ParseDuration(node_.Scalar(), &value) ||
      value <= absl::ZeroDuration()) {
    return Expected("a time with its unit, more than 0, such as 250ms, 10s or 1m30s");
  }
  if (value > kMaxDuration) {
    return Error(absl::StrCat("is more than ", absl::FormatDuration(kMaxDuration)));
  }
  return value;
}

absl::StatusOr<std::string> ConfigNode::Choice(std::span<const std::string> choices) const {
  const std::string expected =
      absl::StrCat(choices.size() > 1 ? "one of " : "", absl::StrJoin(choices, ", "));
  if (!node_.IsScalar()) return Expected(expected);
  if (std::find(choices.begin(), choices.end(), node_.Scalar()) != choices.end()) {
    return node_.Scalar();
  }
  return Expected(expected);
}

ConfigNode ConfigNode::Child(const std::string& suffix, const std::string& name,
                             const YAML::Node& node, int line) const {
  const int own_line = LineOf(node);
  return ConfigNode(path_, absl::StrCat(key_, suffix), name, node, own_line > 0 ? own_line : line);
}

absl::StatusOr<std::vector<ConfigNode>> ConfigNode::List() const {
  if (!node_.IsSequence()) return Expected("a list");
  if (node_.size() > kMaxEntries) return Error(absl::StrCat("more than ", kMaxEntries, " entries"));
  std::vector<ConfigNode> entries;
  for (const YAML::Node& node : node_) {
    const std::string index = absl::StrCat(entries.size());
    entries.push_back(Child(absl::StrCat("[", index, "]"), index, node, line_));
  }
  return entries;
}

absl::StatusOr<std::vector<ConfigNode>> ConfigNode::Entries() const {
  if (!node_.IsMap()) return Expected("a map of keys and values");
  if (node_.size() > kMaxEntries) return Error(absl::StrCat("more than ", kMaxEntries, " keys"));
  std::vector<ConfigNode> entries;
  std::set<std::string> seen;
  for (const auto& entry : node_) {
    if (!entry.first.IsScalar() || entry.first.Scalar().empty()) {
      return Child("", "", entry.first, line_).Error("a key has to be a text");
    }
    const std::string& name = entry.first.Scalar();
    // The line of the key: that of a block value is the line below.
    ConfigNode child = Child(absl::StrCat(key_.empty() ? "" : ".", absl::Utf8SafeCEscape(name)),
                             name, entry.second, line_);
    if (const int line = LineOf(entry.first); line > 0) child.line_ = line;
    if (!seen.insert(name).second) return child.Error("is given twice");
    entries.push_back(std::move(child));
  }
  return entries;
}

absl::Status ConfigNode::Map(std::span<const ConfigKey> keys) const {
  absl::StatusOr<std::vector<ConfigNode>> entries = Entries();
  if (!entries.ok()) return entries.status();
  for (const ConfigNode& entry : *entries) {
    const auto key = std::find_if(keys.begin(), keys.end(), [&](const ConfigKey& candidate) {
      return candidate.name == entry.name();
    });
    if (key == keys.end()) {
      std::vector<std::string> names;
      for (const ConfigKey& candidate : keys) names.push_back(candidate.name);
      const std::string meant = ClosestName(entry.name(), names);
      return entry.Error(meant.empty()
                             ? absl::StrCat("unknown key; known are ", absl::StrJoin(names, ", "))
                             : absl::StrCat("unknown key; did you mean '", meant, "'?"));
    }
    absl::Status read = key->read(entry);
    if (!read.ok()) return read;
  }
  return absl::OkStatus();
}

}  // namespace baton::loader
