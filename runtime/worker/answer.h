// How a request ended, as it goes into a completion entry.
#ifndef BATON_RUNTIME_WORKER_ANSWER_H_
#define BATON_RUNTIME_WORKER_ANSWER_H_

#include <cstdint>
#include <utility>

#include "absl/status/status.h"

#include "runtime/worker/response_writer.h"

namespace baton::runtime {

struct Answer {
  absl::Status status;
  ResponseWriter::Description description;
  uint64_t needed_bytes = 0;
  uint64_t needed_device_bytes = 0;
  bool dropped = false;  // expired or cancelled before it was started

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
};

}  // namespace baton::runtime

#endif  // BATON_RUNTIME_WORKER_ANSWER_H_
