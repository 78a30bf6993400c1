// A full request against the floor, in one run.
//
//   RoundTrip/<bytes>  loan, describe, submit, the worker takes and answers,
//                      read, release; a model that does nothing; a payload of
//                      <bytes> that is already in place
//   RoundTrip/device   the same with 64 bytes, and a result that stays on the
//                      device, the host's: leased as it is read, returned as it
//                      is released
//   Bound/64           the same as RoundTrip/64 with a bound request: one ring
//                      entry there, one back
//   PingPongFloor      a bare cache-line ping-pong between two processes
//   Pipelined/32       32 bound requests in flight on one channel: batches are
//                      taken as they come and submitted again; `per_second`
//   SpscRing/32        an entry there and one back through two bare rings of
//                      64-byte entries, 32 in flight
//
// Front and worker are pinned to two CPUs, and so is the ping-pong. Samples of
// both are taken in turn, a slice each, so that noise on the machine meets
// both alike; counters are percentiles over all slices.
#include <benchmark/benchmark.h>

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "baton/front.h"
#include "bench/experiment.h"
#include "bench/machine_name.h"
#include "bench/null_server.h"
#include "bench/ping_pong.h"
#include "bench/round_trip.h"
#include "bench/shown_rows.h"
#include "bench/spsc_ring.h"

namespace baton::bench {
namespace {

constexpr int kFrontCpu = 0;
constexpr int kPeerCpu = 1;
constexpr uint32_t kInFlight = 32;

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

class BoundSubject final : public Subject {
 public:
  BoundSubject(Channel channel, BoundRequest bound)
      : channel_(std::move(channel)), bound_(std::move(bound)) {}

  bool Once() override {
    if (!channel_.Call(bound_).ok()) return false;
    benchmark::DoNotOptimize(bound_.outputs()[0].bytes[0]);
    return true;
  }

 private:
  Channel channel_;
  BoundRequest bound_;
};

class PipelinedSubject final : public Subject {
 public:
  PipelinedSubject(Channel channel, std::vector<BoundRequest> bound)
      : channel_(std::move(channel)), bound_(std::move(bound)), outcomes_(bound_.size()) {
    for (BoundRequest& one : bound_) {
      one.set_tag(again_.size());
      again_.push_back(&one);
    }
  }
  uint32_t requests() const override { return kInFlight; }

  bool Begin() override {
    const absl::StatusOr<size_t> submitted = channel_.SubmitBatch(again_);
    again_.clear();
    return submitted.ok() && *submitted == bound_.size();
  }
  void End() override {
    while (again_.size() < bound_.size() && Take(bound_.size())) {
    }
  }
  bool Once() override {
    for (size_t taken = 0; taken < kInFlight; taken += again_.size(), again_.clear()) {
      if (!Take(kInFlight - taken)) return false;
      const absl::StatusOr<size_t> submitted = channel_.SubmitBatch(again_);
      if (!submitted.ok() || *submitted != again_.size()) return false;
    }
    return true;
  }

 private:
  // Puts those that have ended into again_, up to `most`.
  bool Take(size_t most) {
    const std::span<Outcome> ended =
        std::span(outcomes_).first(channel_.Poll(std::span(outcomes_).first(most)));
    for (const Outcome& outcome : ended) {
      if (!outcome.response.ok()) return false;
      BoundRequest& one = bound_[outcome.tag];
      benchmark::DoNotOptimize(one.outputs()[0].bytes[0]);
      again_.push_back(&one);
    }
    return true;
  }

  Channel channel_;
  std::vector<BoundRequest> bound_;
  std::vector<BoundRequest*> again_;
  std::vector<Outcome> outcomes_;
};

class SpscRingSubject final : public Subject {
 public:
  uint32_t requests() const override { return kInFlight; }
  bool Begin() override {
    ring_.emplace(kPeerCpu, kInFlight);
    return ring_->ok();
  }
  void End() override { ring_.reset(); }
  bool Once() override {
    ring_->Exchange(kInFlight);
    return true;
  }

 private:
  std::optional<SpscRing> ring_;
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

absl::StatusOr<std::vector<BoundRequest>> BindMany(Channel& channel, uint32_t count) {
  const TensorSpec input{.name = "x", .dtype = DType::kUInt8, .shape = {64}};
  absl::StatusOr<RequestPlan> plan = channel.Plan({&input, 1});
  if (!plan.ok()) return plan.status();
  std::vector<BoundRequest> bound;
  while (bound.size() < count) {
    absl::StatusOr<BoundRequest> one = channel.Bind(*plan);
    if (!one.ok()) return one.status();
    bound.push_back(*std::move(one));
  }
  return bound;
}

absl::Status AddBound(Experiment& experiment, Front& front) {
  for (const uint32_t count : {1u, kInFlight}) {
    absl::StatusOr<Channel> channel = front.OpenChannel(BusyChannel(64));
    if (!channel.ok()) return channel.status();
    absl::StatusOr<std::vector<BoundRequest>> bound = BindMany(*channel, count);
    if (!bound.ok()) return bound.status();
    if (count == 1) {
      experiment.Add("Bound/64", std::make_unique<BoundSubject>(*std::move(channel),
                                                                std::move(bound->front())));
    } else {
      experiment.Add("Pipelined/32",
                     std::make_unique<PipelinedSubject>(*std::move(channel), *std::move(bound)));
    }
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
  benchmark::AddCustomContext("machine", MachineName());
  const auto give_up = [](const absl::Status& why) { return GiveUp("roundtrip_bench", why); };
  if (absl::Status cpus = NeedTwoCpus(); !cpus.ok()) return give_up(cpus);
  Experiment experiment;
  absl::StatusOr<std::unique_ptr<NullServer>> server = NullServer::Launch(kPeerCpu);
  if (!server.ok()) return give_up(server.status());
  experiment.Add("PingPongFloor", std::make_unique<PingPongSubject>());
  experiment.Add("SpscRing/32", std::make_unique<SpscRingSubject>());
  absl::Status status = AddRoundTrips(experiment, (*server)->front());
  if (status.ok()) status = AddBound(experiment, (*server)->front());
  if (status.ok()) status = AddDeviceRoundTrip(experiment, (*server)->front());
  if (!status.ok()) return give_up(status);
  BecomeTheFront(kFrontCpu);
  return ShowRows(
      {"PingPongFloor", "RoundTrip/64", "RoundTrip/4096", "RoundTrip/1048576", "RoundTrip/16777216",
       "RoundTrip/device", "Bound/64", "Pipelined/32", "SpscRing/32"},
      [&experiment](benchmark::State& state, const std::string& name) {
        experiment.Report(state, name);
      });
}

}  // namespace
}  // namespace baton::bench

int main(int argc, char** argv) { return baton::bench::Main(argc, argv); }
