#include "tests/simgpu/driver_state.h"

#include <utility>

namespace baton::ipc::cuda::sim {

DriverState& DriverState::Get() {
  static DriverState* const state = new DriverState;  // threads may outlive exit handlers
  return *state;
}

Context& CurrentContext() {
  thread_local Context current = nullptr;
  return current;
}

Call::Call(const char* symbol, Needs needs) : state_(DriverState::Get()) {
  Machine* const machine = Machine::Get();
  if (machine != nullptr) {
    result_ = machine->HangOrFail(symbol, "");
    knobs_ = machine->Now();
  } else {
    knobs_ = std::make_shared<const Knobs>();
  }
  if (machine != nullptr && machine->forked_away()) {
    // Another thread may have had the mutex when this process was forked.
    if (needs != Needs::kNothing) result_ = kNotInitialized;
    return;
  }
  lock_ = std::unique_lock<std::mutex>(state_.mutex);
  if (result_ != kSuccess || needs == Needs::kNothing) return;
  if (state_.machine == nullptr) {
    result_ = kNotInitialized;
    return;
  }
  if (needs == Needs::kInit) return;
  context_ = CurrentContext();
  result_ = state_.IsContext(context_) ? context_->sticky : kInvalidContext;
}

bool DriverState::IsContext(Context context) const {
  for (const auto& [device, live] : contexts) {
    if (live.get() == context) return true;
  }
  return false;
}

Result DriverState::Create(RecordKind kind, DeviceOrdinal device, uint64_t bytes, Record* record) {
  const std::shared_ptr<const Knobs> knobs = machine->Now();
  const uint64_t foreign = device == 0 ? knobs->foreign_bytes() : 0;
  const uint64_t capacity = knobs->capacity_bytes();
  if (bytes > capacity) return kOutOfMemory;  // before it is rounded up
  const std::optional<Record> created =
      machine->books().Create({.device = device, .bytes = bytes, .kind = kind},
                              capacity - std::min(foreign, capacity), knobs->teardown());
  if (!created.has_value()) return kOutOfMemory;
  Hold(*created);
  *record = *created;
  return kSuccess;
}

bool DriverState::Reference(const Record& record) {
  const auto it = held_.find(record.id);
  if (it == held_.end()) return false;
  ++it->second.references;
  return true;
}

const Record* DriverState::FindHeld(uint64_t record_id) const {
  const auto it = held_.find(record_id);
  return it == held_.end() ? nullptr : &it->second.record;
}

void DriverState::Release(uint64_t record_id) {
  const auto it = held_.find(record_id);
  if (it == held_.end() || --it->second.references > 0) return;
  machine->books().Release(it->second.record, Teardown());
  held_.erase(it);
}

std::optional<DevicePtr> DriverState::MapWhole(const Record& record) {
  const UniqueFd content = machine->books().OpenContent(record);
  if (!content) return std::nullopt;
  const std::optional<DevicePtr> base = space.Reserve(record.charged_bytes(), 0, 0);
  if (!base.has_value()) return std::nullopt;
  const Mapping mapping = {
      .base = *base, .bytes = record.bytes, .access = Access::kReadWrite, .record_id = record.id};
  if (!space.Map(mapping, record.charged_bytes(), content.get())) {
    space.Free(*base, record.charged_bytes());
    return std::nullopt;
  }
  return base;
}

void DriverState::UnmapWhole(DevicePtr base, uint64_t bytes) {
  space.Unmap(base, RoundUp(bytes));
  space.Free(base, RoundUp(bytes));
}

Result DriverState::Run(StreamRep* stream, uint64_t sequence) {
  while (!stream->queue.empty() && stream->done < sequence) {
    const std::function<Result()> work = std::move(stream->queue.front());
    stream->queue.pop_front();
    ++stream->done;
    // After the first failure nothing of the context runs any more.
    if (stream->context->sticky == kSuccess) stream->context->sticky = work();
  }
  return stream->context->sticky;
}

Result DriverState::RunAll(Context context, bool non_blocking_too) {
  for (const auto& [handle, stream] : streams) {
    if (stream->context != context) continue;
    if (non_blocking_too || !stream->non_blocking) Run(stream.get());
  }
  return context->sticky;
}

Result DriverState::Submit(Context context, Stream stream, std::function<Result()> work) {
  if (stream != nullptr) {
    stream->queue.push_back(std::move(work));
    ++stream->enqueued;
    return kSuccess;
  }
  if (const Result before = RunAll(context, false); before != kSuccess) return before;
  context->sticky = work();
  return context->sticky;
}

void DriverState::DestroyContext(Context context) {
  RunAll(context, true);
  std::erase_if(events, [&](const auto& it) { return it.second->context == context; });
  std::erase_if(streams, [&](const auto& it) { return it.second->context == context; });
  std::erase_if(modules, [&](const auto& it) { return it.second->context == context; });
  std::erase_if(allocations, [&](const auto& it) {
    if (it.second.context != context) return false;
    UnmapWhole(it.first, it.second.record.bytes);
    Release(it.second.record.id);
    return true;
  });
  const uint64_t record_id = context->record.id;
  contexts.erase(context->device);
  Release(record_id);
}

}  // namespace baton::ipc::cuda::sim
