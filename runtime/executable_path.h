// Where Baton's own programs are.
#ifndef BATON_RUNTIME_EXECUTABLE_PATH_H_
#define BATON_RUNTIME_EXECUTABLE_PATH_H_

#include <string>

#include "absl/status/statusor.h"

namespace baton::runtime {

// The path of `program` ("baton-worker", "baton-supervisor"): in
// $BATON_LIBEXEC_DIR if that is set (and nowhere else then), beside the running
// program, in ../bin or ../libexec/baton from there, or where Baton was
// installed. NOT_FOUND names
// the places that were looked at. Thread-safe.
absl::StatusOr<std::string> FindExecutable(const std::string& program);

}  // namespace baton::runtime

#endif  // BATON_RUNTIME_EXECUTABLE_PATH_H_
