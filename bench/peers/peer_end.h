// The other end of a peer: this program once more, as a process that serves.
//
// A page of shared memory (a memfd, so that it has no name) is all that both
// know of each other, and what follows it is room for a payload. The other end
// is killed with its PeerEnd, and by the kernel when the thread that started it
// ends.
#ifndef BATON_BENCH_PEERS_PEER_END_H_
#define BATON_BENCH_PEERS_PEER_END_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "bench/peers/peer.h"
#include "ipc/process.h"
#include "ipc/segment.h"
#include "ipc/unique_fd.h"

namespace baton::bench {

// Written by the side that each word says; a pair of cache lines each. What
// they order is in bench/DESIGN.md.
struct EndPage {
  alignas(128) std::atomic<uint32_t> running{0};  // harness (SYNC: end_runs): 0: sleep
  alignas(128) std::atomic<uint32_t> stop{0};     // harness: take leave and exit
  alignas(128) std::atomic<uint32_t> ready{0};    // other end (SYNC: end_ready)
  alignas(128) std::atomic<uint64_t> ping{0};     // harness (SYNC: round_sent)
  alignas(128) std::atomic<uint64_t> pong{0};     // other end (SYNC: round_answered)
  uint64_t sum = 0;
  alignas(128) std::atomic<uint32_t> wake_end{0};    // futex words, for who sleeps
  alignas(128) std::atomic<uint32_t> wake_front{0};  // on the one side and on the other
};

class PeerEnd {
 public:
  struct Options {
    std::string kind;  // PeerKind::name: whose `serve` it runs
    PeerSetup setup = {};
    int cpu = 0;
    uint64_t payload_bytes = 0;  // shared memory after the page
    int fd = -1;                 // handed over; this process keeps its own
    // It ends by itself when told to, to take leave of somebody; else it is killed.
    bool stops_itself = false;
  };
  // Returns when it serves. The error says how it ended.
  static absl::StatusOr<std::unique_ptr<PeerEnd>> Start(const Options& options);
  ~PeerEnd();
  PeerEnd(const PeerEnd&) = delete;
  PeerEnd& operator=(const PeerEnd&) = delete;

  EndPage& page() { return *reinterpret_cast<EndPage*>(segment_.data()); }
  std::span<std::byte> payload() {
    return {segment_.data() + sizeof(EndPage), segment_.bytes() - sizeof(EndPage)};
  }
  pid_t pid() const { return process_.pid(); }
  bool alive();

  void Resume();
  void Pause();

  // False when the other end has gone before `ready()` was true.
  template <typename Ready>
  bool SpinUntil(Ready&& ready) {
    constexpr uint32_t kLooksPerCheck = 1 << 20;
    for (uint32_t looks = 1; !ready(); ++looks) {
      if (looks % kLooksPerCheck == 0 && !alive()) return false;
    }
    return true;
  }
  // UNAVAILABLE, with how it ended.
  absl::Status Gone();

 private:
  PeerEnd() = default;
  absl::Status AwaitReady();

  std::string kind_;
  bool stops_itself_ = false;
  ipc::Segment segment_;
  ipc::ChildProcess process_;
};

// What `serve` has of it, in the other process.
class EndSide {
 public:
  EndSide(PeerSetup setup, ipc::Segment segment, int fd)
      : setup_(std::move(setup)), segment_(std::move(segment)), fd_(fd) {}

  const PeerSetup& setup() const { return setup_; }
  EndPage& page() { return *reinterpret_cast<EndPage*>(segment_.data()); }
  std::span<std::byte> payload() {
    return {segment_.data() + sizeof(EndPage), segment_.bytes() - sizeof(EndPage)};
  }
  int fd() const { return fd_; }
  uint64_t Read(std::span<const std::byte> payload) const {
    return setup_.produced() ? ReadPayload(payload) : 0;
  }

  // From now on round trips may come.
  void Ready();
  bool stopped() const { return page_of().stop.load(std::memory_order_acquire) != 0; }
  // For a loop that polls: sleeps while it is to pause. Cheap while it is not.
  void StepAside() {
    // Relaxed: it guards no data.
    if (page_of().running.load(std::memory_order_relaxed) == 0) SleepWhilePaused();
  }

 private:
  const EndPage& page_of() const { return *reinterpret_cast<const EndPage*>(segment_.data()); }
  void SleepWhilePaused();

  PeerSetup setup_;
  ipc::Segment segment_;
  int fd_;
};

// For main, before anything else: true when this process was started as another
// end. It has served then, and `exit_code` is how it went.
bool RanAsPeerEnd(int argc, char** argv, int* exit_code);

}  // namespace baton::bench

#endif  // BATON_BENCH_PEERS_PEER_END_H_
