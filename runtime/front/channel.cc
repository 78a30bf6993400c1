#include "baton/channel.h"

#include <optional>
#include <utility>

#include "runtime/front/channel_core.h"
#include "runtime/front/handle_errors.h"

namespace baton {

// ---- Request -----------------------------------------------------------------------------------

Request::Request(Request&& other) noexcept
    : core_(std::exchange(other.core_, nullptr)), slot_(other.slot_) {}

Request& Request::operator=(Request&& other) noexcept {
  if (this != &other) {
    Reset();
    core_ = std::exchange(other.core_, nullptr);
    slot_ = other.slot_;
  }
  return *this;
}

Request::~Request() { Reset(); }

void Request::Reset() {
  if (core_ != nullptr) std::exchange(core_, nullptr)->ReleaseRequest(slot_);
}

size_t Request::input_count() const {
  return core_ == nullptr ? 0 : core_->plan(slot_).layouts.size();
}

std::span<std::byte> Request::input_bytes(size_t index) const {
  return core_ == nullptr ? std::span<std::byte>() : core_->InputBytes(slot_, index);
}

TensorView Request::input_view(size_t index) const {
  return core_ == nullptr ? TensorView() : core_->InputView(slot_, index);
}

uint64_t Request::input_generation() const {
  return core_ == nullptr ? 0 : core_->InputGeneration(slot_);
}

size_t Request::input_index(std::string_view name) const {
  if (core_ != nullptr) {
    const std::vector<ipc::TensorLayout>& layouts = core_->plan(slot_).layouts;
    for (size_t i = 0; i < layouts.size(); ++i) {
      if (layouts[i].name == name) return i;
    }
  }
  return ~size_t{0};
}

std::span<std::byte> Request::input_bytes(std::string_view name) const {
  return input_bytes(input_index(name));
}

DType Request::input_dtype(size_t index) const {
  return index < input_count() ? core_->plan(slot_).layouts[index].dtype : DType::kInvalid;
}

// ---- Response ----------------------------------------------------------------------------------

Response::Response(Response&& other) noexcept
    : core_(std::exchange(other.core_, nullptr)), slot_(other.slot_) {}

Response& Response::operator=(Response&& other) noexcept {
  if (this != &other) {
    Reset();
    core_ = std::exchange(other.core_, nullptr);
    slot_ = other.slot_;
  }
  return *this;
}

Response::~Response() { Reset(); }

void Response::Reset() {
  if (core_ != nullptr) std::exchange(core_, nullptr)->ReleaseResponse(slot_);
}

std::span<const TensorView> Response::outputs() const {
  return core_ == nullptr ? std::span<const TensorView>() : core_->Outputs(slot_);
}

const TensorView* Response::output(std::string_view name) const {
  for (const TensorView& view : outputs()) {
    if (view.name == name) return &view;
  }
  return nullptr;
}

uint64_t Response::generation() const { return core_ == nullptr ? 0 : core_->generation(slot_); }

absl::Duration Response::service_time() const {
  return absl::Nanoseconds(core_ == nullptr ? 0 : core_->service_ns(slot_));
}

// ---- Channel -----------------------------------------------------------------------------------

using internal::EmptyPlan;
using internal::MovedFrom;
using internal::NotOurs;

Channel::Channel(Channel&& other) noexcept : core_(std::exchange(other.core_, nullptr)) {}

Channel& Channel::operator=(Channel&& other) noexcept {
  if (this != &other) {
    if (core_ != nullptr) core_->CloseChannel();
    core_ = std::exchange(other.core_, nullptr);
  }
  return *this;
}

Channel::~Channel() {
  if (core_ != nullptr) core_->CloseChannel();
}

absl::StatusOr<RequestPlan> Channel::Plan(std::span<const TensorSpec> inputs,
                                          uint64_t response_bytes) {
  return Plan(inputs, PlanOptions{.response_bytes = response_bytes});
}

absl::StatusOr<RequestPlan> Channel::Plan(std::span<const TensorSpec> inputs,
                                          const PlanOptions& options) {
  if (core_ == nullptr) return MovedFrom();
  absl::StatusOr<const internal::PlanRep*> plan = core_->Plan(inputs, options);
  if (!plan.ok()) return plan.status();
  return RequestPlan(*plan);
}

absl::StatusOr<RequestPlan> Channel::PlanOnDevice(std::span<const TensorSpec> inputs,
                                                  uint64_t result_bytes) {
  return Plan(inputs, PlanOptions{.response_bytes = result_bytes, .results_on_device = true});
}

absl::StatusOr<Request> Channel::Loan(const RequestPlan& plan) {
  if (core_ == nullptr) return MovedFrom();
  if (plan.rep_ == nullptr) return EmptyPlan();
  absl::StatusOr<uint32_t> slot = core_->Loan(*plan.rep_);
  if (!slot.ok()) return slot.status();
  return Request(core_, *slot);
}

absl::StatusOr<Request> Channel::NewRequest(std::span<const TensorSpec> inputs,
                                            const PlanOptions& options) {
  if (core_ == nullptr) return MovedFrom();
  absl::StatusOr<uint32_t> slot = core_->LoanNew(inputs, options);
  if (!slot.ok()) return slot.status();
  return Request(core_, *slot);
}

absl::StatusOr<Request> Channel::NewRequest() {
  if (core_ == nullptr) return MovedFrom();
  absl::StatusOr<const internal::PlanRep*> plan = core_->DefaultPlan();
  if (!plan.ok()) return plan.status();
  return Loan(RequestPlan(*plan));
}

absl::StatusOr<Response> Channel::Call(Request&& request, const CallOptions& options) {
  if (core_ == nullptr) return MovedFrom();
  if (request.core_ != core_) return NotOurs();
  bool accepted = false;
  absl::StatusOr<uint32_t> slot = core_->Call(request.slot_, options, &accepted);
  if (accepted) request.core_ = nullptr;
  if (!slot.ok()) return slot.status();
  return Response(core_, *slot);
}

absl::StatusOr<Ticket> Channel::Submit(Request&& request, const CallOptions& options) {
  if (core_ == nullptr) return MovedFrom();
  if (request.core_ != core_) return NotOurs();
  absl::StatusOr<uint64_t> id = core_->Submit(request.slot_, options);
  if (!id.ok()) return id.status();
  request.core_ = nullptr;
  return Ticket{*id};
}

std::optional<Outcome> Channel::Take(uint32_t slot) {
  if (slot == internal::kNoSlot) return std::nullopt;
  const Ticket ticket = core_->ticket(slot);
  const uint64_t tag = core_->tag(slot);
  const bool bound = core_->is_bound(slot);
  absl::Status status = core_->TakeOutcome(slot);
  if (!status.ok()) return Outcome{.ticket = ticket, .response = std::move(status), .tag = tag};
  // The results of a bound one are its own to show.
  return Outcome{
      .ticket = ticket, .response = bound ? Response() : Response(core_, slot), .tag = tag};
}

std::optional<Outcome> Channel::Poll() {
  if (core_ == nullptr) return std::nullopt;
  return Take(core_->Poll());
}

std::optional<Outcome> Channel::Wait(absl::Duration timeout) {
  if (core_ == nullptr) return std::nullopt;
  return Take(core_->Wait(timeout));
}

absl::Status Channel::Cancel(Ticket ticket) {
  return core_ == nullptr ? MovedFrom() : core_->Cancel(ticket.id);
}

absl::StatusOr<DeviceLease> Channel::LeaseDevice() {
  if (core_ == nullptr) return MovedFrom();
  return core_->LeaseDevice();
}

uint32_t Channel::outstanding() const { return core_ == nullptr ? 0 : core_->unfinished(); }
void Channel::Prefetch() const {
  if (core_ != nullptr) core_->Prefetch();
}
int Channel::event_fd() const { return core_ == nullptr ? -1 : core_->event_fd(); }
bool Channel::Arm() { return core_ == nullptr || core_->Arm(); }
void Channel::ClearEvent() {
  if (core_ != nullptr) core_->ClearEvent();
}

const std::vector<Method>& Channel::methods() const {
  static const auto* const empty = new std::vector<Method>(1);
  return core_ == nullptr ? *empty : core_->methods();
}

const Signature& Channel::signature() const { return methods().front().signature; }

absl::StatusOr<uint32_t> Channel::FindMethod(std::string_view name) const {
  if (core_ == nullptr) return MovedFrom();
  std::string names;
  for (uint32_t i = 0; i < methods().size(); ++i) {
    if (methods()[i].name == name) return i;
    names += (i > 0 ? ", " : "") + methods()[i].name;
  }
  return absl::NotFoundError("the model has no method '" + std::string(name) +
                             "'; it has: " + names);
}

uint64_t Channel::free_request_bytes() const {
  return core_ == nullptr ? 0 : core_->free_request_bytes();
}
uint64_t Channel::free_response_bytes() const {
  return core_ == nullptr ? 0 : core_->free_response_bytes();
}

PageKind Channel::page_kind() const {
  return core_ == nullptr ? PageKind::kNormal : core_->page_kind();
}

}  // namespace baton
