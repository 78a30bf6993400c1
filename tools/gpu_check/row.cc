#include "tools/gpu_check/row.h"

#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace baton::gpu_check {
namespace {

constexpr std::array<std::pair<Outcome, std::string_view>, 8> kOutcomes = {{
    {Outcome::kMeasured, "measured"},
    {Outcome::kMet, "met"},
    {Outcome::kMissed, "missed"},
    {Outcome::kAsExpected, "as expected"},
    {Outcome::kContradicted, "CONTRADICTED"},
    {Outcome::kPassed, "passed"},
    {Outcome::kError, "error"},
    {Outcome::kSkipped, "skipped"},
}};

constexpr size_t kFields = 6;

std::string Escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '\t':
        out += "\\t";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\\':
        out += "\\\\";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::string Unescaped(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\' || i + 1 == text.size()) {
      out += text[i];
      continue;
    }
    ++i;
    out += text[i] == 't' ? '\t' : text[i] == 'n' ? '\n' : text[i];
  }
  return out;
}

// All digits, so that nothing is lost on the way to the table.
std::string Exact(double value) {
  char text[64];
  const auto [end, error] = std::to_chars(text, text + sizeof(text), value);
  return error == std::errc() ? std::string(text, end) : "0";
}

std::optional<double> ParseNumber(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) {
    return std::nullopt;
  }
  return value;
}

std::optional<Target> ParseTarget(std::string_view text) {
  if (!text.starts_with("<= ") && !text.starts_with(">= ")) return std::nullopt;
  const std::optional<double> bound = ParseNumber(text.substr(3));
  if (!bound) return std::nullopt;
  return Target{.bound = *bound, .at_most = text[0] == '<'};
}

std::vector<std::string> Fields(std::string_view line) {
  std::vector<std::string> fields;
  for (;;) {
    const size_t tab = line.find('\t');
    fields.push_back(Unescaped(line.substr(0, tab)));
    if (tab == std::string_view::npos) return fields;
    line.remove_prefix(tab + 1);
  }
}

absl::Status BadRow(std::string_view line, std::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(
      "a row has ", std::string(what),
      " (name, value, unit, target, outcome, note; tabs between): ", std::string(line)));
}

}  // namespace

std::string_view OutcomeText(Outcome outcome) {
  for (const auto& [known, text] : kOutcomes) {
    if (known == outcome) return text;
  }
  return "?";
}

bool IsGood(Outcome outcome) {
  return outcome != Outcome::kMissed && outcome != Outcome::kContradicted &&
         outcome != Outcome::kError;
}

std::string TargetText(const Target& target) {
  return absl::StrCat(target.at_most ? "<= " : ">= ", Exact(target.bound));
}

std::string FigureText(double value) {
  char text[64];
  if (value == std::floor(value) && std::abs(value) < 1e15) {
    std::snprintf(text, sizeof(text), "%.0f", value);
  } else if (std::abs(value) >= 1000) {
    std::snprintf(text, sizeof(text), "%.1f", value);
  } else {
    std::snprintf(text, sizeof(text), "%.4g", value);
  }
  return text;
}

std::string RowLine(const Row& row) {
  return absl::StrCat(Escaped(row.name), "\t", row.value ? Exact(*row.value) : "", "\t",
                      Escaped(row.unit), "\t", row.target ? TargetText(*row.target) : "", "\t",
                      std::string(OutcomeText(row.outcome)), "\t", Escaped(row.note));
}

absl::StatusOr<Row> ParseRowLine(std::string_view line) {
  const std::vector<std::string> fields = Fields(line);
  if (fields.size() != kFields) return BadRow(line, absl::StrCat(fields.size(), " fields, not 6"));
  if (fields[0].empty()) return BadRow(line, "no name");
  Row row{.name = fields[0], .unit = fields[2], .note = fields[5]};
  if (!fields[1].empty()) {
    row.value = ParseNumber(fields[1]);
    if (!row.value) return BadRow(line, "a value that is no number");
  }
  if (!fields[3].empty()) {
    row.target = ParseTarget(fields[3]);
    if (!row.target) return BadRow(line, "a target that is neither '<= N' nor '>= N'");
  }
  for (const auto& [outcome, text] : kOutcomes) {
    if (text != fields[4]) continue;
    row.outcome = outcome;
    return row;
  }
  return BadRow(line, "an unknown outcome");
}

}  // namespace baton::gpu_check
