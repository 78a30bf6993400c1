// A full request against the floor, in one run.
//
//   RoundTrip/<bytes>  loan, describe, submit, the worker takes and answers,
//                      read, release; a model that does nothing; a payload of
//                      <bytes> that is already in place
//   RoundTrip/device   the same with 64 bytes, and a result that stays on the
//                      device, the host's: leased as it is read, returned as it
//                      is released
//   PingPongFloor      a bare cache-line ping-pong between two processes
//
// Front and worker are pinned to two CPUs, and so is the ping-pong. Samples of
// both are taken in turn, a slice each, so that noise on the machine meets
// both alike; counters are percentiles over all slices.
#include <benchmark/benchmark.h>
#include <sched.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "baton/front.h"
#include "bench/experiment.h"
#include "bench/null_server.h"
#include "bench/ping_pong.h"
#include "bench/plain_names.h"
#include "bench/round_trip.h"

namespace baton::bench {
namespace {

constexpr int kFrontCpu = 0;
constexpr int kPeerCpu = 1;

class PingPongSubject final : public Subject {
 public:
  bool Begin() override {
    ping_pong_.emplace(kPeerCpu);
    return ping_pong_->ok();
  }
  void End() override { ping_pong_.reset(); }
  bool Once() override {
    ping_pong_->Round();
    return true;
  }

 private:
  std::optional<PingPong> ping_pong_;
};

absl::Status AddRoundTrips(Experiment& experiment, Front& front) {
  for (const int64_t bytes : {int64_t{64}, int64_t{4096}, int64_t{1} << 20, int64_t{16} << 20}) {
    absl::StatusOr<Channel> channel = front.OpenChannel(BusyChannel(bytes));
    if (!channel.ok()) return channel.status();
    auto subject = std::make_unique<RoundTripSubject>(*std::move(channel), bytes);
    if (!subject->status().ok()) return subject->status();
    experiment.Add("RoundTrip/" + std::to_string(bytes), std::move(subject));
  }
  return absl::OkStatus();
}

absl::Status AddDeviceRoundTrip(Experiment& experiment, Front& front) {
  ChannelOptions options = BusyChannel(64);
  options.device_result_bytes = NullServer::kDeviceResultBytes;
  absl::StatusOr<Channel> channel = front.OpenChannel(options);
  if (!channel.ok()) return channel.status();
  auto subject = std::make_unique<RoundTripSubject>(*std::move(channel), 64,
                                                    PlanOptions{.results_on_device = true});
  if (!subject->status().ok()) return subject->status();
  experiment.Add("RoundTrip/device", std::move(subject));
  return absl::OkStatus();
}

int Main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (::sysconf(_SC_NPROCESSORS_ONLN) < 2) {
    std::fprintf(stderr, "roundtrip_bench needs two CPUs\n");
    return 1;
  }
  Experiment experiment;
  absl::StatusOr<std::unique_ptr<NullServer>> server = NullServer::Launch(kPeerCpu);
  if (!server.ok()) {
    std::fprintf(stderr, "%s\n", server.status().ToString().c_str());
    return 1;
  }
  experiment.Add("PingPongFloor", std::make_unique<PingPongSubject>());
  absl::Status status = AddRoundTrips(experiment, (*server)->front());
  if (status.ok()) status = AddDeviceRoundTrip(experiment, (*server)->front());
  if (!status.ok()) {
    std::fprintf(stderr, "%s\n", status.ToString().c_str());
    return 1;
  }
  // After the channels: one that is made by a thread with a single CPU never spins.
  if (!PinThisThread(kFrontCpu)) std::fprintf(stderr, "cannot pin to CPU %d\n", kFrontCpu);
  for (const char* name : {"PingPongFloor", "RoundTrip/64", "RoundTrip/4096", "RoundTrip/1048576",
                           "RoundTrip/16777216", "RoundTrip/device"}) {
    benchmark::RegisterBenchmark(
        name, [&experiment, name](benchmark::State& state) { experiment.Report(state, name); })
        ->UseManualTime()
        ->Iterations(1);
  }
  PlainNames reporter;
  benchmark::RunSpecifiedBenchmarks(&reporter);
  benchmark::Shutdown();
  return 0;
}

}  // namespace
}  // namespace baton::bench

int main(int argc, char** argv) { return baton::bench::Main(argc, argv); }
