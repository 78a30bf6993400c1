// A private server of the digits model, and callers that each have one request in
// flight, all of one thread.
#ifndef BATON_BENCH_DIGITS_CALLERS_H_
#define BATON_BENCH_DIGITS_CALLERS_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "baton/front.h"
#include "bench/subject.h"

namespace baton::bench {

class DigitsCallers {
 public:
  struct Options {
    uint32_t max_batch = 1;  // 1: no batching
    int64_t max_delay_us = 0;
    size_t callers = 1;
    size_t channels = 1;  // which share the callers, as many each
    int worker_cpu = 0;   // of its serving thread
  };
  static absl::StatusOr<std::unique_ptr<DigitsCallers>> Start(const Options& options);
  ~DigitsCallers();

  // From then on the callers are the subject's; it goes before this. Latencies are from
  // a Submit to the Poll that gives its answer. The figure service_us is the time in
  // the model, the median over requests.
  absl::StatusOr<std::unique_ptr<Subject>> MakeSubject();

 private:
  DigitsCallers() = default;
  Options options_;
  std::string directory_;  // removed at the end
  std::unique_ptr<Front> front_;
};

}  // namespace baton::bench

#endif  // BATON_BENCH_DIGITS_CALLERS_H_
