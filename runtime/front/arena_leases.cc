#include "runtime/front/arena_leases.h"

#include <algorithm>
#include <utility>

namespace baton::internal {

LeasedArena* ArenaLeases::Find(uint64_t generation) const {
  for (const std::unique_ptr<LeasedArena>& arena : arenas_) {
    if (arena->generation() == generation) return arena.get();
  }
  return nullptr;
}

void ArenaLeases::NoteNewest() {
  uint64_t newest = 0;
  for (const std::unique_ptr<LeasedArena>& arena : arenas_) {
    if (!arena->close_asked_ && !gone_) newest = std::max(newest, arena->generation());
  }
  newest_.store(newest, std::memory_order_release);
}

bool ArenaLeases::Add(std::unique_ptr<ipc::ImportedArena> arena) {
  const std::lock_guard lock(mutex_);
  if (Find(arena->generation()) != nullptr || leaving_.contains(arena->generation())) return false;
  arenas_.push_back(std::unique_ptr<LeasedArena>(new LeasedArena(std::move(arena))));
  NoteNewest();
  return true;
}

bool ArenaLeases::Maps(uint64_t generation) const {
  const std::lock_guard lock(mutex_);
  return Find(generation) != nullptr || leaving_.contains(generation);
}

void ArenaLeases::Unmapped(uint64_t generation) {
  const std::lock_guard lock(mutex_);
  leaving_.erase(generation);
}

bool ArenaLeases::StartClosing(uint64_t generation, uint64_t call) {
  const std::lock_guard lock(mutex_);
  LeasedArena* arena = Find(generation);
  if (arena == nullptr) return false;
  // SYNC: leases_closing. No lease is given after this, so what is counted
  // later, under the same mutex, can only fall.
  arena->open_ = false;
  arena->call_ = call;
  arena->owed_ = call != 0;
  return true;
}

void ArenaLeases::Keep(uint64_t generation) {
  const std::lock_guard lock(mutex_);
  LeasedArena* arena = Find(generation);
  if (arena == nullptr || arena->close_asked_) return;
  arena->open_ = true;
  arena->call_ = 0;
  arena->owed_ = false;
}

bool ArenaLeases::AskToClose(uint64_t generation) {
  const std::lock_guard lock(mutex_);
  LeasedArena* arena = Find(generation);
  if (arena == nullptr) return false;
  arena->open_ = false;  // SYNC: leases_closing
  arena->close_asked_ = true;
  arena->owed_ = true;  // who says what it holds is not taken for one that hangs
  NoteNewest();
  return true;
}

bool ArenaLeases::Owe(uint64_t generation) {
  const std::lock_guard lock(mutex_);
  LeasedArena* arena = Find(generation);
  if (arena == nullptr) return false;
  arena->owed_ = true;
  return true;
}

ArenaLeases::Due ArenaLeases::TakeDue() {
  Due due;
  const std::lock_guard lock(mutex_);
  for (size_t i = arenas_.size(); i-- > 0;) {
    LeasedArena& arena = *arenas_[i];
    if (arena.open_) continue;
    const std::vector<HeldLeases> unread = UnreadResults(arena.generation());
    uint64_t answers = 0;
    for (const HeldLeases& channel : unread) answers += channel.count;
    if (std::exchange(arena.unread_, answers) != answers) arena.owed_ = true;
    if (arena.close_asked_ && arena.held_.empty() && answers == 0 &&
        !InputsWait(arena.generation())) {
      leaving_.insert(arena.generation());
      due.leaving.push_back(std::move(arenas_[i]));
      arenas_.erase(arenas_.begin() + static_cast<std::ptrdiff_t>(i));
    } else if (std::exchange(arena.owed_, false)) {
      due.answers.push_back(
          {.call = arena.call_, .generation = arena.generation(), .held = arena.held_});
      std::vector<HeldLeases>& held = due.answers.back().held;
      held.insert(held.end(), unread.begin(), unread.end());
    }
  }
  return due;
}

ArenaLeases::Arenas ArenaLeases::ServerGone() {
  Arenas free;
  const std::lock_guard lock(mutex_);
  gone_ = true;
  const auto leased = std::partition(arenas_.begin(), arenas_.end(),
                                     [](const auto& arena) { return !arena->held_.empty(); });
  std::move(leased, arenas_.end(), std::back_inserter(free));
  arenas_.erase(leased, arenas_.end());
  NoteNewest();
  return free;
}

void ArenaLeases::Abandon() {
  for (std::unique_ptr<LeasedArena>& arena : arenas_) static_cast<void>(arena.release());
}

ArenaLeases::Acquired ArenaLeases::Acquire(uint64_t channel, uint64_t serving) {
  const std::lock_guard lock(mutex_);
  Acquired acquired;
  if (gone_) return acquired;
  LeasedArena* best = nullptr;
  for (const std::unique_ptr<LeasedArena>& arena : arenas_) {
    const uint64_t generation = arena->generation();
    if (!arena->open_) {
      acquired.closing = std::max(acquired.closing, generation);
    } else if (best == nullptr || generation == serving ||
               (best->generation() != serving && generation > best->generation())) {
      best = arena.get();
    }
  }
  if (best == nullptr) return acquired;
  acquired.arena = best;
  Hold(*best, channel);
  return acquired;
}

ArenaLeases::Acquired ArenaLeases::AcquireForInputs(uint64_t channel, uint64_t serving) {
  {
    const std::lock_guard lock(mutex_);
    const LeasedArena* const serves = Find(serving);
    if (serves != nullptr && !serves->open_) return {.closing = serving};
  }
  // It may stop being open meanwhile: then a newer one is given, and a worker that does not have
  // that gives the request back.
  return Acquire(channel, serving);
}

void ArenaLeases::AddInputs(uint64_t channel, std::shared_ptr<ChannelInputs> inputs) {
  const std::lock_guard lock(mutex_);
  inputs_[channel] = std::move(inputs);
}

void ArenaLeases::RemoveInputs(uint64_t channel) {
  const std::lock_guard lock(mutex_);
  inputs_.erase(channel);
}

std::vector<std::shared_ptr<ChannelInputs>> ArenaLeases::Inputs() const {
  std::vector<std::shared_ptr<ChannelInputs>> all;
  const std::lock_guard lock(mutex_);
  for (const auto& [channel, inputs] : inputs_) all.push_back(inputs);
  return all;
}

std::vector<LeasedArena*> ArenaLeases::Staying() const {
  std::vector<LeasedArena*> staying;
  const std::lock_guard lock(mutex_);
  for (const std::unique_ptr<LeasedArena>& arena : arenas_) {
    if (!arena->close_asked_) staying.push_back(arena.get());
  }
  std::ranges::sort(staying, {}, &LeasedArena::generation);
  return staying;
}

bool ArenaLeases::InputsWait(uint64_t generation) const {
  return std::ranges::any_of(inputs_,
                             [&](const auto& entry) { return entry.second->WaitIn(generation); });
}

std::vector<LeasedArena*> ArenaLeases::WithWaitingInputs() const {
  std::vector<LeasedArena*> waiting;
  const std::lock_guard lock(mutex_);
  for (const std::unique_ptr<LeasedArena>& arena : arenas_) {
    if (arena->close_asked_ && InputsWait(arena->generation())) waiting.push_back(arena.get());
  }
  return waiting;
}

void ArenaLeases::Hold(LeasedArena& arena, uint64_t channel) {
  for (HeldLeases& held : arena.held_) {
    if (held.channel == channel) {
      ++held.count;
      return;
    }
  }
  arena.held_.push_back({.channel = channel, .count = 1});
}

void ArenaLeases::AddChannel(uint64_t channel, Unread unread) {
  const std::lock_guard lock(mutex_);
  channels_[channel] = std::move(unread);
}

void ArenaLeases::RemoveChannel(uint64_t channel) {
  const std::lock_guard lock(mutex_);
  channels_.erase(channel);
}

LeasedArena* ArenaLeases::AcquireResult(uint64_t channel, uint64_t generation) {
  const std::lock_guard lock(mutex_);
  LeasedArena* arena = Find(generation);
  if (arena != nullptr) Hold(*arena, channel);
  return arena;
}

std::vector<HeldLeases> ArenaLeases::UnreadResults(uint64_t generation) const {
  std::vector<HeldLeases> unread;
  for (const auto& [channel, count] : channels_) {
    if (const uint32_t answers = count(generation); answers > 0) {
      unread.push_back({.channel = channel, .count = answers});
    }
  }
  return unread;
}

ArenaLeases::Released ArenaLeases::Release(LeasedArena* arena, uint64_t channel) {
  Released released;
  const std::lock_guard lock(mutex_);
  const auto held = std::ranges::find(arena->held_, channel, &HeldLeases::channel);
  if (--held->count == 0) {
    *held = arena->held_.back();
    arena->held_.pop_back();
  }
  if (gone_) {
    if (!arena->held_.empty()) return released;
    const auto own = std::ranges::find(arenas_, arena, &std::unique_ptr<LeasedArena>::get);
    released.last = std::move(*own);
    arenas_.erase(own);
    return released;
  }
  // SYNC: leases_closing. Either the look at what is held comes after this, or
  // the flag is found by the next one, which the caller asks for.
  if (arena->call_ == 0 && !arena->close_asked_) return released;
  arena->owed_ = true;
  released.tell = true;
  return released;
}

}  // namespace baton::internal
