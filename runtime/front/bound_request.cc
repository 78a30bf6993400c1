#include "baton/bound_request.h"

#include <optional>
#include <utility>

#include "baton/channel.h"
#include "runtime/front/channel_core.h"
#include "runtime/front/handle_errors.h"

namespace baton {

// ---- The handle --------------------------------------------------------------------------------

BoundRequest::BoundRequest(BoundRequest&& other) noexcept
    : core_(std::exchange(other.core_, nullptr)), slot_(other.slot_), tag_(other.tag_) {}

BoundRequest& BoundRequest::operator=(BoundRequest&& other) noexcept {
  if (this != &other) {
    Reset();
    core_ = std::exchange(other.core_, nullptr);
    slot_ = other.slot_;
    tag_ = other.tag_;
  }
  return *this;
}

BoundRequest::~BoundRequest() { Reset(); }

void BoundRequest::Reset() {
  if (core_ != nullptr) std::exchange(core_, nullptr)->Unbind(slot_);
}

size_t BoundRequest::input_count() const {
  return core_ == nullptr ? 0 : core_->plan(slot_).layouts.size();
}

std::span<std::byte> BoundRequest::input_bytes(size_t index) const {
  return core_ == nullptr ? std::span<std::byte>() : core_->InputBytes(slot_, index);
}

DType BoundRequest::input_dtype(size_t index) const {
  return index < input_count() ? core_->plan(slot_).layouts[index].dtype : DType::kInvalid;
}

bool BoundRequest::under_way() const { return core_ != nullptr && core_->BoundUnderWay(slot_); }

std::span<const TensorView> BoundRequest::outputs() const {
  return core_ == nullptr ? std::span<const TensorView>() : core_->BoundOutputs(slot_);
}

const TensorView* BoundRequest::output(std::string_view name) const {
  for (const TensorView& view : outputs()) {
    if (view.name == name) return &view;
  }
  return nullptr;
}

uint64_t BoundRequest::generation() const {
  return core_ == nullptr ? 0 : core_->generation(slot_);
}

absl::Duration BoundRequest::service_time() const {
  return absl::Nanoseconds(core_ == nullptr ? 0 : core_->service_ns(slot_));
}

void BoundRequest::ReleaseAnswer() {
  if (core_ != nullptr) core_->ReleaseBoundAnswer(slot_);
}

// ---- What a channel does with it ---------------------------------------------------------------

absl::StatusOr<BoundRequest> Channel::Bind(const RequestPlan& plan) {
  if (core_ == nullptr) return internal::MovedFrom();
  if (plan.rep_ == nullptr) return internal::EmptyPlan();
  absl::StatusOr<uint32_t> slot = core_->Bind(*plan.rep_);
  if (!slot.ok()) return slot.status();
  return BoundRequest(core_, *slot);
}

absl::Status Channel::Call(BoundRequest& bound, const CallOptions& options) {
  if (core_ == nullptr) return internal::MovedFrom();
  if (bound.core_ != core_) return internal::NotOurs();
  return core_->CallBound(bound.slot_, options);
}

absl::StatusOr<Ticket> Channel::Submit(BoundRequest& bound, const CallOptions& options) {
  if (core_ == nullptr) return internal::MovedFrom();
  if (bound.core_ != core_) return internal::NotOurs();
  absl::StatusOr<uint64_t> id = core_->SubmitBound(bound.slot_, options, bound.tag_);
  if (!id.ok()) return id.status();
  return Ticket{*id};
}

// ---- Many at once ------------------------------------------------------------------------------

absl::StatusOr<size_t> Channel::SubmitBatch(std::span<Request> requests, const CallOptions& options,
                                            std::span<Ticket> tickets) {
  if (core_ == nullptr) return internal::MovedFrom();
  for (const Request& request : requests) {
    if (request.core_ != core_) return internal::NotOurs();
  }
  const auto nth = [&](size_t i) {
    return internal::ChannelCore::Submission{.slot = requests[i].slot_};
  };
  const absl::StatusOr<size_t> accepted = core_->SubmitBatch(requests.size(), nth, options);
  if (!accepted.ok()) return accepted.status();
  for (size_t i = 0; i < *accepted; ++i) {
    requests[i].core_ = nullptr;
    if (i < tickets.size()) tickets[i] = core_->ticket(requests[i].slot_);
  }
  return *accepted;
}

absl::StatusOr<size_t> Channel::SubmitBatch(std::span<BoundRequest* const> bound,
                                            const CallOptions& options, std::span<Ticket> tickets) {
  if (core_ == nullptr) return internal::MovedFrom();
  for (const BoundRequest* one : bound) {
    if (one == nullptr || one->core_ != core_) return internal::NotOurs();
  }
  const auto nth = [&](size_t i) {
    return internal::ChannelCore::Submission{.slot = bound[i]->slot_, .tag = bound[i]->tag_};
  };
  const absl::StatusOr<size_t> accepted = core_->SubmitBatch(bound.size(), nth, options);
  if (!accepted.ok()) return accepted.status();
  for (size_t i = 0; i < std::min(*accepted, tickets.size()); ++i) {
    tickets[i] = core_->ticket(bound[i]->slot_);
  }
  return *accepted;
}

size_t Channel::Poll(std::span<Outcome> outcomes) {
  if (core_ == nullptr || outcomes.empty() || !core_->LookForOutcomes()) return 0;
  size_t taken = 0;
  for (; taken < outcomes.size(); ++taken) {
    std::optional<Outcome> outcome = Take(core_->NextOutcome());
    if (!outcome) break;
    outcomes[taken] = *std::move(outcome);
  }
  return taken;
}

}  // namespace baton
