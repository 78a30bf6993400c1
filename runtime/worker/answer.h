// How a request ended in a worker, as it goes into a completion entry.
//
// Plain values; belong to the serving thread.
#ifndef BATON_RUNTIME_WORKER_ANSWER_H_
#define BATON_RUNTIME_WORKER_ANSWER_H_

#include <cstdint>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "runtime/worker/response_writer.h"

namespace baton::runtime {

struct Answer {
  absl::Status status;
  ResponseWriter::Description description;
  uint64_t needed_bytes = 0;
  uint64_t needed_device_bytes = 0;
  bool dropped = false;  // not started: expired, cancelled, or its inputs are not here
  bool stale_inputs = false;

  static Answer Refusal(absl::Status status) {
    Answer answer;
    answer.status = std::move(status);
    return answer;
  }
  static Answer Dropped(absl::Status status) {
    Answer answer = Refusal(std::move(status));
    answer.dropped = true;
    return answer;
  }
  static Answer Cancelled() { return Dropped(absl::CancelledError("cancelled while it waited")); }
  static Answer StaleInputs(uint32_t lie_in, uint64_t generation) {
    Answer answer = Dropped(absl::UnavailableError(
        absl::StrCat("its inputs lie in device memory of generation ", lie_in, ", not of ",
                     generation, ", which serves: fill them in again")));
    answer.stale_inputs = true;
    return answer;
  }
};

}  // namespace baton::runtime

#endif  // BATON_RUNTIME_WORKER_ANSWER_H_
