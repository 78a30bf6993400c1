// Opens the library that has Python in it.
#ifndef BATON_LOADER_PYTHON_OPEN_BACKEND_H_
#define BATON_LOADER_PYTHON_OPEN_BACKEND_H_

#include <memory>

#include "absl/status/statusor.h"

#include "loader/model.h"
#include "loader/model_config.h"

namespace baton::loader {

// Stages a Python model: opens libbaton_python.so, which lies beside the
// program or in $BATON_LIBEXEC_DIR, starts the interpreter where it does not
// run yet, and runs model.py. The library is never closed.
//
// UNIMPLEMENTED where this build has no Python, or the machine lacks a library
// of it; FAILED_PRECONDITION where the library is of another build. What else
// can go wrong: loader/python/python_model.h.
absl::StatusOr<std::unique_ptr<Model>> StagePythonModel(const ModelConfig& config);

}  // namespace baton::loader

#endif  // BATON_LOADER_PYTHON_OPEN_BACKEND_H_
