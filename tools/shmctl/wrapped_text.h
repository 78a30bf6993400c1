// Text in a terminal's width.
//
// Plain functions, any thread. A width counts characters of UTF-8, each as one
// cell.
#ifndef BATON_TOOLS_SHMCTL_WRAPPED_TEXT_H_
#define BATON_TOOLS_SHMCTL_WRAPPED_TEXT_H_

#include <cstddef>
#include <string>

#include "absl/strings/string_view.h"

namespace baton::shmctl {

// How many cells `text` takes.
size_t TextCells(absl::string_view text);

// `text` without what a terminal would obey: a model's own words may stand in
// it. Line ends stay.
std::string Printable(absl::string_view text);

// `label`, padded to `indent` cells, then `text` broken between words so that no
// line is longer than `width`; further lines start at `indent`. A number stays with the word behind
// it. Words that are too long stand on a line of their own, whole: they may be paths, to be copied.
// Ends with a line end. Printable.
std::string WrappedRow(absl::string_view label, size_t indent, absl::string_view text,
                       size_t width);

}  // namespace baton::shmctl

#endif  // BATON_TOOLS_SHMCTL_WRAPPED_TEXT_H_
