#include "ipc/redact.h"

#include <algorithm>
#include <vector>

namespace baton::ipc {
namespace {

void Mark(std::string_view text, std::string_view value, std::vector<bool>& hidden) {
  for (size_t at = text.find(value); at != text.npos; at = text.find(value, at + 1)) {
    std::fill_n(hidden.begin() + static_cast<std::ptrdiff_t>(at), value.size(), true);
  }
}

void MarkLines(std::string_view text, std::string_view value, std::vector<bool>& hidden) {
  while (!value.empty()) {
    const size_t end = std::min(value.find('\n'), value.size());
    std::string_view line = value.substr(0, end);
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.size() >= kMinRedactedLineBytes) Mark(text, line, hidden);
    value.remove_prefix(std::min(end + 1, value.size()));
  }
}

}  // namespace

std::string Redacted(std::string_view text, std::span<const std::string_view> values) {
  // Marked first and cut out then: where values overlap, no rest of one is left.
  std::vector<bool> hidden(text.size());
  for (const std::string_view value : values) {
    if (value.size() < kMinRedactedBytes) continue;
    Mark(text, value, hidden);
    if (value.find('\n') != value.npos) MarkLines(text, value, hidden);
  }
  std::string clean;
  for (size_t i = 0; i < text.size(); ++i) {
    if (!hidden[i]) {
      clean += text[i];
    } else if (i == 0 || !hidden[i - 1]) {
      clean += "***";
    }
  }
  return clean;
}

}  // namespace baton::ipc
