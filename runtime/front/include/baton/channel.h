// A channel: one thread of the service, talking to whichever worker serves.
#ifndef BATON_CHANNEL_H_
#define BATON_CHANNEL_H_

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "baton/bound_request.h"
#include "baton/device_lease.h"
#include "baton/options.h"
#include "baton/page_kind.h"
#include "baton/request.h"
#include "baton/response.h"
#include "baton/retry_after.h"
#include "baton/stream.h"
#include "baton/tensor.h"

namespace baton {

// Names a submitted request within its channel. Never reused.
struct Ticket {
  uint64_t id = 0;
  friend bool operator==(const Ticket&, const Ticket&) = default;
};

// How a submitted request ended. Exactly one per Submit, unless it was
// cancelled.
struct Outcome {
  Ticket ticket;
  // Of a BoundRequest it is empty when OK: the results are the bound request's.
  absl::StatusOr<Response> response;
  uint64_t tag = 0;  // BoundRequest::tag, as it was when it was submitted
};

// Thread safety: none; a channel, its requests and its responses belong to
// one thread at a time. Different channels are independent: give each thread
// its own.
//
// Errors a request can end with:
//   INVALID_ARGUMENT    it does not fit the model's signature; or the model said so
//   RESOURCE_EXHAUSTED  ring, arena or handles are full (nothing was started: try
//                       again later), or the result does not fit the response arena
//   DEADLINE_EXCEEDED   its time was over; the model may or may not have seen it
//   CANCELLED           only from a Cancel of the model's side; see Cancel
//   ABORTED             its worker died after it had started: it may have had effects
//   UNAVAILABLE         it was not started and cannot be in time (server gone, or in a
//                       reload whose expected gap is longer than its deadline:
//                       RetryAfter(status) says when to try again)
//   DATA_LOSS           the worker wrote nonsense into its segment; open a new channel
// and with whatever status the model returned.
//
// No function blocks without a bound, throws or aborts, whatever the worker,
// the supervisor or the shared memory do.
class Channel {
 public:
  Channel(Channel&&) noexcept;
  Channel& operator=(Channel&&) noexcept;
  // Ends what is outstanding; Requests and Responses that are still alive stay
  // valid. Tells the supervisor, without waiting for its
  // answer.
  ~Channel();

  // Checks `inputs` against the signature of the model's first method and lays
  // them out. `response_bytes`
  // is what to loan for the results, 0: as the signature says where its shapes
  // are fixed, else 64 KiB (a result that does not fit is asked for again with
  // a block that does). Cost: microseconds; allocates. At most 256 plans.
  absl::StatusOr<RequestPlan> Plan(std::span<const TensorSpec> inputs, uint64_t response_bytes = 0);

  // As Plan; but the results stay on the device (ChannelOptions::
  // device_result_bytes), `result_bytes` as `response_bytes` there. The views
  // of a Response have then a `device_address` on a GPU; on the host device
  // `bytes`, in the worker's own memory. A Response with such results is a lease
  // of its generation's device memory, and so is an answer that was not read
  // yet: a reload waits for its end (drain_timeout). Release them soon.
  absl::StatusOr<RequestPlan> PlanOnDevice(std::span<const TensorSpec> inputs,
                                           uint64_t result_bytes = 0);

  // As Plan, of any of the model's methods, and with tensors that lie on the device.
  absl::StatusOr<RequestPlan> Plan(std::span<const TensorSpec> inputs, const PlanOptions& options);

  // Loans the blocks for one request. Cost: tens of nanoseconds; no
  // allocation, no system call.
  absl::StatusOr<Request> Loan(const RequestPlan& plan);

  // Plan (the one made before, where the shapes were seen before) and Loan. For
  // requests of ever new shapes: where there are 256 plans already, the request
  // is described on its own (microseconds, here and in the worker; allocates).
  absl::StatusOr<Request> NewRequest(std::span<const TensorSpec> inputs,
                                     const PlanOptions& options = {});
  absl::StatusOr<Request> NewRequest(std::initializer_list<TensorSpec> inputs) {
    return NewRequest(std::span<const TensorSpec>(inputs.begin(), inputs.size()));
  }
  // For a signature without dynamic dimensions.
  absl::StatusOr<Request> NewRequest();

  // Submits and waits for the answer. Takes `request` only when it was
  // accepted: after RESOURCE_EXHAUSTED "ring is full" it is still the caller's.
  absl::StatusOr<Response> Call(Request&& request, const CallOptions& options = {});

  // Submits and returns at once. `request` as above.
  absl::StatusOr<Ticket> Submit(Request&& request, const CallOptions& options = {});

  // The next request that has ended, in the order of their ends; nullopt when
  // none has. Does not block.
  std::optional<Outcome> Poll();
  // Has the line in which the next answer will show brought to this CPU's cache
  // meanwhile. For a thread that polls many channels in turn: asked for two to
  // four channels ahead, each Poll finds what it looks at (64 channels of small
  // requests: 13 % more of them a second). Cost: one instruction; changes nothing.
  void Prefetch() const;
  // As Poll, but waits up to `timeout` for one.
  std::optional<Outcome> Wait(absl::Duration timeout);

  // Loans the blocks of a request that is submitted again and again, see
  // BoundRequest. INVALID_ARGUMENT where its inputs would lie on the device, or
  // its method streams. Cost: as Loan; it holds one of max_handles. Each submit
  // then costs one ring entry: no allocation, no system call, no lock, no copy.
  absl::StatusOr<BoundRequest> Bind(const RequestPlan& plan);

  // Submits and waits; OK: the results are in `bound`. FAILED_PRECONDITION, and
  // nothing has changed, while it is under way, or a worker may still be at it
  // since an earlier submit ended without it.
  absl::Status Call(BoundRequest& bound, const CallOptions& options = {});
  // Submits and returns at once. Poll and Wait give its end, by ticket and tag.
  absl::StatusOr<Ticket> Submit(BoundRequest& bound, const CallOptions& options = {});

  // Submits many with one publication: a worker sees them all at once, and is
  // woken once. Accepts them in order, up to the first that cannot be (the ring
  // is full, a bound one is under way): returns how many; the rest are still the
  // caller's. An error when that is the first one, or any is not this channel's:
  // then nothing was accepted. `tickets`, as far as it goes, gets theirs.
  absl::StatusOr<size_t> SubmitBatch(std::span<Request> requests, const CallOptions& options = {},
                                     std::span<Ticket> tickets = {});
  absl::StatusOr<size_t> SubmitBatch(std::span<BoundRequest* const> bound,
                                     const CallOptions& options = {},
                                     std::span<Ticket> tickets = {});
  // As Poll, but takes as many as there are and `outcomes` has room for, with one
  // look; returns how many.
  size_t Poll(std::span<Outcome> outcomes);

  // Starts a stream of a method that streams: `start` carries the inputs that do
  // not come with items. Takes `start` only when OK; RESOURCE_EXHAUSTED when there
  // is no room for it now. Returns at once. Cost: allocates.
  absl::StatusOr<Stream> OpenStream(Request&& start, const StreamOptions& options = {});

  // Forgets a request: it will not be given by Poll. The worker skips it if
  // it has not started it; its blocks come back when that is certain.
  // NOT_FOUND when it has ended already or never was.
  absl::Status Cancel(Ticket ticket);

  // A claim on the device memory of the generation that serves, with
  // FrontOptions::import_device. UNAVAILABLE while none is mapped or it is
  // about to be replaced; RetryAfter says when to try again, where that is
  // known. FAILED_PRECONDITION without import_device. Cost: a short mutex.
  absl::StatusOr<DeviceLease> LeaseDevice();

  // Requests submitted whose end was not yet given out.
  uint32_t outstanding() const;

  // For an epoll loop of the caller's (with ChannelOptions::event_fd; -1
  // without): readable after Arm when an answer came. Drain it with ClearEvent.
  // Deadlines and the deaths of others do not signal it: they are noticed by
  // Poll, so poll at least as often as the shortest deadline asks for.
  int event_fd() const;
  // Asks for a wake-up. True when something can be polled already: then poll,
  // the descriptor may stay silent.
  bool Arm();
  void ClearEvent();

  // The model's methods, at least one; and what the first takes and gives. (An
  // optional input may be left out of a request.)
  const std::vector<Method>& methods() const;
  const Signature& signature() const;
  // For PlanOptions::method. NOT_FOUND, with the names that there are.
  absl::StatusOr<uint32_t> FindMethod(std::string_view name) const;

  // The memory behind a channel, for tests and tools.
  uint64_t free_request_bytes() const;
  uint64_t free_response_bytes() const;
  // What ChannelOptions::huge_pages came to; of the two segments, the lesser.
  PageKind page_kind() const;

 private:
  friend class Front;
  friend class internal::ChannelCore;
  explicit Channel(internal::ChannelCore* core) : core_(core) {}
  // Of no slot: nullopt.
  std::optional<Outcome> Take(uint32_t slot);
  internal::ChannelCore* core_ = nullptr;
};

}  // namespace baton

#endif  // BATON_CHANNEL_H_
