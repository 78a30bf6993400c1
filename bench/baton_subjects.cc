#include "bench/baton_subjects.h"

#include <optional>
#include <utility>
#include <vector>

#include "baton/front.h"
#include "bench/sleeping.h"

namespace baton::bench {
namespace {

constexpr uint64_t kSmallBytes = 64;
constexpr uint64_t kSmallArenaBytes = 256 << 10;

ChannelOptions Polled(uint64_t request_arena_bytes = kSmallArenaBytes) {
  ChannelOptions options;
  options.request_arena_bytes = request_arena_bytes;
  options.response_arena_bytes = kSmallArenaBytes;
  // Payloads of any size, whatever the size of /dev/shm.
  options.backing = ChannelOptions::Backing::kMemfd;
  // This thread owns its CPU.
  options.busy_poll = true;
  return options;
}

absl::StatusOr<RequestPlan> PlanOf(Channel& channel, uint64_t bytes, PayloadMode mode) {
  const absl::StatusOr<uint32_t> method =
      channel.FindMethod(mode == PayloadMode::kProduced ? "read" : "skip");
  if (!method.ok()) return method.status();
  const TensorSpec payload{
      .name = "payload", .dtype = DType::kUInt8, .shape = {static_cast<int64_t>(bytes)}};
  return channel.Plan({&payload, 1}, PlanOptions{.method = *method});
}

// A channel, and what is asked on it.
class Caller {
 public:
  static absl::StatusOr<Caller> Open(Front& front, const ChannelOptions& options, uint64_t bytes,
                                     PayloadMode mode) {
    absl::StatusOr<Channel> channel = front.OpenChannel(options);
    if (!channel.ok()) return channel.status();
    const absl::StatusOr<RequestPlan> plan = PlanOf(*channel, bytes, mode);
    if (!plan.ok()) return plan.status();
    return Caller(*std::move(channel), *plan, bytes, mode);
  }

  absl::Status RoundTrip() {
    absl::StatusOr<Request> request = channel_.Loan(plan_);
    if (!request.ok()) return request.status();
    if (produced()) WritePayload(request->input_bytes(0), ++seed_);
    const absl::StatusOr<Response> response = channel_.Call(*std::move(request));
    if (!response.ok()) return response.status();
    return CheckSum(response->output<uint64_t>(0)[0]);
  }
  absl::StatusOr<BoundRequest> Bind() { return channel_.Bind(plan_); }
  absl::Status RoundTrip(BoundRequest& bound) {
    if (produced()) WritePayload(bound.input_bytes(0), ++seed_);
    if (absl::Status status = channel_.Call(bound); !status.ok()) return status;
    return CheckSum(bound.output<uint64_t>(0)[0]);
  }
  absl::Status Submit() {
    absl::StatusOr<Request> request = channel_.Loan(plan_);
    if (!request.ok()) return request.status();
    return channel_.Submit(*std::move(request)).status();
  }
  // Whether an answer was there.
  absl::StatusOr<bool> Poll() {
    const std::optional<Outcome> outcome = channel_.Poll();
    if (!outcome) return false;
    if (!outcome->response.ok()) return outcome->response.status();
    return true;
  }

 private:
  Caller(Channel channel, RequestPlan plan, uint64_t bytes, PayloadMode mode)
      : channel_(std::move(channel)), plan_(plan), bytes_(bytes), mode_(mode) {}
  bool produced() const { return mode_ == PayloadMode::kProduced; }
  absl::Status CheckSum(uint64_t sum) const {
    if (sum == (produced() ? ExpectedSum(bytes_, seed_) : 0)) return absl::OkStatus();
    return absl::DataLossError("what was read is not what was written");
  }

  Channel channel_;
  RequestPlan plan_;
  uint64_t bytes_;
  PayloadMode mode_;
  uint64_t seed_ = 0;
};

class RoundTrip final : public TimedSubject {
 public:
  explicit RoundTrip(Caller caller) : caller_(std::move(caller)) {}

 protected:
  absl::Status Once() override { return caller_.RoundTrip(); }

 private:
  Caller caller_;
};

class Bound final : public TimedSubject {
 public:
  Bound(Caller caller, BoundRequest bound) : caller_(std::move(caller)), bound_(std::move(bound)) {}

 protected:
  absl::Status Once() override { return caller_.RoundTrip(bound_); }

 private:
  Caller caller_;
  BoundRequest bound_;
};

class RoundTripSleeping final : public TimedSubject {
 public:
  RoundTripSleeping(Caller caller, pid_t worker) : caller_(std::move(caller)), watch_(worker) {}

 protected:
  absl::Status Between() override { return watch_.Await(); }
  absl::Status Once() override { return caller_.RoundTrip(); }

 private:
  Caller caller_;
  const SleepWatch watch_;
};

class BusyAmongIdle final : public TimedSubject {
 public:
  BusyAmongIdle(Caller caller, std::vector<Channel> idle)
      : idle_(std::move(idle)), caller_(std::move(caller)) {}

 protected:
  absl::Status Once() override { return caller_.RoundTrip(); }

 private:
  const std::vector<Channel> idle_;
  Caller caller_;
};

class Pipelined final : public Subject {
 public:
  Pipelined(std::vector<Caller> callers, size_t in_flight) : in_flight_(in_flight) {
    lanes_.reserve(callers.size());
    for (Caller& caller : callers) {
      lanes_.push_back(
          {.caller = std::move(caller), .submitted = std::vector<uint64_t>(in_flight)});
    }
  }

  absl::Status Run(uint64_t until, Measured& measured) override {
    const uint64_t begin = Ticks();
    for (Lane& lane : lanes_) {
      for (size_t i = 0; i < in_flight_; ++i) {
        if (absl::Status status = Submit(lane); !status.ok()) return status;
      }
    }
    uint64_t end = begin;
    do {
      for (Lane& lane : lanes_) {
        if (absl::Status status = Turn(lane, measured); !status.ok()) return status;
      }
      end = Ticks();
    } while (end < until || measured.operations == 0);
    measured.ticks += end - begin;
    return Drain();
  }

 private:
  struct Lane {
    Caller caller;
    std::vector<uint64_t> submitted;  // Ticks; a worker answers a channel's requests in order
    uint64_t submits = 0;
    uint64_t answers = 0;
  };

  absl::Status Submit(Lane& lane) {
    lane.submitted[lane.submits++ % in_flight_] = Ticks();
    return lane.caller.Submit();
  }
  // Takes what has been answered, and asks as much again.
  absl::Status Turn(Lane& lane, Measured& measured) {
    for (size_t i = 0; i < in_flight_; ++i) {
      const absl::StatusOr<bool> came = lane.caller.Poll();
      if (!came.ok()) return came.status();
      if (!*came) return absl::OkStatus();
      measured.AddLatency(Ticks() - lane.submitted[lane.answers++ % in_flight_]);
      ++measured.operations;
      if (absl::Status status = Submit(lane); !status.ok()) return status;
    }
    return absl::OkStatus();
  }
  absl::Status Drain() {
    for (Lane& lane : lanes_) {
      while (lane.answers != lane.submits) {
        const absl::StatusOr<bool> came = lane.caller.Poll();
        if (!came.ok()) return came.status();
        if (*came) ++lane.answers;
      }
    }
    return absl::OkStatus();
  }

  const size_t in_flight_;
  std::vector<Lane> lanes_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Subject>> MakeRoundTrip(NullServer& server, uint64_t bytes,
                                                       PayloadMode mode) {
  absl::StatusOr<Caller> caller =
      Caller::Open(server.front(), Polled(2 * bytes + kSmallArenaBytes), bytes, mode);
  if (!caller.ok()) return caller.status();
  return std::make_unique<RoundTrip>(*std::move(caller));
}

absl::StatusOr<std::unique_ptr<Subject>> MakeBound(NullServer& server, uint64_t bytes,
                                                   PayloadMode mode) {
  absl::StatusOr<Caller> caller =
      Caller::Open(server.front(), Polled(bytes + kSmallArenaBytes), bytes, mode);
  if (!caller.ok()) return caller.status();
  absl::StatusOr<BoundRequest> bound = caller->Bind();
  if (!bound.ok()) return bound.status();
  return std::make_unique<Bound>(*std::move(caller), *std::move(bound));
}

absl::StatusOr<std::unique_ptr<Subject>> MakeRoundTripSleeping(NullServer& server) {
  ChannelOptions options = Polled();
  options.busy_poll = false;
  options.max_spin = absl::ZeroDuration();
  absl::StatusOr<Caller> caller =
      Caller::Open(server.front(), options, kSmallBytes, PayloadMode::kInPlace);
  if (!caller.ok()) return caller.status();
  return std::make_unique<RoundTripSleeping>(*std::move(caller), server.worker_pid());
}

absl::StatusOr<std::unique_ptr<Subject>> MakePipelined(Front& front, int channels,
                                                       int in_flight_on_each) {
  std::vector<Caller> callers;
  for (int i = 0; i < channels; ++i) {
    absl::StatusOr<Caller> caller =
        Caller::Open(front, Polled(), kSmallBytes, PayloadMode::kInPlace);
    if (!caller.ok()) return caller.status();
    callers.push_back(*std::move(caller));
  }
  return std::make_unique<Pipelined>(std::move(callers), static_cast<size_t>(in_flight_on_each));
}

absl::StatusOr<std::unique_ptr<Subject>> MakeBusyAmongIdle(NullServer& server, int idle) {
  std::vector<Channel> others;
  for (int i = 0; i < idle; ++i) {
    absl::StatusOr<Channel> channel = server.front().OpenChannel(Polled());
    if (!channel.ok()) return channel.status();
    others.push_back(*std::move(channel));
  }
  absl::StatusOr<Caller> caller =
      Caller::Open(server.front(), Polled(), kSmallBytes, PayloadMode::kInPlace);
  if (!caller.ok()) return caller.status();
  return std::make_unique<BusyAmongIdle>(*std::move(caller), std::move(others));
}

}  // namespace baton::bench
