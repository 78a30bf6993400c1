#include "tools/shmctl/wrapped_text.h"

#include <algorithm>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace baton::shmctl {
namespace {

std::string Padded(absl::string_view label, size_t cells) {
  const size_t used = TextCells(label);
  return absl::StrCat(label, std::string(cells > used ? cells - used : 0, ' '));
}

bool IsNumber(absl::string_view word) {
  return absl::ascii_isdigit(static_cast<unsigned char>(word.front())) &&
         word.find_first_not_of("0123456789.") == absl::string_view::npos;
}

// Words, each number with the one behind it: "2.90 ms" is never broken.
std::vector<std::string> Words(absl::string_view text) {
  std::vector<std::string> words;
  bool after_number = false;
  for (const absl::string_view word : absl::StrSplit(text, ' ', absl::SkipEmpty())) {
    if (after_number) {
      absl::StrAppend(&words.back(), " ", word);
    } else {
      words.emplace_back(word);
    }
    after_number = IsNumber(word);
  }
  return words;
}

}  // namespace

size_t TextCells(absl::string_view text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xc0) != 0x80;  // all but continuation bytes
  }));
}

std::string Printable(absl::string_view text) {
  std::string clean(text);
  for (size_t i = 0; i < clean.size(); ++i) {
    const auto byte = static_cast<unsigned char>(clean[i]);
    const bool control = (byte < 0x20 && byte != '\n') || byte == 0x7f;
    // U+0080 to U+009F are control characters too.
    const bool c1 = byte == 0xc2 && i + 1 < clean.size() &&
                    static_cast<unsigned char>(clean[i + 1]) >= 0x80 &&
                    static_cast<unsigned char>(clean[i + 1]) < 0xa0;
    if (c1) clean.erase(i, 1);
    if (control || c1) clean[i] = byte == '\t' ? ' ' : '?';
  }
  return clean;
}

std::string WrappedRow(absl::string_view label, size_t indent, absl::string_view text,
                       size_t width) {
  const std::string clean = Printable(text);
  std::string out;
  std::string line = Padded(label, indent);
  size_t used = TextCells(line);
  bool empty = true;  // the line has no word yet
  const auto end_line = [&] {
    while (!line.empty() && line.back() == ' ') line.pop_back();
    absl::StrAppend(&out, line, "\n");
    line.assign(indent, ' ');
    used = indent;
    empty = true;
  };
  bool first = true;
  for (const absl::string_view part : absl::StrSplit(clean, '\n')) {
    if (!first) end_line();
    first = false;
    for (const std::string& word : Words(part)) {
      const size_t cells = TextCells(word);
      if (!empty && used + 1 + cells > width) end_line();
      if (!empty) absl::StrAppend(&line, " ");
      absl::StrAppend(&line, word);
      used += cells + (empty ? 0 : 1);
      empty = false;
    }
  }
  end_line();
  return out;
}

}  // namespace baton::shmctl
