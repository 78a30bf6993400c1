// Calls a Python model as a worker does, with arguments and results written as
// Python.
#ifndef BATON_TESTS_LOADER_PYTHON_PYTHON_CALL_H_
#define BATON_TESTS_LOADER_PYTHON_PYTHON_CALL_H_

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "loader/model.h"
#include "tests/loader/python/block_sink.h"

namespace baton::loader {

// A block that a request's tensors lie in. Its bytes are overwritten with 0xee
// at its end, which a model that keeps it puts off.
class RequestBlock;

// Of tests/loader/python/models.
std::string PythonModelDirectory(const std::string& name);
// Staged and uploaded.
absl::StatusOr<std::unique_ptr<Model>> StartPythonModel(const std::string& directory);
absl::StatusOr<std::unique_ptr<Model>> StageDirectory(const std::string& directory);

// Number of the method of that name.
size_t MethodNumber(const Model& model, const std::string& name);

struct PythonCallOptions {
  bool can_keep = true;          // whether KeepInputs gives anything
  size_t block_bytes = 1 << 20;  // for the response
  std::string secrets = {};      // JSON; empty: none
};

// Calls `method` with `arguments`, a Python expression that gives a dict; what
// is not in it is left out. The result is the repr of what came back: of the
// one object, of a tuple, or of NamedFields. numpy is `np`, and the names of
// baton.data_types are there.
absl::StatusOr<std::string> CallPython(Model& model, const std::string& method,
                                       const std::string& arguments,
                                       const PythonCallOptions& options = {});

// A call that streams. `items` are Python expressions of what each item gives
// to the streaming input.
class PythonStreamCall {
 public:
  PythonStreamCall(Model& model, const std::string& method, const std::string& arguments,
                   std::vector<std::string> items = {}, const std::string& secrets = "");
  ~PythonStreamCall();

  const absl::Status& started() const { return started_; }
  // The repr of the next response; "<end>" after the last; "<too small>".
  absl::StatusOr<std::string> Next(size_t block_bytes = 1 << 20);
  // How many items the model has asked for, and has got.
  size_t items_taken() const;
  // What the source says in place of an item from now on.
  void EndItems(const absl::Status& status);
  void Destroy();

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
  absl::Status started_;
};

// Blocks that a model keeps at the moment.
int KeptBlocks();

}  // namespace baton::loader

#endif  // BATON_TESTS_LOADER_PYTHON_PYTHON_CALL_H_
