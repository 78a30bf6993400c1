// The device arenas that a front has mapped, and who leases them.
//
// Thread safety: Acquire, Release and newest() may be called from any thread;
// everything else belongs to the session's thread. One short mutex orders
// them all: a lease is either in what TakeDue tells, or refused, or its end
// is told later. No function makes a system call; mappings are ended by who
// asks for them to be, with what is handed out for that.
//
// Invariants
// 1. An arena is mapped for as long as a lease of it lives, whatever else ends.
// 2. Leases are given of open arenas only. One stops being open before what it
//    holds is counted for an answer, so the count only falls from then on.
// 3. A release that changes what the server was told leaves `owed` behind,
//    under the mutex, and the caller is told to wake the session's thread.
// 4. An arena stays mapped while a request waits whose inputs lie in it and in
//    no other place.
// 5. An answer with results on the device that its channel has not read yet
//    counts as a lease of the channel's. A channel leases it (AcquireResult)
//    before it shows the answer as read, so there is no moment in between.
#ifndef BATON_RUNTIME_FRONT_ARENA_LEASES_H_
#define BATON_RUNTIME_FRONT_ARENA_LEASES_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <span>
#include <vector>

#include "ipc/device.h"
#include "runtime/front/channel_inputs.h"

namespace baton::internal {

// The leases of one channel on one arena.
struct HeldLeases {
  uint64_t channel = 0;
  uint32_t count = 0;
};

// One generation's arena; stays where it is while it is leased.
class LeasedArena {
 public:
  uint64_t generation() const { return arena_->generation(); }
  std::span<const std::byte> bytes() const { return arena_->bytes(); }
  uint64_t device_address() const { return arena_->device_address(); }
  int device_ordinal() const { return arena_->device_ordinal(); }
  uint64_t size_bytes() const { return arena_->size_bytes(); }
  bool closing_may_hang() const { return arena_->closing_may_hang(); }
  // For writing inputs, and moving them. Where closing may hang, its functions
  // may, too: then only the device thread calls them.
  ipc::ImportedArena& arena() const { return *arena_; }

 private:
  friend class ArenaLeases;
  explicit LeasedArena(std::unique_ptr<ipc::ImportedArena> arena) : arena_(std::move(arena)) {}

  const std::unique_ptr<ipc::ImportedArena> arena_;
  // Guarded by the mutex of ArenaLeases.
  std::vector<HeldLeases> held_;  // channels that lease nothing are not in it
  bool open_ = true;
  bool close_asked_ = false;  // unmap it with the last lease
  bool owed_ = false;         // the server has not been told what holds now
  uint64_t unread_ = 0;       // results, when that was looked at last
  uint64_t call_ = 0;         // the server's question, 0: none that awaits more
};

class ArenaLeases {
 public:
  using Arenas = std::vector<std::unique_ptr<LeasedArena>>;
  // How many answers a generation has given that the channel has not read.
  // Called under the mutex, on the session's thread.
  using Unread = std::function<uint32_t(uint64_t generation)>;

  struct Answer {
    uint64_t call = 0;
    uint64_t generation = 0;
    std::vector<HeldLeases> held;
  };
  struct Due {
    std::vector<Answer> answers;
    Arenas leaving;  // to be unmapped by letting them go; then say Unmapped
  };
  struct Acquired {
    LeasedArena* arena = nullptr;
    uint64_t closing = 0;  // without one: a generation that is mapped, but closing
  };

  // Takes over a new arena. False when there is one of its generation already.
  bool Add(std::unique_ptr<ipc::ImportedArena> arena);
  // True until Unmapped was said.
  bool Maps(uint64_t generation) const;
  // No new leases; `call` (0: nobody asked) is owed an answer now, and one
  // whenever what it said has changed. False when nothing of it is mapped.
  bool StartClosing(uint64_t generation, uint64_t call);
  // Leases again.
  void Keep(uint64_t generation);
  // As StartClosing, for good: it goes with its last lease.
  bool AskToClose(uint64_t generation);
  // An answer that TakeDue gave could not be sent: it is due again, with what
  // is held then. False when nothing of it is mapped.
  bool Owe(uint64_t generation);
  // What can go, and what is to be told.
  Due TakeDue();
  // An arena that TakeDue has given is not mapped any more.
  void Unmapped(uint64_t generation);
  // Nobody is left to be told: no more leases, arenas go with their last one.
  // Gives those that are not leased, to be let go.
  [[nodiscard]] Arenas ServerGone();
  // In a fork the mappings are not there, and something else may be.
  void Abandon();

  // Of generation `serving` if that is open, else of the newest one.
  Acquired Acquire(uint64_t channel, uint64_t serving);
  // For inputs to be written: of generation `serving` while that is mapped, open
  // or not at all; else of the newest one.
  Acquired AcquireForInputs(uint64_t channel, uint64_t serving);
  // Channels that can have results on the device, while they live.
  void AddChannel(uint64_t channel, Unread unread);
  void RemoveChannel(uint64_t channel);
  // Channels with inputs on the device, while they live.
  void AddInputs(uint64_t channel, std::shared_ptr<ChannelInputs> inputs);
  void RemoveInputs(uint64_t channel);
  std::vector<std::shared_ptr<ChannelInputs>> Inputs() const;
  // What is mapped to stay, from the oldest on; and what is asked to close and
  // has inputs in it that wait. Valid as long as nobody else lets arenas go.
  std::vector<LeasedArena*> Staying() const;
  std::vector<LeasedArena*> WithWaitingInputs() const;
  // For results that it has just read, also where the generation is closing.
  // nullptr: it is not mapped.
  LeasedArena* AcquireResult(uint64_t channel, uint64_t generation);

  struct Released {
    bool tell = false;                  // the session's thread has something to tell
    std::unique_ptr<LeasedArena> last;  // to be let go: nobody is left to be told
  };
  [[nodiscard]] Released Release(LeasedArena* arena, uint64_t channel);

  // The newest generation that is mapped to stay; 0: none.
  uint64_t newest() const { return newest_.load(std::memory_order_acquire); }

 private:
  LeasedArena* Find(uint64_t generation) const;
  void NoteNewest();
  static void Hold(LeasedArena& arena, uint64_t channel);
  std::vector<HeldLeases> UnreadResults(uint64_t generation) const;
  bool InputsWait(uint64_t generation) const;

  mutable std::mutex mutex_;
  Arenas arenas_;                        // guarded by mutex_
  std::set<uint64_t> leaving_;           // given by TakeDue, not unmapped yet; guarded by mutex_
  std::map<uint64_t, Unread> channels_;  // with results on the device; guarded by mutex_
  std::map<uint64_t, std::shared_ptr<ChannelInputs>> inputs_;  // by channel; guarded by mutex_
  bool gone_ = false;
  std::atomic<uint64_t> newest_{0};
};

}  // namespace baton::internal

#endif  // BATON_RUNTIME_FRONT_ARENA_LEASES_H_
