#include "ipc/redact.h"

#include <algorithm>
#include <vector>

namespace baton::ipc {

std::string Redacted(std::string_view text, std::span<const std::string_view> values) {
  // Marked first and cut out then: where values overlap, no rest of one is left.
  std::vector<bool> hidden(text.size());
  for (const std::string_view value : values) {
    if (value.size() < kMinRedactedBytes) continue;
    for (size_t at = text.find(value); at != text.npos; at = text.find(value, at + 1)) {
      std::fill_n(hidden.begin() + static_cast<std::ptrdiff_t>(at), value.size(), true);
    }
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
