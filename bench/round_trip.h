// The cheapest way of calling a model from C++, as something that is measured.
#ifndef BATON_BENCH_ROUND_TRIP_H_
#define BATON_BENCH_ROUND_TRIP_H_

#include <cstdint>

#include "absl/status/status.h"

#include "baton/front.h"
#include "bench/experiment.h"

namespace baton::bench {

// Loan, call, one byte of the first result read, release. The payload is in
// place already: nothing is copied.
class RoundTripSubject final : public Subject {
 public:
  // `bytes` of uint8 as the method's first input, whatever it is called.
  RoundTripSubject(Channel channel, int64_t bytes, const PlanOptions& options = {});
  // Of the plan; or why a call failed.
  const absl::Status& status() const { return status_; }

  bool Once() override;

 private:
  Channel channel_;
  RequestPlan plan_;
  absl::Status status_;
};

// Options for a channel whose user owns its CPU, with room for a request and
// for a response of `bytes`.
ChannelOptions BusyChannel(int64_t request_bytes, int64_t response_bytes = 0);

}  // namespace baton::bench

#endif  // BATON_BENCH_ROUND_TRIP_H_
