// Runs a model on a Baton server.
#ifndef BATON_TOOLS_EXAMPLES_SERVED_INFER_H_
#define BATON_TOOLS_EXAMPLES_SERVED_INFER_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

#include "baton/options.h"
#include "tools/examples/infer.h"

namespace baton::examples {

struct ServedModel {
  std::string name;             // of the server
  uint64_t response_bytes = 0;  // what results may take; 0: as the front guesses
  FrontOptions front = {};
  CallOptions call = {};
};

// Joins the server and opens a channel; both end with the last copy of the
// result. Each call fills a request in shared memory and copies the results out
// of the response. Thread safety: none, one channel stands behind it.
absl::StatusOr<Infer> ServedInfer(const ServedModel& model);

}  // namespace baton::examples

#endif  // BATON_TOOLS_EXAMPLES_SERVED_INFER_H_
