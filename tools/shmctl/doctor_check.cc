#include "tools/shmctl/doctor_check.h"

#include <algorithm>
#include <cstddef>

#include "tools/shmctl/wrapped_text.h"

namespace baton::shmctl {
namespace {

constexpr size_t kLevelCells = 6;
constexpr size_t kNameCells = 18;
constexpr char kSeparator = '\t';

std::string Padded(std::string_view text, size_t cells) {
  std::string padded(text);
  if (padded.size() < cells) padded.append(cells - padded.size(), ' ');
  return padded;
}

std::string OneLine(std::string text) {
  for (const char taken : {kSeparator, '\n', '\r'}) {
    std::replace(text.begin(), text.end(), taken, ' ');
  }
  return text;
}

}  // namespace

std::string_view LevelText(Check::Level level) {
  switch (level) {
    case Check::Level::kOk:
      return "ok";
    case Check::Level::kWarn:
      return "warn";
    case Check::Level::kFail:
      break;
  }
  return "FAIL";
}

std::string CheckRow(const Check& check) {
  std::string row = Padded(LevelText(check.level), kLevelCells) + Padded(check.name, kNameCells) +
                    OneLine(check.found);
  if (!check.remedy.empty()) row += "; " + OneLine(check.remedy);
  return Printable(row) + "\n";
}

std::string EncodeCheck(const Check& check) {
  std::string line(LevelText(check.level));
  for (const std::string* part : {&check.name, &check.found, &check.remedy}) {
    line += kSeparator + OneLine(*part);
  }
  return line + "\n";
}

std::vector<Check> DecodeChecks(std::string_view text) {
  std::vector<Check> checks;
  for (size_t end = 0; (end = text.find('\n')) != std::string_view::npos;) {
    std::vector<std::string> parts;
    std::string_view line = text.substr(0, end);
    text.remove_prefix(end + 1);
    for (size_t at = 0; at != std::string_view::npos;) {
      const size_t next = line.find(kSeparator, at);
      parts.emplace_back(line.substr(at, next == std::string_view::npos ? next : next - at));
      at = next == std::string_view::npos ? next : next + 1;
    }
    if (parts.size() != 4) continue;  // a driver may print something of its own
    for (const auto level : {Check::Level::kOk, Check::Level::kWarn, Check::Level::kFail}) {
      if (parts[0] == LevelText(level)) checks.push_back({level, parts[1], parts[2], parts[3]});
    }
  }
  return checks;
}

}  // namespace baton::shmctl
