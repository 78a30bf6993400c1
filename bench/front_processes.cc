#include "bench/front_processes.h"

#include <cstdio>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

#include "bench/baton_subjects.h"
#include "bench/peers/peer_end.h"

namespace baton::bench {
namespace {

constexpr char kName[] = "BatonFront";
// After each of these a process says how many requests were answered.
constexpr double kTurnNs = 5e6;

// PeerSetup::rendezvous carries both, and the server's name.
std::string Told(const FrontProcessesSetup& setup, const std::string& server) {
  return absl::StrCat(setup.channels_of_each, " ", setup.in_flight_on_each, " ", server);
}

class FrontProcesses final : public Subject {
 public:
  explicit FrontProcesses(std::vector<std::unique_ptr<PeerEnd>> fronts)
      : fronts_(std::move(fronts)) {}

  absl::Status Begin() override {
    for (const auto& front : fronts_) front->Resume();
    return absl::OkStatus();
  }
  absl::Status End() override {
    for (const auto& front : fronts_) front->Pause();
    return absl::OkStatus();
  }
  absl::Status Run(uint64_t until, Measured& measured) override {
    const uint64_t begin = Ticks();
    const uint64_t answered_before = Answered();
    uint64_t answered = answered_before;
    do {
      absl::SleepFor(absl::Milliseconds(1));
      for (const auto& front : fronts_) {
        if (!front->alive()) return front->Gone();
      }
      answered = Answered();
    } while (Ticks() < until || answered == answered_before);
    measured.ticks += Ticks() - begin;
    measured.operations += answered - answered_before;
    measured.figures["fronts"] = static_cast<double>(fronts_.size());
    return absl::OkStatus();
  }

 private:
  uint64_t Answered() const {
    uint64_t sum = 0;
    // Relaxed: it guards no data.
    for (const auto& front : fronts_) sum += front->page().pong.load(std::memory_order_relaxed);
    return sum;
  }

  const std::vector<std::unique_ptr<PeerEnd>> fronts_;
};

absl::Status Serve(EndSide& side) {
  int channels = 0, in_flight = 0, name_at = 0;
  const std::string& told = side.setup().rendezvous;
  if (std::sscanf(told.c_str(), "%d %d %n", &channels, &in_flight, &name_at) != 2) {
    return absl::InvalidArgumentError(absl::StrCat("a front does not understand '", told, "'"));
  }
  const absl::StatusOr<std::unique_ptr<Front>> front =
      Front::Attach(told.substr(static_cast<size_t>(name_at)));
  if (!front.ok()) return front.status();
  const absl::StatusOr<std::unique_ptr<Subject>> calls =
      MakePipelined(**front, channels, in_flight);
  if (!calls.ok()) return calls.status();
  side.Ready();
  for (;;) {
    side.StepAside();
    Measured measured;
    const auto turn = static_cast<uint64_t>(kTurnNs / NsPerTick());
    if (absl::Status status = (*calls)->Run(Ticks() + turn, measured); !status.ok()) return status;
    side.page().pong.fetch_add(measured.operations, std::memory_order_relaxed);
  }
}

}  // namespace

PeerKind FrontProcessKind() { return {.name = kName, .serve = Serve}; }

absl::StatusOr<std::unique_ptr<Subject>> MakeFrontProcesses(const Front& front,
                                                            const FrontProcessesSetup& setup) {
  std::vector<std::unique_ptr<PeerEnd>> processes;
  for (int i = 0; i < setup.fronts; ++i) {
    absl::StatusOr<std::unique_ptr<PeerEnd>> process =
        PeerEnd::Start({.kind = kName,
                        .setup = {.rendezvous = Told(setup, front.name())},
                        .cpu = setup.cpus[static_cast<size_t>(i) % setup.cpus.size()]});
    if (!process.ok()) return process.status();
    processes.push_back(*std::move(process));
  }
  return std::make_unique<FrontProcesses>(std::move(processes));
}

}  // namespace baton::bench
