#ifndef BATON_TESTS_LAYERING_LAYERING_H_
#define BATON_TESTS_LAYERING_LAYERING_H_

#include <filesystem>
#include <string>
#include <vector>

namespace baton::layering {

// Reads the sources, schemas and CMakeLists.txt files below the repository root `root` and returns
// one line for each use of a folder that the using file's folder may not depend on:
//
//   tools, bench -> runtime -> loader -> kernels -> ipc        tests -> anything
//
// and `runtime/front`, which ends up in users' processes, uses neither `runtime/worker` nor
// `runtime/supervisor`. A relative include is a violation too: it hides what it depends on.
std::vector<std::string> Violations(const std::filesystem::path& root);

// How many files `Violations` looks at, so that a test can tell "clean" from "saw nothing".
int FilesSeen(const std::filesystem::path& root);

}  // namespace baton::layering

#endif  // BATON_TESTS_LAYERING_LAYERING_H_
