#include "runtime/executable_path.h"

#include <unistd.h>

#include <climits>
#include <cstdlib>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace baton::runtime {
namespace {

std::string DirectoryOfThisProgram() {
  char path[PATH_MAX];
  const ssize_t length = ::readlink("/proc/self/exe", path, sizeof(path));
  if (length <= 0) return "";
  const std::string whole(path, static_cast<size_t>(length));
  return whole.substr(0, whole.rfind('/'));
}

}  // namespace

absl::StatusOr<std::string> FindExecutable(const std::string& program) {
  std::vector<std::string> directories;
  if (const char* asked = std::getenv("BATON_LIBEXEC_DIR"); asked != nullptr && *asked != '\0') {
    directories = {asked};
  } else {
    const std::string here = DirectoryOfThisProgram();
    // The second in a build tree, the third where Baton was installed.
    directories = {here, here + "/../bin", here + "/../libexec/baton"};
    directories.emplace_back(BATON_INSTALL_LIBEXEC_DIR);
  }
  for (const std::string& directory : directories) {
    const std::string path = directory + "/" + program;
    if (::access(path.c_str(), X_OK) == 0) return path;
  }
  return absl::NotFoundError(
      absl::StrCat("cannot find the program ", program, " in ", absl::StrJoin(directories, ", "),
                   ": install Baton, or set BATON_LIBEXEC_DIR to its folder"));
}

}  // namespace baton::runtime
