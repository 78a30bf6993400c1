#include "bench/round_trip.h"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <utility>

namespace baton::bench {

RoundTripSubject::RoundTripSubject(Channel channel, int64_t bytes, const PlanOptions& options)
    : channel_(std::move(channel)) {
  const std::vector<TensorSpec>& inputs = channel_.methods()[options.method].signature.inputs;
  const TensorSpec input{.name = inputs[0].name, .dtype = DType::kUInt8, .shape = {bytes}};
  absl::StatusOr<RequestPlan> plan = channel_.Plan({&input, 1}, options);
  if (plan.ok()) plan_ = *plan;
  status_ = plan.status();
}

bool RoundTripSubject::Once() {
  absl::StatusOr<Request> request = channel_.Loan(plan_);
  if (!request.ok()) {
    status_ = request.status();
    return false;
  }
  absl::StatusOr<Response> response = channel_.Call(*std::move(request));
  if (!response.ok()) {
    status_ = response.status();
    return false;
  }
  benchmark::DoNotOptimize(response->outputs()[0].bytes[0]);
  return true;
}

ChannelOptions BusyChannel(int64_t request_bytes, int64_t response_bytes) {
  ChannelOptions options;
  // The front owns its core here; both CPUs are busy by design.
  options.max_spin = absl::Milliseconds(100);
  options.request_arena_bytes = 2 * static_cast<uint64_t>(request_bytes) + (1 << 20);
  options.response_arena_bytes = std::max<uint64_t>(
      options.response_arena_bytes, 2 * static_cast<uint64_t>(response_bytes) + (1 << 20));
  return options;
}

}  // namespace baton::bench
