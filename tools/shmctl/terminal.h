// What standard output is: how wide, and whether it shows colours and more than
// ASCII.
//
// Plain functions, any thread that changes no environment variables meanwhile.
#ifndef BATON_TOOLS_SHMCTL_TERMINAL_H_
#define BATON_TOOLS_SHMCTL_TERMINAL_H_

#include <cstddef>

namespace baton::shmctl {

// $COLUMNS, else the terminal's own, else 80; at least 40.
size_t OutputWidth();

// On a terminal, unless NO_COLOR is set (no-color.org) or TERM is "dumb".
bool OutputHasColours();

// The locale's character set is UTF-8.
bool OutputIsUtf8();

}  // namespace baton::shmctl

#endif  // BATON_TOOLS_SHMCTL_TERMINAL_H_
