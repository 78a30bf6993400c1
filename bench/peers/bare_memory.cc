#include "bench/peers/bare_memory.h"

#include <utility>

#include "bench/peers/peer_end.h"

namespace baton::bench {
namespace {

constexpr char kName[] = "WriteRead";

class BareMemory final : public Peer {
 public:
  BareMemory(PeerSetup setup, std::unique_ptr<PeerEnd> end)
      : setup_(std::move(setup)), end_(std::move(end)) {}
  void Resume() override { end_->Resume(); }
  void Pause() override { end_->Pause(); }
  absl::Status RoundTrip(uint64_t seed) override {
    if (setup_.produced()) WritePayload(end_->payload().first(setup_.bytes), seed);
    EndPage& page = end_->page();
    page.ping.store(++round_, std::memory_order_release);  // SYNC: round_sent
    // SYNC: round_answered
    if (!end_->SpinUntil([&] { return page.pong.load(std::memory_order_acquire) == round_; })) {
      return end_->Gone();
    }
    return CheckSum(setup_, seed, page.sum);
  }

 private:
  const PeerSetup setup_;
  const std::unique_ptr<PeerEnd> end_;
  uint64_t round_ = 0;
};

absl::StatusOr<std::unique_ptr<Peer>> Start(const PeerSetup& setup, int cpu) {
  absl::StatusOr<std::unique_ptr<PeerEnd>> end =
      PeerEnd::Start({.kind = kName, .setup = setup, .cpu = cpu, .payload_bytes = setup.bytes});
  if (!end.ok()) return end.status();
  return std::make_unique<BareMemory>(setup, *std::move(end));
}

absl::Status Serve(EndSide& side) {
  EndPage& page = side.page();
  side.Ready();
  for (uint64_t round = 1;; ++round) {
    // SYNC: round_sent
    while (page.ping.load(std::memory_order_acquire) != round) side.StepAside();
    page.sum = side.Read(side.payload().first(side.setup().bytes));
    page.pong.store(round, std::memory_order_release);  // SYNC: round_answered
  }
}

}  // namespace

PeerKind BareMemoryKind() { return {.name = kName, .start = Start, .serve = Serve}; }

}  // namespace baton::bench
