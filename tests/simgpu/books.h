// Who holds what of a simulated machine's device memory. Nothing is counted:
// who holds what is read off the kernel's file locks, which go with the process
// that took them, so the books are right whatever was killed wherever.
//
// The machine's folder (on a tmpfs):
//   live/   a file for each allocation and context; its name is its Record, its
//           content the memory
//   ended/  those that nobody holds any more and that are still being torn down
//   marks/  "<id>.<pid>": that process holds it and has not let go by itself
//   books   the next id and the peak; and the locks: a process that holds
//           allocation `id` has the byte (id << 22 | pid) locked
//   lock    taken by whoever changes live/, marks/ or the next id
// An exported descriptor is a description of the allocation's own file that has
// that file's first byte locked: it counts as long as any duplicate of it is
// open anywhere, one in flight over a socket included.
//
// Invariants:
//  1. A file in live/ had its owner's lock before it had its name.
//  2. A hold begins, and a descriptor is exported, only under the machine's
//     lock and only while something else holds the allocation: so one that is
//     found with neither, under that lock, is nobody's for good.
//  3. Each step (a lock, an open, a rename, an unlink) is the kernel's, whole or
//     not at all; the order of the steps is such that after any of them whoever
//     looks next can finish or undo the rest.
//
// Thread safety: any thread. A process that was forked off a holder shares its
// locks, as it shares a real driver's descriptors, until both are gone.
#ifndef BATON_TESTS_SIMGPU_BOOKS_H_
#define BATON_TESTS_SIMGPU_BOOKS_H_

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "ipc/unique_fd.h"

namespace baton::ipc::cuda::sim {

// What cuMemAlloc and cuMemCreate give is accounted in multiples of this.
inline constexpr uint64_t kGranularityBytes = uint64_t{2} << 20;

constexpr uint64_t RoundUp(uint64_t bytes) {
  return (bytes + kGranularityBytes - 1) / kGranularityBytes * kGranularityBytes;
}

enum class RecordKind : char {
  kContext = 'c',
  kLegacy = 'l',        // cuMemAlloc
  kVmm = 'v',           // cuMemCreate
  kShareableVmm = 's',  // cuMemCreate with a descriptor asked for
};

struct Record {
  uint64_t id = 0;  // in the order of creation, never used again
  int device = 0;
  pid_t owner = 0;  // who created it
  uint64_t bytes = 0;
  RecordKind kind = RecordKind::kLegacy;

  uint64_t charged_bytes() const { return kind == RecordKind::kContext ? bytes : RoundUp(bytes); }
};

struct Entry {
  Record record;
  std::vector<pid_t> holders = {};  // ascending
  bool descriptors = false;         // an exported descriptor of it is open somewhere
  bool ended = false;               // nobody's, but not torn down yet
  std::optional<pid_t> charged = std::nullopt;
};

// How long what nobody holds any more stays in use.
struct TeardownRule {
  uint64_t delay_ns = 0;   // from when it was first noticed
  bool hold = false;       // for good, until this is false
  bool dead_only = false;  // what its last holder let go of by itself is free at once
};

class Books {
 public:
  // Makes the files of a new machine in an empty folder; false: errno says why.
  static bool MakeMachine(const std::string& folder);
  // nullptr: no machine there.
  static std::unique_ptr<Books> Open(const std::string& folder);
  ~Books();
  Books(const Books&) = delete;
  Books& operator=(const Books&) = delete;

  // All that is in use. Takes the machine's lock only to settle what it finds
  // without a holder.
  std::vector<Entry> Look(const TeardownRule& teardown);

  // A new one, held by this process. nullopt: with it more than `limit_bytes` of
  // the device would be in use.
  std::optional<Record> Create(Record wanted, uint64_t limit_bytes, const TeardownRule& teardown);
  // Its content, to be mapped; invalid if it is gone.
  UniqueFd OpenContent(const Record& record) const;
  // Holds what another process has created; only while that one (its owner)
  // holds it itself. nullopt: it does not.
  std::optional<Record> HoldOf(uint64_t id, pid_t owner);
  // Holds what a descriptor from Export is of. nullopt: it is none of this
  // machine's.
  std::optional<Record> HoldDescriptor(int descriptor);
  // One that this process holds.
  UniqueFd Export(const Record& record);
  // Ends this process's hold: once for each Create and Hold.
  void Release(const Record& record, const TeardownRule& teardown);

  // The most allocations (contexts not counted) that were in use at any time.
  uint64_t PeakBytes() const;

 private:
  class MachineLock;

  Books() = default;
  std::string NameOf(const Record& record) const;
  std::vector<Entry> List(const TeardownRule& teardown);
  void ListEnded(const TeardownRule& teardown, std::vector<Entry>* entries);
  void FindHolders(Entry* entry) const;
  bool HasDescriptors(const Record& record) const;
  bool Held(const Record& record) const;
  bool LockByte(uint64_t id, short type);
  bool Mark(uint64_t id);
  // The machine's lock is held by the caller of these.
  void Settle();
  void End(const Record& record);
  std::optional<uint64_t> NextId();
  void RaisePeak(uint64_t bytes);

  std::mutex mutex_;   // locks of one description do not exclude threads
  UniqueFd folder_;    // the folder
  UniqueFd hold_;      // `books`: this process's locks are this description's
  UniqueFd look_;      // `books` once more, which sees those, too
  int lock_slot_ = 0;  // `lock`: see MachineLock
};

}  // namespace baton::ipc::cuda::sim

#endif  // BATON_TESTS_SIMGPU_BOOKS_H_
