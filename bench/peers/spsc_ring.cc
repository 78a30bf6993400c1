#include "bench/peers/spsc_ring.h"

#include <array>
#include <atomic>
#include <utility>

#include "bench/peers/peer_end.h"

namespace baton::bench {
namespace {

constexpr char kName[] = "SpscRing";
constexpr uint64_t kEntries = 1024;
constexpr uint64_t kBatch = 32;

struct alignas(64) Entry {
  std::atomic<uint64_t> stamp;  // 1, 2, ...; release, after the words
  std::array<uint64_t, 7> words;
};
static_assert(sizeof(Entry) == 64);

// How far the taker has come is EndPage::pong, in steps of kBatch.
class SpscRing final : public Subject {
 public:
  explicit SpscRing(std::unique_ptr<PeerEnd> end)
      : end_(std::move(end)), entries_(reinterpret_cast<Entry*>(end_->payload().data())) {}

  absl::Status Begin() override {
    end_->Resume();
    return absl::OkStatus();
  }
  absl::Status End() override {
    end_->Pause();
    return absl::OkStatus();
  }
  absl::Status Run(uint64_t until, Measured& measured) override {
    const uint64_t begin = Ticks();
    uint64_t start = begin;
    do {
      if (!AwaitRoom()) return end_->Gone();
      for (uint64_t i = 0; i < kBatch; ++i) Put();
      const uint64_t now = Ticks();
      measured.AddLatency(now - std::exchange(start, now));
      measured.operations += kBatch;
    } while (start < until);
    measured.ticks += start - begin;
    return absl::OkStatus();
  }

 private:
  bool AwaitRoom() {
    if (put_ + kBatch - taken_ <= kEntries) return true;
    return end_->SpinUntil([this] {
      // SYNC: entries_taken
      taken_ = end_->page().pong.load(std::memory_order_acquire);
      return put_ + kBatch - taken_ <= kEntries;
    });
  }
  void Put() {
    Entry& entry = entries_[put_++ % kEntries];
    entry.words.fill(put_);
    entry.stamp.store(put_, std::memory_order_release);  // SYNC: entry_put
  }

  const std::unique_ptr<PeerEnd> end_;
  Entry* const entries_;
  uint64_t put_ = 0;
  uint64_t taken_ = 0;  // as last seen
};

absl::Status Serve(EndSide& side) {
  const auto* const entries = reinterpret_cast<const Entry*>(side.payload().data());
  EndPage& page = side.page();
  uint64_t sum = 0;
  side.Ready();
  for (uint64_t next = 1;; ++next) {
    const Entry& entry = entries[(next - 1) % kEntries];
    // SYNC: entry_put
    while (entry.stamp.load(std::memory_order_acquire) != next) side.StepAside();
    const std::array<uint64_t, 7> words = entry.words;
    for (const uint64_t word : words) sum += word;
    if (next % kBatch != 0) continue;
    page.sum = sum;
    page.pong.store(next, std::memory_order_release);  // SYNC: entries_taken
  }
}

}  // namespace

PeerKind SpscRingKind() { return {.name = kName, .serve = Serve}; }

absl::StatusOr<std::unique_ptr<Subject>> MakeSpscRing(int cpu) {
  absl::StatusOr<std::unique_ptr<PeerEnd>> end =
      PeerEnd::Start({.kind = kName, .cpu = cpu, .payload_bytes = kEntries * sizeof(Entry)});
  if (!end.ok()) return end.status();
  return std::make_unique<SpscRing>(*std::move(end));
}

}  // namespace baton::bench
