// The inputs of one channel that lie on the device: which blocks of its slice
// are loaned, in which generation's arena their bytes are, and their way to the
// next one.
//
// A block is loaned for one request of the channel:
//   filling   its Request is the user's; a lease of its generation holds the arena
//   waiting   submitted; whoever closes that arena moves the bytes first, to
//             the newest one or to this process, and to the next from there
//   free      again when the request's ring side has ended
//
// Thread safety: the channel's thread and the one that maps and closes arenas
// share an object of this. One short mutex, never held over a copy; it may be
// taken under that of ArenaLeases, never the other way round.
#ifndef BATON_RUNTIME_FRONT_CHANNEL_INPUTS_H_
#define BATON_RUNTIME_FRONT_CHANNEL_INPUTS_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "ipc/block_allocator.h"
#include "ipc/channel_layout.h"
#include "ipc/device.h"

namespace baton::internal {

class ChannelInputs {
 public:
  using Block = ipc::BlockAllocator::Block;

  // `event_fd` (-1: none) is signalled when something has become of requests that
  // are parked.
  ChannelInputs(uint64_t channel, uint64_t slice_offset, uint64_t slice_bytes, uint32_t max_loans,
                int event_fd);

  uint64_t channel() const { return channel_; }
  uint64_t free_bytes() const;

  // ---- The channel's thread.
  // OK when the slice can be written in that generation's arena; UNAVAILABLE
  // while nobody has seen to it.
  absl::Status Writable(uint64_t generation) const;
  struct Loaned {
    uint32_t entry = 0;   // names it below
    uint64_t offset = 0;  // in the arena
  };
  // nullopt: no block is that large now. Cost: no allocation.
  std::optional<Loaned> Loan(uint32_t granules, uint64_t generation);
  // It waits from now on. `header`, which says to the worker where the inputs
  // are, is written here and with every move, until End or Close.
  void Submit(uint32_t entry, ipc::RequestBlockHeader* header);
  // A worker of another generation has given the request back.
  void Park(uint32_t entry);
  // In whose arena the bytes are (an earlier one's number: they are on their
  // way); an error: they are lost, and why.
  absl::StatusOr<uint64_t> Find(uint32_t entry) const;
  // The block is free, as soon as nothing is copied from or to it.
  void End(uint32_t entry);
  // Blocks that are loaned to Requests.
  uint32_t filling() const;
  // Nothing is moved for this channel any more, and no header is written.
  // False: a copy is under way, so that the slice may not go to another channel
  // yet; TakeOwedClose says when.
  bool Close();

  // ---- The thread that maps and closes arenas. `arena` calls may hang on a GPU.
  // Something waits whose bytes are in that generation's arena alone.
  bool WaitIn(uint64_t generation) const;
  // Makes the slice writable there, and brings there what was brought to this
  // process. What cannot be is lost.
  void Adopt(ipc::ImportedArena& arena);
  bool Adopted(uint64_t generation) const;
  // Brings what waits in `from` to `to`, or to this process (nullptr, or where
  // it was not adopted yet). What cannot be is lost.
  void Move(ipc::ImportedArena& from, ipc::ImportedArena* to);
  // What is in this process alone is lost: there is no arena for it.
  void Lose(const absl::Status& why);
  void Forget(uint64_t generation);  // it is not mapped any more
  // True once: the copy that Close met is over.
  bool TakeOwedClose();

 private:
  enum class State : uint8_t { kFree, kFilling, kWaiting };
  struct Entry {
    State state = State::kFree;
    bool moving = false;  // its bytes are being copied, without the mutex
    bool ended = false;   // free when that is over
    bool parked = false;
    bool saved = false;  // in `bytes`, and nowhere else
    Block block;
    uint64_t generation = 0;
    ipc::RequestBlockHeader* header = nullptr;
    absl::Status lost;
    std::vector<std::byte> bytes;  // the mover's while `moving`
  };

  uint64_t Offset(const Block& block) const {
    return slice_offset_ + uint64_t{block.granule} * ipc::kGranuleBytes;
  }
  static uint64_t Bytes(const Block& block) {
    return uint64_t{block.granules} * ipc::kGranuleBytes;
  }
  // Under the mutex.
  static bool WaitsIn(const Entry& entry, uint64_t generation);
  void Free(Entry& entry);
  // Takes an entry for a copy; false: it is not to be copied.
  template <typename Condition>
  bool Begin(Entry& entry, Condition&& condition);
  // After the copy: `to` has the bytes, or without one the entry.
  void Finish(Entry& entry, const absl::Status& copied, const ipc::ImportedArena* to);

  const uint64_t channel_;
  const uint64_t slice_offset_;
  const uint64_t slice_bytes_;
  const int event_fd_;

  mutable std::mutex mutex_;
  ipc::BlockAllocator blocks_;                 // guarded by mutex_
  std::vector<Entry> entries_;                 // guarded by mutex_
  std::vector<uint32_t> unused_;               // of these; guarded by mutex_
  uint32_t moving_ = 0;                        // guarded by mutex_
  bool closed_ = false;                        // guarded by mutex_
  bool close_owed_ = false;                    // guarded by mutex_
  std::map<uint64_t, absl::Status> writable_;  // by generation; guarded by mutex_
};

}  // namespace baton::internal

#endif  // BATON_RUNTIME_FRONT_CHANNEL_INPUTS_H_
