#include "tests/layering/layering.h"

#include <algorithm>
#include <array>
#include <fstream>
#include <map>
#include <optional>
#include <regex>
#include <string_view>
#include <utility>

namespace baton::layering {
namespace {

namespace fs = std::filesystem;

// Lowest first. The last three are side by side: of them only tests may use another.
constexpr std::array<std::string_view, 7> kFolders = {"ipc",   "kernels", "loader", "runtime",
                                                      "tools", "bench",   "tests"};
constexpr size_t kFirstTopFolder = 4;

struct SourceFile {
  fs::path path;       // absolute
  fs::path relative;   // from the repository root
  std::string folder;  // one of kFolders
};

std::optional<size_t> Rank(std::string_view folder) {
  const auto it = std::find(kFolders.begin(), kFolders.end(), folder);
  if (it == kFolders.end()) return std::nullopt;
  return static_cast<size_t>(it - kFolders.begin());
}

bool StartsWith(const fs::path& path, std::string_view prefix) {
  return path.generic_string().starts_with(prefix);
}

// `user` and `used` are paths from the repository root; `used` may be a folder.
bool Allowed(const fs::path& user, const fs::path& used) {
  const size_t from = *Rank(user.begin()->string());
  const size_t to = *Rank(used.begin()->string());
  if (StartsWith(user, "runtime/front/") &&
      (StartsWith(used, "runtime/worker") || StartsWith(used, "runtime/supervisor"))) {
    return false;
  }
  if (from == to || kFolders[from] == "tests") return true;
  return from >= kFirstTopFolder ? to < kFirstTopFolder : to < from;
}

bool IsSource(const fs::path& path) {
  static const std::array<std::string_view, 6> kExtensions = {".cc",  ".h",     ".cu",
                                                              ".cuh", ".capnp", ".c"};
  return path.filename() == "CMakeLists.txt" ||
         std::find(kExtensions.begin(), kExtensions.end(), path.extension().string()) !=
             kExtensions.end();
}

std::vector<SourceFile> Sources(const fs::path& root) {
  std::vector<SourceFile> files;
  for (const std::string_view folder : kFolders) {
    if (!fs::exists(root / folder)) continue;
    for (const fs::directory_entry& entry : fs::recursive_directory_iterator(root / folder)) {
      if (!entry.is_regular_file() || !IsSource(entry.path())) continue;
      files.push_back({entry.path(), fs::relative(entry.path(), root), std::string(folder)});
    }
  }
  return files;
}

std::vector<std::string> Lines(const fs::path& path) {
  std::ifstream in(path);
  std::vector<std::string> lines;
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

std::string Complain(const SourceFile& file, size_t line, const std::string& what) {
  return file.relative.generic_string() + ":" + std::to_string(line + 1) + ": " + what;
}

// Public headers are included without the folder that they lie in: "baton/x.h" -> that folder.
std::map<std::string, fs::path> PublicHeaders(const std::vector<SourceFile>& files) {
  std::map<std::string, fs::path> headers;
  for (const SourceFile& file : files) {
    const std::string path = file.relative.generic_string();
    const size_t at = path.find("/include/baton/");
    if (at != std::string::npos) {
      headers[path.substr(at + std::string_view("/include/").size())] = file.relative;
    }
  }
  return headers;
}

void CheckIncludes(const SourceFile& file, const std::map<std::string, fs::path>& public_headers,
                   std::vector<std::string>* violations) {
  static const std::regex kInclude(R"(^\s*#\s*include\s*([<"])([^">]+)[">])");
  static const std::regex kImport(R"(\bimport\s*(")/?([^"]+)\")");
  const std::regex& pattern = file.path.extension() == ".capnp" ? kImport : kInclude;
  const std::vector<std::string> lines = Lines(file.path);
  for (size_t i = 0; i < lines.size(); ++i) {
    std::smatch match;
    if (!std::regex_search(lines[i], match, pattern)) continue;
    const std::string included = match[2];
    fs::path used = included;
    if (const auto it = public_headers.find(included); it != public_headers.end()) {
      used = it->second;
    }
    const bool beside = match[1] == "\"" && fs::exists(file.path.parent_path() / included);
    if (!Rank(used.begin()->string())) {
      if (&pattern == &kInclude && (beside || used.begin()->string() == "..")) {
        violations->push_back(Complain(file, i, "relative include of " + included));
      }
    } else if (!Allowed(file.relative, used)) {
      violations->push_back(
          Complain(file, i, "must not depend on " + used.generic_string() + " (" + lines[i] + ")"));
    }
  }
}

// Which folder defines which CMake target.
std::map<std::string, fs::path> Targets(const std::vector<SourceFile>& files) {
  static const std::regex kDefinition(
      R"((?:baton|add)_(?:library|executable)\(\s*([A-Za-z0-9_:-]+))");
  std::map<std::string, fs::path> targets;
  for (const SourceFile& file : files) {
    if (file.path.filename() != "CMakeLists.txt") continue;
    for (const std::string& line : Lines(file.path)) {
      std::smatch match;
      if (std::regex_search(line, match, kDefinition)) {
        targets[match[1]] = file.relative.parent_path();
      }
    }
  }
  return targets;
}

void CheckLinks(const SourceFile& file, const std::map<std::string, fs::path>& targets,
                std::vector<std::string>* violations) {
  static const std::regex kWord(R"([A-Za-z0-9_:-]+)");
  const std::vector<std::string> lines = Lines(file.path);
  for (size_t i = 0; i < lines.size(); ++i) {
    const std::string code = lines[i].substr(0, lines[i].find('#'));
    for (std::sregex_iterator word(code.begin(), code.end(), kWord), end; word != end; ++word) {
      const auto target = targets.find(word->str());
      if (target != targets.end() && !Allowed(file.relative, target->second)) {
        violations->push_back(Complain(file, i, "must not use the target " + target->first));
      }
    }
  }
}

}  // namespace

std::vector<std::string> Violations(const fs::path& root) {
  const std::vector<SourceFile> files = Sources(root);
  const std::map<std::string, fs::path> public_headers = PublicHeaders(files);
  const std::map<std::string, fs::path> targets = Targets(files);
  std::vector<std::string> violations;
  for (const SourceFile& file : files) {
    if (file.path.filename() == "CMakeLists.txt") {
      CheckLinks(file, targets, &violations);
    } else {
      CheckIncludes(file, public_headers, &violations);
    }
  }
  return violations;
}

int FilesSeen(const fs::path& root) { return static_cast<int>(Sources(root).size()); }

}  // namespace baton::layering
