#include "runtime/front/channel_inputs.h"

#include <algorithm>
#include <new>
#include <utility>

#include "absl/strings/str_cat.h"

#include "ipc/crash_point.h"
#include "ipc/eventfd.h"

namespace baton::internal {
namespace {

constexpr uint32_t kSpareEntries = 64;

uint32_t Granules(uint64_t bytes) {
  return static_cast<uint32_t>(std::clamp<uint64_t>(bytes / ipc::kGranuleBytes, 1, ~0u));
}

// `bytes` gets what lies in `arena`, and `to`, if there is one, has it then.
absl::Status Copy(ipc::ImportedArena& from, uint64_t offset, std::vector<std::byte>& bytes,
                  ipc::ImportedArena* to) {
  if (BATON_FAIL_POINT("front.move_inputs")) {
    return absl::InternalError("failed at front.move_inputs");
  }
  absl::Status copied = from.CopyOut(bytes, offset);
  if (copied.ok() && to != nullptr) copied = to->CopyIn(offset, bytes);
  return copied;
}

}  // namespace

// No more blocks are loaned than there are handles; those that end while they are copied keep
// theirs for so long, which is rare.
ChannelInputs::ChannelInputs(uint64_t channel, uint64_t slice_offset, uint64_t slice_bytes,
                             uint32_t max_loans, int event_fd)
    : channel_(channel),
      slice_offset_(slice_offset),
      slice_bytes_(slice_bytes),
      event_fd_(event_fd),
      blocks_(Granules(slice_bytes), max_loans + kSpareEntries),
      entries_(size_t{max_loans} + kSpareEntries) {
  unused_.reserve(entries_.size());
  for (size_t i = entries_.size(); i-- > 0;) unused_.push_back(static_cast<uint32_t>(i));
}

uint64_t ChannelInputs::free_bytes() const {
  const std::lock_guard lock(mutex_);
  return uint64_t{blocks_.free_granules()} * ipc::kGranuleBytes;
}

// ---- The channel's thread ----------------------------------------------------------------------

absl::Status ChannelInputs::Writable(uint64_t generation) const {
  const std::lock_guard lock(mutex_);
  const auto found = writable_.find(generation);
  if (found != writable_.end()) return found->second;
  return absl::UnavailableError(
      absl::StrCat("device memory of generation ", generation,
                   " is not writable here yet: try again in some milliseconds"));
}

std::optional<ChannelInputs::Loaned> ChannelInputs::Loan(uint32_t granules, uint64_t generation) {
  const std::lock_guard lock(mutex_);
  if (unused_.empty()) return std::nullopt;
  const uint32_t index = unused_.back();
  Entry& entry = entries_[index];
  if (!blocks_.Allocate(granules, &entry.block)) return std::nullopt;
  unused_.pop_back();
  entry.state = State::kFilling;
  entry.generation = generation;
  return Loaned{.entry = index, .offset = Offset(entry.block)};
}

void ChannelInputs::Submit(uint32_t index, ipc::RequestBlockHeader* header) {
  const std::lock_guard lock(mutex_);
  Entry& entry = entries_[index];
  entry.state = State::kWaiting;
  entry.header = header;
  // Relaxed: the entry of the ring that names the header comes after it.
  header->input_granule.store(entry.block.granule, std::memory_order_relaxed);
  header->input_granules.store(entry.block.granules, std::memory_order_relaxed);
  header->input_generation.store(static_cast<uint32_t>(entry.generation),
                                 std::memory_order_relaxed);
}

void ChannelInputs::Park(uint32_t index) {
  const std::lock_guard lock(mutex_);
  entries_[index].parked = true;
}

absl::StatusOr<uint64_t> ChannelInputs::Find(uint32_t index) const {
  const std::lock_guard lock(mutex_);
  const Entry& entry = entries_[index];
  if (!entry.lost.ok()) return entry.lost;
  return entry.generation;
}

void ChannelInputs::End(uint32_t index) {
  const std::lock_guard lock(mutex_);
  Entry& entry = entries_[index];
  if (entry.moving) {
    entry.ended = true;
  } else {
    Free(entry);
  }
}

void ChannelInputs::Free(Entry& entry) {
  blocks_.Free(entry.block);
  std::vector<std::byte> bytes;  // an assignment would keep the memory
  entry.bytes.swap(bytes);
  entry.state = State::kFree;
  entry.moving = entry.ended = entry.parked = entry.saved = false;
  entry.header = nullptr;
  entry.lost = absl::OkStatus();
  unused_.push_back(static_cast<uint32_t>(&entry - entries_.data()));
}

uint32_t ChannelInputs::filling() const {
  const std::lock_guard lock(mutex_);
  return static_cast<uint32_t>(std::ranges::count(entries_, State::kFilling, &Entry::state));
}

bool ChannelInputs::Close() {
  const std::lock_guard lock(mutex_);
  closed_ = true;
  close_owed_ = moving_ > 0;
  return !close_owed_;
}

// ---- The thread that maps and closes arenas ----------------------------------------------------

bool ChannelInputs::WaitsIn(const Entry& entry, uint64_t generation) {
  if (entry.generation != generation || entry.saved) return false;
  return entry.moving || (entry.state == State::kWaiting && entry.lost.ok());
}

bool ChannelInputs::WaitIn(uint64_t generation) const {
  const std::lock_guard lock(mutex_);
  return !closed_ && std::ranges::any_of(
                         entries_, [&](const Entry& entry) { return WaitsIn(entry, generation); });
}

template <typename Condition>
bool ChannelInputs::Begin(Entry& entry, Condition&& condition) {
  const std::lock_guard lock(mutex_);
  if (closed_ || entry.moving || !condition(entry)) return false;
  entry.moving = true;
  ++moving_;
  return true;
}

void ChannelInputs::Finish(Entry& entry, const absl::Status& copied, const ipc::ImportedArena* to) {
  const std::lock_guard lock(mutex_);
  entry.moving = false;
  --moving_;
  if (entry.ended) {
    Free(entry);
    return;
  }
  if (!copied.ok()) {
    entry.saved = false;
    entry.lost = absl::UnavailableError(absl::StrCat(
        "its inputs did not get from the device memory of generation ", entry.generation,
        " to the next one: ", std::string(copied.message()), ". Send the request again"));
  } else if (to == nullptr) {
    entry.saved = true;
  } else {
    entry.saved = false;
    entry.generation = to->generation();
    // SYNC: inputs_moved. A worker that sees this number sees the bytes.
    if (!closed_) {
      entry.header->input_generation.store(static_cast<uint32_t>(entry.generation),
                                           std::memory_order_release);
    }
  }
  if (!entry.saved) std::vector<std::byte>().swap(entry.bytes);
  if (entry.parked && event_fd_ >= 0 && !closed_) ipc::SignalEventFd(event_fd_);
}

void ChannelInputs::Move(ipc::ImportedArena& from, ipc::ImportedArena* to) {
  // Where nobody has seen to the slice yet they are brought later, by Adopt.
  if (to != nullptr && !Adopted(to->generation())) to = nullptr;
  const absl::Status writable = to == nullptr ? absl::OkStatus() : Writable(to->generation());
  for (Entry& entry : entries_) {
    if (!Begin(entry, [&](const Entry& e) { return WaitsIn(e, from.generation()); })) continue;
    absl::Status copied = writable;
    try {
      entry.bytes.resize(Bytes(entry.block));
      if (copied.ok()) copied = Copy(from, Offset(entry.block), entry.bytes, to);
    } catch (const std::bad_alloc&) {
      copied = absl::ResourceExhaustedError(
          absl::StrCat("no memory to keep ", Bytes(entry.block), " bytes in meanwhile"));
    }
    BATON_CRASH_POINT("front.inputs_copied");
    Finish(entry, copied, to);
  }
}

bool ChannelInputs::Adopted(uint64_t generation) const {
  const std::lock_guard lock(mutex_);
  return writable_.contains(generation);
}

void ChannelInputs::Adopt(ipc::ImportedArena& arena) {
  if (!Adopted(arena.generation())) {
    const absl::Status writable = arena.AllowWrites(slice_offset_, slice_bytes_);
    const std::lock_guard lock(mutex_);
    writable_[arena.generation()] = writable;
  }
  const absl::Status writable = Writable(arena.generation());
  for (Entry& entry : entries_) {
    if (!Begin(entry, [&](const Entry& e) { return e.saved && e.lost.ok(); })) continue;
    absl::Status copied = writable;
    if (copied.ok() && BATON_FAIL_POINT("front.restore_inputs")) {
      copied = absl::InternalError("failed at front.restore_inputs");
    }
    if (copied.ok()) copied = arena.CopyIn(Offset(entry.block), entry.bytes);
    BATON_CRASH_POINT("front.inputs_restored");
    Finish(entry, copied, &arena);
  }
}

void ChannelInputs::Lose(const absl::Status& why) {
  for (Entry& entry : entries_) {
    if (!Begin(entry, [&](const Entry& e) { return e.saved && e.lost.ok(); })) continue;
    Finish(entry, why, nullptr);
  }
}

void ChannelInputs::Forget(uint64_t generation) {
  const std::lock_guard lock(mutex_);
  writable_.erase(generation);
}

bool ChannelInputs::TakeOwedClose() {
  const std::lock_guard lock(mutex_);
  return moving_ == 0 && std::exchange(close_owed_, false);
}

}  // namespace baton::internal
