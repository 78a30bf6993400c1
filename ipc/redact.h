// Takes secrets out of a text that somebody is going to read.
#ifndef BATON_IPC_REDACT_H_
#define BATON_IPC_REDACT_H_

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace baton::ipc {

// Shorter values stay: "1" or "yes" is in every other text, and nobody's secret.
inline constexpr size_t kMinRedactedBytes = 4;

// Of a value of several lines (a key, a certificate) each line is a secret, but
// for such short ones.
inline constexpr size_t kMinRedactedLineBytes = 8;

// `text` with "***" where one of `values`, or several that overlap, stood. Only
// whole values and whole lines of them are found: not a part of one, nor one in
// another encoding.
// Thread safety: a pure function. Cost: one search of the text for each value.
std::string Redacted(std::string_view text, std::span<const std::string_view> values);

}  // namespace baton::ipc

#endif  // BATON_IPC_REDACT_H_
