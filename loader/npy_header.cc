#include "loader/npy_header.h"

#include <limits>
#include <set>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

#include "baton/tensor.h"

namespace baton::loader {
namespace {

// Reads the few Python literals that a header is made of, left to right.
class Cursor {
 public:
  explicit Cursor(std::string_view text) : text_(text) {}

  // Takes `token` if it comes next, after spaces.
  bool Take(std::string_view token) {
    SkipSpaces();
    if (!text_.starts_with(token)) return false;
    text_.remove_prefix(token.size());
    return true;
  }

  // 'text' or "text", without escapes.
  bool TakeString(std::string& value) {
    SkipSpaces();
    if (text_.empty() || (text_[0] != '\'' && text_[0] != '"')) return false;
    const size_t end = text_.find(text_[0], 1);
    if (end == std::string_view::npos) return false;
    value = std::string(text_.substr(1, end - 1));
    text_.remove_prefix(end + 1);
    return value.find('\\') == std::string::npos;
  }

  bool TakeBool(bool& value) {
    value = Take("True");
    return value || Take("False");
  }

  bool TakeSize(int64_t& value) {
    SkipSpaces();
    if (text_.empty() || !absl::ascii_isdigit(static_cast<unsigned char>(text_[0]))) return false;
    value = 0;
    while (!text_.empty() && absl::ascii_isdigit(static_cast<unsigned char>(text_[0]))) {
      const int64_t digit = text_[0] - '0';
      if (value > (std::numeric_limits<int64_t>::max() - digit) / 10) return false;
      value = value * 10 + digit;
      text_.remove_prefix(1);
    }
    Take("L");  // Python 2 wrote 3L
    return true;
  }

  // (), (3,), (3, 4)
  bool TakeShape(std::vector<int64_t>& shape) {
    if (!Take("(")) return false;
    while (!Take(")")) {
      if (shape.size() == kMaxRank) return false;
      if (!TakeSize(shape.emplace_back())) return false;
      if (!Take(",")) return Take(")") && shape.size() > 1;  // (3) is no tuple
    }
    return true;
  }

  bool AtEnd() {
    SkipSpaces();
    return text_.empty();
  }

 private:
  void SkipSpaces() {
    while (!text_.empty() && absl::ascii_isspace(static_cast<unsigned char>(text_[0]))) {
      text_.remove_prefix(1);
    }
  }

  std::string_view text_;
};

bool TakeValue(Cursor& cursor, const std::string& key, NpyHeader& header) {
  if (key == "descr") return cursor.TakeString(header.descr);
  if (key == "fortran_order") return cursor.TakeBool(header.fortran_order);
  return key == "shape" && cursor.TakeShape(header.shape);
}

}  // namespace

absl::StatusOr<NpyHeader> ParseNpyHeader(std::string_view text) {
  NpyHeader header;
  Cursor cursor(text);
  if (!cursor.Take("{")) return absl::InvalidArgumentError("the header is no dictionary");
  std::set<std::string> seen;
  while (!cursor.Take("}")) {
    std::string key;
    if (!cursor.TakeString(key) || !cursor.Take(":")) {
      return absl::InvalidArgumentError("the header is not {'key': value, ...}");
    }
    const std::string shown = absl::Utf8SafeCEscape(key);
    if (!seen.insert(key).second) {
      return absl::InvalidArgumentError(absl::StrCat("'", shown, "' is given twice"));
    }
    if (!TakeValue(cursor, key, header)) {
      return absl::InvalidArgumentError(
          absl::StrCat("'", shown,
                       "' is unknown, or its value is not one that can be read (plain "
                       "dtypes, True or False, shapes of at most ",
                       kMaxRank, " dimensions)"));
    }
    if (!cursor.Take(",")) {
      if (cursor.Take("}")) break;
      return absl::InvalidArgumentError("the header does not end");
    }
  }
  if (!cursor.AtEnd()) return absl::InvalidArgumentError("there is more after the header");
  if (seen.size() != 3) {
    return absl::InvalidArgumentError("the header needs descr, fortran_order and shape");
  }
  return header;
}

}  // namespace baton::loader
