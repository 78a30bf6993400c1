#include "baton/stream.h"

#include <utility>

#include "baton/channel.h"
#include "runtime/front/channel_core.h"

namespace baton {
namespace {

absl::Status NoStream() {
  return absl::FailedPreconditionError("this stream was moved from, or never opened");
}

}  // namespace

absl::StatusOr<Stream> Channel::OpenStream(Request&& start, const StreamOptions& options) {
  if (core_ == nullptr || start.core_ != core_) {
    return absl::InvalidArgumentError(
        "the request that starts a stream must be loaned by the channel that opens it");
  }
  absl::StatusOr<internal::FrontStream*> stream = core_->streams().Open(start.slot_, options);
  if (!stream.ok()) return stream.status();
  start.core_ = nullptr;  // its handle is the stream's now
  return Stream(core_, *stream);
}

Stream::Stream(Stream&& other) noexcept
    : core_(std::exchange(other.core_, nullptr)), stream_(std::exchange(other.stream_, nullptr)) {}

Stream& Stream::operator=(Stream&& other) noexcept {
  if (this != &other) {
    Reset();
    core_ = std::exchange(other.core_, nullptr);
    stream_ = std::exchange(other.stream_, nullptr);
  }
  return *this;
}

Stream::~Stream() { Reset(); }

void Stream::Reset() {
  if (core_ == nullptr) return;
  std::exchange(core_, nullptr)->streams().Close(*std::exchange(stream_, nullptr));
}

absl::StatusOr<Stream::ReadResult> Stream::Read(absl::Duration timeout) {
  if (core_ == nullptr) return NoStream();
  const absl::StatusOr<internal::FrontStreams::Reading> read =
      core_->streams().Read(*stream_, timeout);
  if (!read.ok()) return read.status();
  ReadResult result{.found = read->found, .response = {}};
  if (read->found == Found::kResponse) result.response = Response(core_, read->slot);
  return result;
}

absl::StatusOr<RequestPlan> Stream::PlanItem(std::span<const TensorSpec> inputs) {
  if (core_ == nullptr) return NoStream();
  absl::StatusOr<const internal::PlanRep*> plan =
      core_->Plan(inputs, {.method = stream_->plan->method}, /*item=*/true);
  if (!plan.ok()) return plan.status();
  return RequestPlan(*plan);
}

absl::StatusOr<Request> Stream::Loan(const RequestPlan& plan) {
  if (core_ == nullptr) return NoStream();
  if (plan.rep_ == nullptr || !plan.rep_->item) {
    return absl::InvalidArgumentError("no plan of an item: use Stream::PlanItem");
  }
  absl::StatusOr<uint32_t> slot = core_->Loan(*plan.rep_);
  if (!slot.ok()) return slot.status();
  return Request(core_, *slot);
}

absl::StatusOr<Request> Stream::NewItem(std::span<const TensorSpec> inputs) {
  if (core_ == nullptr) return NoStream();
  absl::StatusOr<uint32_t> slot =
      core_->LoanNew(inputs, {.method = stream_->plan->method}, /*item=*/true);
  if (!slot.ok()) return slot.status();
  return Request(core_, *slot);
}

absl::Status Stream::Write(Request&& item, absl::Duration timeout) {
  if (core_ == nullptr) return NoStream();
  if (item.core_ != core_) {
    return absl::InvalidArgumentError("the item was loaned by another channel, or is none");
  }
  absl::Status written = core_->streams().Write(*stream_, item.slot_, timeout);
  if (written.ok()) item.core_ = nullptr;
  return written;
}

absl::Status Stream::WritesDone() {
  return core_ == nullptr ? NoStream() : core_->streams().WritesDone(*stream_);
}

void Stream::Cancel() {
  if (core_ != nullptr) core_->streams().Cancel(*stream_);
}

}  // namespace baton
