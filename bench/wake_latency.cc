#include "bench/wake_latency.h"

#include <time.h>

#include <cstring>
#include <utility>

#include "baton/front.h"
#include "bench/cpu_pair.h"

namespace baton::bench {
namespace {

constexpr uint64_t kPauseNs = 100'000;

uint64_t NsOf(clockid_t clock) {
  timespec now;
  ::clock_gettime(clock, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

class WakeLatency final : public Subject {
 public:
  WakeLatency(Channel channel, BoundRequest bound)
      : channel_(std::move(channel)), bound_(std::move(bound)) {
    std::memcpy(bound_.input_bytes(0).data(), &kPauseNs, sizeof(kPauseNs));
  }

  absl::Status Run(uint64_t until, Measured& measured) override {
    const uint64_t began = Ticks();
    const uint64_t cpu_began_ns = NsOf(CLOCK_THREAD_CPUTIME_ID);
    do {
      if (absl::Status status = channel_.Call(bound_); !status.ok()) return status;
      // One clock for both processes.
      const uint64_t now_ns = NsOf(CLOCK_MONOTONIC);
      measured.latency.Add(now_ns - bound_.output<uint64_t>(0)[0]);
      ++measured.operations;
    } while (Ticks() < until);
    measured.ticks += Ticks() - began;
    double& cpu_ns = measured.figures["cpu_ns"];
    cpu_ns += static_cast<double>(NsOf(CLOCK_THREAD_CPUTIME_ID) - cpu_began_ns);
    measured.figures["cpu_share"] = cpu_ns / (static_cast<double>(measured.ticks) * NsPerTick());
    measured.figures["pause_us"] = static_cast<double>(kPauseNs) / 1e3;
    return absl::OkStatus();
  }

 private:
  Channel channel_;
  BoundRequest bound_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Subject>> MakeWakeLatency(NullServer& server, absl::Duration spin) {
  ChannelOptions options;
  options.backing = ChannelOptions::Backing::kMemfd;
  options.max_spin = spin;
  // One that is opened by a thread with a single CPU never spins.
  const Unpinned unpinned;
  absl::StatusOr<Channel> channel = server.front().OpenChannel(options);
  if (!channel.ok()) return channel.status();
  const absl::StatusOr<uint32_t> method = channel->FindMethod("pause");
  if (!method.ok()) return method.status();
  const TensorSpec payload{.name = "payload", .dtype = DType::kUInt8, .shape = {sizeof(kPauseNs)}};
  const absl::StatusOr<RequestPlan> plan =
      channel->Plan({&payload, 1}, PlanOptions{.method = *method});
  if (!plan.ok()) return plan.status();
  absl::StatusOr<BoundRequest> bound = channel->Bind(*plan);
  if (!bound.ok()) return bound.status();
  return std::make_unique<WakeLatency>(*std::move(channel), *std::move(bound));
}

}  // namespace baton::bench
