// Closed-loop load on a server: so many threads, each with a channel of its
// own, each sending its next request when the last one was answered.
#ifndef BATON_TOOLS_SHMCTL_LOAD_GENERATOR_H_
#define BATON_TOOLS_SHMCTL_LOAD_GENERATOR_H_

#include <atomic>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "baton/front.h"
#include "runtime/latency_histogram.h"
#include "tools/shmctl/input_file.h"

namespace baton::shmctl {

struct LoadOptions {
  std::vector<HostTensor> inputs;  // every request's
  uint32_t concurrency = 1;
  absl::Duration duration = absl::Seconds(5);
  absl::Duration request_timeout = absl::Seconds(30);
  ChannelOptions channel;
  const std::atomic<bool>* stop = nullptr;  // when true: end early
};

struct LoadResult {
  struct Errors {
    uint64_t count = 0;
    std::string example;  // the first one's message
  };

  absl::Duration elapsed;             // to the end of the last request
  runtime::LatencyHistogram latency;  // of requests that succeeded: loan, fill, call
  uint64_t failed = 0;
  uint64_t output_bytes = 0;                 // of the last response
  std::map<uint64_t, uint64_t> generations;  // who answered how many
  std::map<absl::StatusCode, Errors> errors;
  bool server_ended = false;  // the load stopped because of it

  uint64_t succeeded() const { return latency.count(); }
};

// Opens all channels before the clock starts; an error if one cannot be opened
// or does not accept the inputs. Memory does not grow with the number of
// requests. Starts `concurrency` threads and waits for them.
absl::StatusOr<LoadResult> RunLoad(Front& front, const LoadOptions& options);

// An input for each of the signature's that `given` lacks: dynamic dimensions
// are 1, floats are random (but the same each time) in [0, 1), all else is 0.
absl::StatusOr<std::vector<HostTensor>> CompleteInputs(std::vector<HostTensor> given,
                                                       const Signature& signature);

}  // namespace baton::shmctl

#endif  // BATON_TOOLS_SHMCTL_LOAD_GENERATOR_H_
