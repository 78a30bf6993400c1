#include "bench/latency_rows.h"

#include <unistd.h>

#include <functional>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"

#include "bench/baton_subjects.h"
#include "bench/front_processes.h"
#include "bench/idle_cpu.h"
#include "bench/peers/futex_wake.h"
#include "bench/peers/peer_kinds.h"
#include "bench/peers/spsc_ring.h"
#include "bench/ping_pong.h"
#include "bench/wake_latency.h"

namespace baton::bench {
namespace {

using Made = absl::StatusOr<std::unique_ptr<Subject>>;

constexpr uint64_t kPayloads[] = {64, 4 << 10, 256 << 10, 4 << 20, 64 << 20};
// Beyond what the caches of a machine hold.
constexpr uint64_t kLargeBytes = 64 << 20;
constexpr int kInFlight = 32;
constexpr int kInFlightOnEach = 8;
constexpr int kIdleChannels = 64;
constexpr int kMostChannels = 64;
constexpr int kMostFronts = 8;
constexpr int kSpinBudgetsUs[] = {0, 25, 50, 75, 100, 150, 200};
constexpr char kWriteRead[] = "WriteRead";

class PingPongSubject final : public TimedSubject {
 public:
  explicit PingPongSubject(int cpu) : cpu_(cpu) {}
  absl::Status Begin() override {
    ping_pong_.emplace(cpu_);
    return ping_pong_->ok() ? absl::OkStatus() : absl::UnavailableError("cannot start a process");
  }
  absl::Status End() override {
    ping_pong_.reset();
    return absl::OkStatus();
  }

 protected:
  absl::Status Once() override {
    ping_pong_->Round();
    return absl::OkStatus();
  }

 private:
  const int cpu_;
  std::optional<PingPong> ping_pong_;
};

class PeerSubject final : public TimedSubject {
 public:
  explicit PeerSubject(std::unique_ptr<Peer> peer) : peer_(std::move(peer)) {}
  absl::Status Begin() override {
    peer_->Resume();
    return absl::OkStatus();
  }
  absl::Status End() override {
    peer_->Pause();
    return absl::OkStatus();
  }

 protected:
  absl::Status Once() override { return peer_->RoundTrip(++seed_); }

 private:
  const std::unique_ptr<Peer> peer_;
  uint64_t seed_ = 0;
};

// Made for each slice anew: what it opens is not there in the others' slices.
class EachSlice final : public Subject {
 public:
  explicit EachSlice(std::function<Made()> make) : make_(std::move(make)) {}
  absl::Status Begin() override {
    Made made = make_();
    if (!made.ok()) return made.status();
    inner_ = *std::move(made);
    return inner_->Begin();
  }
  absl::Status End() override {
    const absl::Status status = inner_ == nullptr ? absl::OkStatus() : inner_->End();
    inner_.reset();
    return status;
  }
  absl::Status Run(uint64_t until, Measured& measured) override {
    return inner_->Run(until, measured);
  }

 private:
  const std::function<Made()> make_;
  std::unique_ptr<Subject> inner_;
};

class Catalog {
 public:
  Catalog(const CpuPair& cpus, const NullServers& servers)
      : cpu_(cpus.peer), front_cpus_(FrontCpus(cpus)), servers_(servers) {}

  RowCatalog Build() {
    // First: libraries of some peers leave threads behind in this process, which are no front's.
    AddIdleCpu();
    for (const PayloadMode mode : {PayloadMode::kInPlace, PayloadMode::kProduced}) {
      for (const uint64_t bytes : kPayloads) AddPayload({.bytes = bytes, .mode = mode});
    }
    AddWakes();
    AddWakeLatencies();
    AddPipelines();
    AddChannels();
    AddFronts();
    AddBusyAmongIdle();
    return std::move(catalog_);
  }

 private:
  Row Floor() const {
    return {.name = kFloorRow,
            .make = [cpu = cpu_]() -> Made { return std::make_unique<PingPongSubject>(cpu); }};
  }
  static Comparison AgainstFloor() { return {.counter = "x_floor", .with = kFloorRow}; }

  void AddPayload(const PeerSetup& setup) {
    const std::string suffix = absl::StrCat("/", setup.bytes, "/", ToString(setup.mode));
    std::vector<Comparison> comparisons{AgainstFloor()};
    if (setup.produced()) {
      comparisons.push_back({.counter = "x_write_read", .with = kWriteRead + suffix});
    }
    const std::string round_trip = "RoundTrip" + suffix;
    std::vector<Row> group{
        Floor(),
        {.name = round_trip,
         .make = [servers = &servers_,
                  setup] { return MakeRoundTrip(*servers->spinning, setup.bytes, setup.mode); },
         .comparisons = comparisons}};
    group.push_back(
        {.name = "Bound" + suffix,
         .make = [servers = &servers_,
                  setup] { return MakeBound(*servers->spinning, setup.bytes, setup.mode); },
         .comparisons = comparisons});
    comparisons.push_back({.counter = "x_baton", .with = round_trip});
    for (const PeerKind& kind : PeerKinds()) {
      // In place there is nothing to write or to read: that is the floor.
      const bool bare = kind.name == kWriteRead;
      if (kind.start == nullptr || (bare && !setup.produced())) continue;
      if (setup.bytes > kind.most_bytes) {
        catalog_.not_measured.push_back(absl::StrCat(kind.name, suffix, ": ", kind.limit));
        continue;
      }
      group.push_back(
          {.name = kind.name + suffix,
           .make = [start = kind.start, setup, cpu = cpu_] { return StartPeer(start, setup, cpu); },
           .comparisons = comparisons,
           .optional = !bare});
    }
    for (Row& row : group) row.large = setup.bytes >= kLargeBytes;
    catalog_.groups.push_back(std::move(group));
  }

  static Made StartPeer(decltype(PeerKind::start) start, PeerSetup setup, int cpu) {
    static int started = 0;
    setup.rendezvous = absl::StrCat("baton-bench-", ::getpid(), "-", ++started);
    absl::StatusOr<std::unique_ptr<Peer>> peer = start(setup, cpu);
    if (!peer.ok()) return peer.status();
    return std::make_unique<PeerSubject>(*std::move(peer));
  }

  void AddIdleCpu() {
    std::vector<Row> group{Floor()};
    for (const int channels : {1, kIdleChannels}) {
      group.push_back({.name = absl::StrCat("IdleCpu/", channels),
                       .make = EachSliceOf([servers = &servers_, channels] {
                         return MakeIdleCpu(*servers->usual, channels);
                       })});
    }
    catalog_.groups.push_back(std::move(group));
  }

  void AddWakes() {
    catalog_.groups.push_back(
        {Floor(),
         {.name = "FutexWake",
          .make = [cpu = cpu_] { return MakeFutexWake(cpu); },
          .comparisons = {AgainstFloor()}},
         {.name = "RoundTripSleeping",
          .make = [servers = &servers_] { return MakeRoundTripSleeping(*servers->usual); },
          .comparisons = {AgainstFloor(), {.counter = "x_futex_wake", .with = "FutexWake"}}}});
  }

  void AddWakeLatencies() {
    std::vector<Row> group{Floor()};
    for (const int spin_us : kSpinBudgetsUs) {
      group.push_back({.name = absl::StrCat("WakeLatency/", spin_us),
                       .make =
                           [servers = &servers_, spin_us] {
                             return MakeWakeLatency(*servers->usual, absl::Microseconds(spin_us));
                           },
                       .comparisons = {AgainstFloor()}});
    }
    catalog_.groups.push_back(std::move(group));
  }

  void AddPipelines() {
    catalog_.groups.push_back({Floor(),
                               {.name = "SpscRing",
                                .make = [cpu = cpu_] { return MakeSpscRing(cpu); },
                                .comparisons = {AgainstFloor()},
                                .shows_rate = true},
                               {.name = absl::StrCat("Pipelined/", kInFlight),
                                .make =
                                    [servers = &servers_] {
                                      return MakePipelined(servers->spinning->front(), 1,
                                                           kInFlight);
                                    },
                                .comparisons = {AgainstFloor(),
                                                {.counter = "x_spsc_ring",
                                                 .with = "SpscRing",
                                                 .of = Comparison::Of::kRate}},
                                .shows_rate = true}});
  }

  void AddChannels() {
    std::vector<Row> group{Floor()};
    for (int channels = 1; channels <= kMostChannels; channels *= 2) {
      group.push_back({.name = absl::StrCat("Channels/", channels),
                       .make = EachSliceOf([servers = &servers_, channels] {
                         return MakePipelined(servers->spinning->front(), channels,
                                              kInFlightOnEach);
                       }),
                       .comparisons = {AgainstFloor(),
                                       {.counter = "x_channels1",
                                        .with = "Channels/1",
                                        .of = Comparison::Of::kOwnRate}},
                       .shows_rate = true});
    }
    catalog_.groups.push_back(std::move(group));
  }

  void AddFronts() {
    std::vector<Row> group{Floor()};
    for (int fronts = 1; fronts <= kMostFronts; fronts *= 2) {
      const FrontProcessesSetup setup{.fronts = fronts,
                                      .channels_of_each = kMostChannels / fronts,
                                      .in_flight_on_each = kInFlightOnEach,
                                      .cpus = front_cpus_};
      group.push_back({.name = absl::StrCat("Fronts/", fronts),
                       .make = EachSliceOf([servers = &servers_, setup] {
                         return MakeFrontProcesses(servers->usual->front(), setup);
                       }),
                       .comparisons = {{.counter = "x_fronts1",
                                        .with = "Fronts/1",
                                        .of = Comparison::Of::kOwnRate}},
                       .shows_rate = true});
    }
    catalog_.groups.push_back(std::move(group));
  }

  void AddBusyAmongIdle() {
    std::vector<Row> group{Floor()};
    for (const int idle : {0, kIdleChannels}) {
      group.push_back(
          {.name = absl::StrCat("BusyAmongIdle/", idle),
           .make = EachSliceOf(
               [servers = &servers_, idle] { return MakeBusyAmongIdle(*servers->spinning, idle); }),
           .comparisons = {AgainstFloor(), {.counter = "x_alone", .with = "BusyAmongIdle/0"}}});
    }
    catalog_.groups.push_back(std::move(group));
  }

  static std::function<Made()> EachSliceOf(std::function<Made()> make) {
    return [make = std::move(make)]() -> Made { return std::make_unique<EachSlice>(make); };
  }

  const int cpu_;
  const std::vector<int> front_cpus_;
  const NullServers& servers_;
  RowCatalog catalog_;
};

}  // namespace

RowCatalog LatencyRows(const CpuPair& cpus, const NullServers& servers) {
  return Catalog(cpus, servers).Build();
}

}  // namespace baton::bench
