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
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "baton/front.h"
#include "bench/latency_samples.h"
#include "bench/null_server.h"
#include "bench/ping_pong.h"
#include "bench/plain_names.h"

namespace baton::bench {
namespace {

constexpr int kFrontCpu = 0;
constexpr int kPeerCpu = 1;
constexpr int kSlices = 20;
constexpr int kSamplesPerSlice = 10'000;
constexpr int kWarmUp = 2'000;

// What is measured: one operation at a time, between Begin and End. Outside of
// them a subject keeps off the CPUs.
class Subject {
 public:
  virtual ~Subject() = default;
  virtual bool Begin() { return true; }
  virtual void End() {}
  virtual bool Once() = 0;
};

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

class RoundTripSubject final : public Subject {
 public:
  RoundTripSubject(Channel channel, int64_t bytes, bool on_device = false)
      : channel_(std::move(channel)) {
    const TensorSpec input{.name = "x", .dtype = DType::kUInt8, .shape = {bytes}};
    absl::StatusOr<RequestPlan> plan =
        on_device ? channel_.PlanOnDevice({&input, 1}) : channel_.Plan({&input, 1});
    if (plan.ok()) plan_ = *plan;
    status_ = plan.status();
  }
  const absl::Status& status() const { return status_; }

  bool Once() override {
    absl::StatusOr<Request> request = channel_.Loan(plan_);
    if (!request.ok()) return Fail(request.status());
    absl::StatusOr<Response> response = channel_.Call(*std::move(request));
    if (!response.ok()) return Fail(response.status());
    benchmark::DoNotOptimize(response->outputs()[0].bytes[0]);
    return true;
  }

 private:
  bool Fail(const absl::Status& status) {
    status_ = status;
    return false;
  }
  Channel channel_;
  RequestPlan plan_;
  absl::Status status_;
};

// Measures every subject in turn, a slice at a time.
class Experiment {
 public:
  void Add(const std::string& name, std::unique_ptr<Subject> subject) {
    subjects_[name].subject = std::move(subject);
  }

  // Runs once, at the first benchmark that asks.
  void Run() {
    if (done_) return;
    done_ = true;
    for (int slice = 0; slice < kSlices; ++slice) {
      for (auto& [name, one] : subjects_) {
        one.failed = one.failed || !one.subject->Begin();
        // Untimed first: after the others, its lines are cold.
        Repeat(one, kWarmUp, nullptr);
        Repeat(one, kSamplesPerSlice, &one.samples);
        one.subject->End();
      }
    }
  }

  void Report(benchmark::State& state, const std::string& name) {
    Run();
    One& one = subjects_.at(name);
    for (auto _ : state) state.SetIterationTime(one.samples.PercentileNs(0.5) * 1e-9);
    if (one.failed) state.SkipWithError("a request failed");
    one.samples.Report(state);
    state.counters["samples"] = static_cast<double>(one.samples.size());
  }

 private:
  struct One {
    std::unique_ptr<Subject> subject;
    LatencySamples samples{kSlices * kSamplesPerSlice};
    bool failed = false;
  };
  static void Repeat(One& one, int times, LatencySamples* samples) {
    for (int i = 0; i < times && !one.failed; ++i) {
      const uint64_t start = Ticks();
      one.failed = !one.subject->Once();
      if (samples != nullptr) samples->Add(Ticks() - start);
    }
  }

  std::map<std::string, One> subjects_;
  bool done_ = false;
};

ChannelOptions BusyChannel() {
  ChannelOptions options;
  // The front owns its core here; both CPUs are busy by design.
  options.max_spin = absl::Milliseconds(100);
  return options;
}

absl::Status AddRoundTrips(Experiment& experiment, Front& front) {
  for (const int64_t bytes : {int64_t{64}, int64_t{4096}, int64_t{1} << 20, int64_t{16} << 20}) {
    ChannelOptions options = BusyChannel();
    options.request_arena_bytes = 2 * static_cast<uint64_t>(bytes) + (1 << 20);
    absl::StatusOr<Channel> channel = front.OpenChannel(options);
    if (!channel.ok()) return channel.status();
    auto subject = std::make_unique<RoundTripSubject>(*std::move(channel), bytes);
    if (!subject->status().ok()) return subject->status();
    experiment.Add("RoundTrip/" + std::to_string(bytes), std::move(subject));
  }
  return absl::OkStatus();
}

absl::Status AddDeviceRoundTrip(Experiment& experiment, Front& front) {
  ChannelOptions options = BusyChannel();
  options.device_result_bytes = NullServer::kDeviceResultBytes;
  absl::StatusOr<Channel> channel = front.OpenChannel(options);
  if (!channel.ok()) return channel.status();
  auto subject = std::make_unique<RoundTripSubject>(*std::move(channel), 64, /*on_device=*/true);
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
  if (!PinThisThread(kFrontCpu)) std::fprintf(stderr, "cannot pin to CPU %d\n", kFrontCpu);
  experiment.Add("PingPongFloor", std::make_unique<PingPongSubject>());
  absl::Status status = AddRoundTrips(experiment, (*server)->front());
  if (status.ok()) status = AddDeviceRoundTrip(experiment, (*server)->front());
  if (!status.ok()) {
    std::fprintf(stderr, "%s\n", status.ToString().c_str());
    return 1;
  }
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
