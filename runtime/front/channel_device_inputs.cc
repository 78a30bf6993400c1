// ChannelCore: inputs that lie on the device.
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"

#include "runtime/front/channel_core.h"

namespace baton::internal {

absl::Status ChannelCore::OpenInputs(uint64_t slice_offset) {
  if (options_.device_input_bytes == 0) return absl::OkStatus();
  inputs_ = std::make_shared<ChannelInputs>(channel_, slice_offset, options_.device_input_bytes,
                                            options_.max_handles, event_.get());
  session_->AddInputs(inputs_);
  if (absl::Status imported = session_->AwaitImport(); !imported.ok()) return imported;
  return session_->AwaitInputs(*inputs_);
}

void ChannelCore::TellClosed() {
  if (inputs_ != nullptr) {
    session_->CloseInputs(inputs_);
  } else {
    session_->CloseChannel(channel_);
  }
}

// Leaves what it has got so far to the slot when it fails.
absl::Status ChannelCore::LoanInputs(uint32_t index) {
  Slot& slot = slots_[index];
  if (!slot.plan->inputs_on_device) return absl::OkStatus();
  const absl::StatusOr<LeasedArena*> arena = session_->LeaseForInputs(channel_);
  if (!arena.ok()) return arena.status();
  slot.input_arena = *arena;
  const uint64_t generation = (*arena)->generation();
  if (absl::Status writable = inputs_->Writable(generation); !writable.ok()) return writable;
  const std::optional<ChannelInputs::Loaned> loaned =
      inputs_->Loan(slot.plan->input_granules, generation);
  if (!loaned) {
    return absl::ResourceExhaustedError(
        absl::StrCat("this channel's device memory for inputs has no block of ",
                     slot.plan->input_granules * ipc::kGranuleBytes, " bytes free now (",
                     inputs_->free_bytes(), " of ", options_.device_input_bytes,
                     "): wait for answers, or open the channel with more device_input_bytes"));
  }
  slot.has_inputs = true;
  slot.inputs = loaned->entry;
  slot.input_offset = loaned->offset;
  return absl::OkStatus();
}

void ChannelCore::SubmitInputs(Slot& slot) {
  inputs_->Submit(slot.inputs,
                  reinterpret_cast<ipc::RequestBlockHeader*>(RequestBytes(slot.request)));
  // After that: the arena is not closed in between without moving them.
  session_->ReturnLease(std::exchange(slot.input_arena, nullptr), channel_);
}

void ChannelCore::EndInputs(Slot& slot) {
  // In a fork they are the parent's, and so may be the mutex.
  if (slot.has_inputs && !session_->forked()) inputs_->End(slot.inputs);
  slot.has_inputs = false;
  if (slot.parked) --parked_;
  slot.parked = false;
  if (slot.input_arena != nullptr) {
    session_->ReturnLease(std::exchange(slot.input_arena, nullptr), channel_);
  }
}

TensorView ChannelCore::InputView(uint32_t index, size_t input) const {
  const Slot& slot = slots_[index];
  if (input >= slot.plan->layouts.size()) return {};
  const ipc::TensorLayout& layout = slot.plan->layouts[input];
  TensorView view = {.name = layout.name,
                     .dtype = layout.dtype,
                     .shape = layout.shape,
                     .bytes = InputBytes(index, input),
                     .device_address = 0};
  if (slot.input_arena == nullptr || session_->forked()) return view;
  if (const uint64_t arena = slot.input_arena->device_address(); arena != 0) {
    view.device_address = arena + slot.input_offset + layout.offset;
    view.device_ordinal = slot.input_arena->device_ordinal();
  }
  return view;
}

uint64_t ChannelCore::InputGeneration(uint32_t index) const {
  const LeasedArena* const arena = slots_[index].input_arena;
  return arena == nullptr ? 0 : arena->generation();
}

// ---- Given back --------------------------------------------------------------------------------

bool ChannelCore::Park(uint32_t index, const ipc::CompletionEntry& entry) {
  Slot& slot = slots_[index];
  if (!slot.has_inputs || slot.parked || slot.user != User::kPending || slot.withdrawn ||
      (entry.flags & ipc::kCompletionDropped) == 0) {
    return false;
  }
  inputs_->Park(slot.inputs);
  slot.parked = true;
  ++parked_;
  // SYNC: generation_resumed. What the entry says of itself is not believed.
  slot.refused_by = worker_state().resume_generation.load(std::memory_order_acquire);
  ResumeParked();
  return true;
}

void ChannelCore::ResumeParked() {
  const uint64_t resumed = worker_state().resume_generation.load(std::memory_order_acquire);
  for (uint32_t i = 0; i < slots_.size() && parked_ > 0; ++i) {
    Slot& slot = slots_[i];
    if (!slot.parked) continue;
    if (slot.user != User::kPending) {  // expired, cancelled or withdrawn meanwhile
      EndRing(i);
      continue;
    }
    const absl::StatusOr<uint64_t> lie_in = inputs_->Find(slot.inputs);
    if (!lie_in.ok()) {
      EndRing(i);
      FinishUser(i, lie_in.status());
    } else if (*lie_in == slot.refused_by || (resumed != 0 && resumed != slot.refused_by)) {
      slot.parked = false;
      --parked_;
      Republish(slot);
    }
  }
}

}  // namespace baton::internal
