// A stream: one call of the model that takes any number of items and gives any
// number of responses, both at the same time.
//
//   auto method = channel->FindMethod("generate");
//   auto plan = channel->Plan(inputs, {.method = *method});
//   auto stream = channel->OpenStream(*channel->Loan(*plan));   // filled before
//   for (;;) {
//     auto read = stream->Read(absl::Seconds(30));
//     if (!read.ok() || read->found != Stream::Found::kResponse) break;
//     Use(read->response);
//   }
#ifndef BATON_STREAM_H_
#define BATON_STREAM_H_

#include <cstdint>
#include <initializer_list>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "baton/request.h"
#include "baton/response.h"
#include "baton/tensor.h"

namespace baton {

namespace internal {
class ChannelCore;
struct FrontStream;
}  // namespace internal

struct StreamOptions {
  // Responses that the model may be ahead of the reader, those included that the
  // reader has and has not released; and items that may be ahead of the model. A
  // power of two, 1 to 64. The stream takes window + 1 of the channel's
  // ring_entries, and window of its max_handles.
  uint32_t window = 8;
  // Bound on the whole stream, waiting for a reload included. At most 24 h.
  absl::Duration timeout = absl::Hours(24);
};

// Ownership: move-only; cancels the stream when it goes before its end. May
// outlive its Channel (then it says that the channel is closed).
// Thread safety: belongs to its Channel's thread.
//
// It works through reloads as a request does: one that was not started is served
// by the next generation; one that was ends on the generation that it began on,
// which a reload waits for (drain_timeout). It is never retried.
//
// A slow reader bounds the model: it gets room for another response when one is
// released. Who keeps `window` Responses gets no more until it lets one go.
class Stream {
 public:
  Stream() = default;
  Stream(Stream&& other) noexcept;
  Stream& operator=(Stream&& other) noexcept;
  ~Stream();

  // False for a default-made or moved-from stream.
  bool valid() const { return core_ != nullptr; }

  enum class Found {
    kResponse,
    kEnd,      // the model has come to its end; there is nothing more
    kNothing,  // not within `timeout`; the stream goes on
  };
  struct ReadResult {
    Found found = Found::kNothing;
    Response response;
  };
  // The next response, in order, as a lease: its block goes back when the
  // Response does. All responses come before the end, also where that is an
  // error: the model's own, CANCELLED (Cancel), DEADLINE_EXCEEDED (the stream's
  // own time), ABORTED (its worker has died or had to end), UNAVAILABLE (it was
  // not started, see Channel), RESOURCE_EXHAUSTED (a response is larger than the
  // channel's arena), DATA_LOSS. The end is repeated by each further call.
  // No allocation, no system call unless it has to sleep.
  absl::StatusOr<ReadResult> Read(absl::Duration timeout);
  absl::StatusOr<ReadResult> TryRead() { return Read(absl::ZeroDuration()); }

  // ---- items, where the method takes any
  // As Channel::Plan, of the inputs that come with each item.
  absl::StatusOr<RequestPlan> PlanItem(std::span<const TensorSpec> inputs);
  // Loans the block for an item. RESOURCE_EXHAUSTED when the arena is full:
  // the model gives blocks back as it takes items.
  absl::StatusOr<Request> Loan(const RequestPlan& plan);
  // As Channel::NewRequest, of an item.
  absl::StatusOr<Request> NewItem(std::span<const TensorSpec> inputs);
  absl::StatusOr<Request> NewItem(std::initializer_list<TensorSpec> inputs) {
    return NewItem(std::span<const TensorSpec>(inputs.begin(), inputs.size()));
  }
  // Sends it. Takes `item` only when OK. RESOURCE_EXHAUSTED: the window was full
  // of items for all of `timeout`; the stream goes on. FAILED_PRECONDITION after
  // WritesDone or a good end; else the stream's own end, as Read gives it.
  absl::Status Write(Request&& item, absl::Duration timeout);
  absl::Status TryWrite(Request&& item) { return Write(std::move(item), absl::ZeroDuration()); }
  // There will be no more items. Does nothing after the end.
  absl::Status WritesDone();

  // The model is told, at its next response or item at the latest; the stream
  // ends with CANCELLED at once. What had arrived can still be read.
  void Cancel();

  // In an event loop (Channel::Arm): the descriptor is signalled when a response
  // or the end has come, and, after a Write that found no room, when there is some.

 private:
  friend class Channel;
  friend class internal::ChannelCore;
  Stream(internal::ChannelCore* core, internal::FrontStream* stream)
      : core_(core), stream_(stream) {}
  void Reset();

  internal::ChannelCore* core_ = nullptr;
  internal::FrontStream* stream_ = nullptr;
};

}  // namespace baton

#endif  // BATON_STREAM_H_
