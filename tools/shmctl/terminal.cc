#include "tools/shmctl/terminal.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/string_view.h"

namespace baton::shmctl {
namespace {

constexpr size_t kMinWidth = 40;
constexpr size_t kMaxWidth = 1000;
constexpr size_t kWidthOfNoTerminal = 80;

absl::string_view Variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? absl::string_view() : absl::string_view(value);
}

}  // namespace

size_t OutputWidth() {
  uint32_t width = 0;
  struct winsize window = {};
  if (!absl::SimpleAtoi(Variable("COLUMNS"), &width) || width == 0) {
    width = ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &window) == 0 ? window.ws_col : 0;
  }
  return width == 0 ? kWidthOfNoTerminal : std::clamp<size_t>(width, kMinWidth, kMaxWidth);
}

bool OutputHasColours() {
  return ::isatty(STDOUT_FILENO) == 1 && Variable("NO_COLOR").empty() && Variable("TERM") != "dumb";
}

bool OutputIsUtf8() {
  for (const char* name : {"LC_ALL", "LC_CTYPE", "LANG"}) {
    const std::string value = absl::AsciiStrToLower(Variable(name));
    if (value.empty()) continue;
    return absl::StrContains(value, "utf-8") || absl::StrContains(value, "utf8");
  }
  return false;
}

}  // namespace baton::shmctl
