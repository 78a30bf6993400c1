// A class in model.py as a model.
#ifndef BATON_LOADER_PYTHON_PYTHON_MODEL_H_
#define BATON_LOADER_PYTHON_PYTHON_MODEL_H_

#include <memory>

#include "absl/status/statusor.h"

#include "loader/model.h"
#include "loader/model_config.h"

namespace baton::python {

// Runs config.file in the process's interpreter, finds the one class that is a
// model and reads its methods. Options:
//   executable   the python whose packages are to be found
//   construct    "staging" or "admission": when the model is made and its
//                load_model() runs; left out, in staging on the host and at
//                admission on a GPU
//   num_threads  calls that may run at once, each on a thread of its own; 1: all
//                on the thread that calls
//
// INVALID_ARGUMENT: the file, or its class, is none that can be served, with
// the place. UNKNOWN: the model's own code raised, with the traceback.
absl::StatusOr<std::unique_ptr<loader::Model>> StageModel(const loader::ModelConfig& config);

}  // namespace baton::python

#endif  // BATON_LOADER_PYTHON_PYTHON_MODEL_H_
