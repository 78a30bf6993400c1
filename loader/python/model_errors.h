// Python exceptions of a model's code as statuses.
#ifndef BATON_LOADER_PYTHON_MODEL_ERRORS_H_
#define BATON_LOADER_PYTHON_MODEL_ERRORS_H_

#include <string>

#include "absl/status/status.h"

namespace baton::python {

// Who speaks in an error.
struct ModelName {
  std::string name;
  std::string folder;  // of model.py: the place that is named first is in there
};

// The Python error that is set, cleared: "ValueError: why (model.py:12)", and
// the traceback below; less than 4 KiB. Also SystemExit and KeyboardInterrupt:
// they end a call, not the worker. With the GIL.
std::string TakeErrorText(const ModelName& model);

// As a status: "python model 'digits': predict:
// ValueError: ...".
absl::Status TakeModelError(const ModelName& model, const std::string& what, absl::StatusCode code);

// An error that is no exception, in the same words.
absl::Status ModelError(const ModelName& model, const std::string& what,
                        const absl::Status& status);

}  // namespace baton::python

#endif  // BATON_LOADER_PYTHON_MODEL_ERRORS_H_
