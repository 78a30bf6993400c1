#include "runtime/worker/channel_server.h"

#include <fcntl.h>

#include <algorithm>
#include <cstring>
#include <exception>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "ipc/channel_layout.h"
#include "ipc/crash_point.h"
#include "ipc/descriptor.h"
#include "ipc/eventfd.h"
#include "ipc/futex.h"
#include "ipc/ring.h"
#include "ipc/segment.h"
#include "runtime/worker/answer.h"
#include "runtime/worker/known_requests.h"
#include "runtime/worker/response_writer.h"
#include "runtime/worker/served_methods.h"
#include "spdlog/spdlog.h"

namespace baton::runtime {
namespace {

using ipc::CompletionEntry;
using ipc::SubmissionEntry;
using SubmissionTaken = ipc::TakenEntry<SubmissionEntry>;

constexpr size_t kMaxErrorBytes = 4096;

void Bump(std::atomic<uint64_t>& counter) {
  // One writer: no read-modify-write needed. Relaxed: a statistic.
  counter.store(counter.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
}

class ChannelServerImpl final : public ChannelServer {
 public:
  ChannelServerImpl(uint64_t channel, const Descriptors& descriptors, ipc::Segment submission,
                    const ipc::SegmentView& submission_view, ipc::Segment completion,
                    const ipc::SegmentView& completion_view, ipc::UniqueFd event)
      : channel_(channel),
        slice_offset_(descriptors.device_offset),
        slice_bytes_(descriptors.device_bytes),
        submission_(std::move(submission)),
        completion_(std::move(completion)),
        submission_view_(submission_view),
        completion_view_(completion_view),
        event_(std::move(event)) {}

  uint64_t channel() const override { return channel_; }
  absl::Status Begin(uint64_t generation) override;
  bool ServeOne(loader::Model& model, ipc::WorkerPage& page) override;
  bool HasWork() const override { return begun_ && submissions_.Ready(); }
  void UseDevice(const ChannelDevice& device) override;

 private:
  const ipc::FrontState& front() const {
    return *reinterpret_cast<const ipc::FrontState*>(submission_.data() +
                                                     sizeof(ipc::SegmentHeader));
  }
  ipc::WorkerState& worker() const {
    return *reinterpret_cast<ipc::WorkerState*>(completion_.data() + sizeof(ipc::SegmentHeader));
  }
  const SubmissionEntry* submission_entries() const {
    return reinterpret_cast<const SubmissionEntry*>(submission_.data() +
                                                    submission_view_.plan.ring_offset);
  }
  CompletionEntry* completion_entries() const {
    return reinterpret_cast<CompletionEntry*>(completion_.data() +
                                              completion_view_.plan.ring_offset);
  }

  std::optional<std::span<const std::byte>> RequestBlock(const SubmissionEntry& entry) const;
  std::span<std::byte> ResponseBlock(const SubmissionEntry& entry) const;
  absl::StatusOr<ResponseWriter::DeviceBlock> DeviceBlock(const SubmissionEntry& entry) const;
  bool Cancelled(uint64_t sequence, std::span<const std::byte> block);
  Answer Execute(const SubmissionEntry& entry, uint64_t sequence, loader::Model& model,
                 int64_t now);
  Answer Run(const KnownRequest& request, ServedMethod& method, std::span<std::byte> response,
             const ResponseWriter::DeviceBlock& device, loader::Model& model);
  void Publish(const SubmissionEntry& entry, Answer& answer, uint64_t service_ns);
  void WakeFront();

  const uint64_t channel_;
  const uint64_t slice_offset_;
  const uint64_t slice_bytes_;
  ipc::Segment submission_;
  ipc::Segment completion_;
  ChannelDevice device_;
  std::unique_ptr<ipc::HostRegistration> registrations_[2];
  const ipc::SegmentView submission_view_;
  const ipc::SegmentView completion_view_;
  ipc::UniqueFd event_;

  bool begun_ = false;
  uint64_t generation_ = 0;
  ipc::RingConsumer<SubmissionEntry> submissions_;
  ipc::RingProducer<CompletionEntry> completions_;
  ServedMethods methods_;
  KnownRequests known_;
  uint64_t cancellations_seen_ = 0;
  uint64_t check_cancelled_until_ = 0;
  bool check_cancelled_ = false;
};

void ChannelServerImpl::UseDevice(const ChannelDevice& use) {
  for (auto& registration : registrations_) registration.reset();
  device_ = use;
  ipc::Device* const device = use.device;
  if (device == nullptr) return;
  const std::span<const std::byte> memory[] = {{submission_.data(), submission_.bytes()},
                                               {completion_.data(), completion_.bytes()}};
  for (size_t i = 0; i < 2; ++i) {
    auto registered = device->RegisterHostMemory(memory[i], /*writable=*/i == 1);
    if (registered.ok()) {
      registrations_[i] = *std::move(registered);
    } else {
      spdlog::info("channel {}: copies to and from the device go through a bounce buffer: {}",
                   channel_, std::string(registered.status().message()));
    }
  }
}

absl::Status ChannelServerImpl::Begin(uint64_t generation) {
  ipc::WorkerState& state = worker();
  const uint64_t entries = submission_view_.ring_entries;
  // SYNC: request_taken. The worker that stored it has been reaped.
  const uint64_t taken = state.taken.load(std::memory_order_acquire);
  const uint64_t at_taken =
      submission_entries()[taken & (entries - 1)].stamp.load(std::memory_order_acquire);
  const uint64_t last = taken - 1;
  const uint64_t at_last =
      submission_entries()[last & (entries - 1)].stamp.load(std::memory_order_acquire);
  if ((at_taken != taken && at_taken != taken - entries) ||
      (at_last != last && at_last != last + entries)) {
    return absl::DataLossError(absl::StrCat("channel ", channel_,
                                            ": the worker before left an impossible position (",
                                            taken, "); the front has to open a new channel"));
  }
  const uint64_t slots = completion_view_.ring_entries;
  const uint64_t published = ipc::FindPublished(completion_entries(), completion_view_.ring_entries,
                                                state.published.load(std::memory_order_acquire));
  const uint64_t at_published =
      completion_entries()[published & (slots - 1)].stamp.load(std::memory_order_acquire);
  const uint64_t at_previous =
      completion_entries()[(published - 1) & (slots - 1)].stamp.load(std::memory_order_acquire);
  if (at_published != published - slots || at_previous != published - 1) {
    return absl::DataLossError(absl::StrCat("channel ", channel_,
                                            ": the worker before left completions that cannot be (",
                                            published, "); the front has to open a new channel"));
  }
  generation_ = generation;
  submissions_ = ipc::RingConsumer<SubmissionEntry>(submission_entries(),
                                                    submission_view_.ring_entries, taken);
  completions_ = ipc::RingProducer<CompletionEntry>(completion_entries(),
                                                    completion_view_.ring_entries, published);
  state.published.store(published, std::memory_order_relaxed);

  // SYNC: generation_resumed. 0 marks the record as being written; a kill in
  // between leaves 0, which readers take for "not yet".
  state.resume_generation.store(0, std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_release);
  BATON_CRASH_POINT("worker.resume_begun");
  state.resume_taken.store(taken, std::memory_order_relaxed);
  state.resume_published.store(published, std::memory_order_relaxed);
  BATON_CRASH_POINT("worker.resume_written");
  state.resume_generation.store(generation, std::memory_order_release);
  begun_ = true;
  // Requests cancelled before this worker looked are in the ring already.
  check_cancelled_ = true;
  check_cancelled_until_ = taken + entries;
  cancellations_seen_ = front().cancellations.load(std::memory_order_acquire);
  return absl::OkStatus();
}

bool ChannelServerImpl::ServeOne(loader::Model& model, ipc::WorkerPage& page) {
  SubmissionTaken taken;
  const uint64_t sequence = submissions_.next();
  if (!begun_ || !submissions_.TryTake(&taken)) return false;
  BATON_CRASH_POINT("worker.entry_read");
  // SYNC: request_taken. From here on the request counts as started.
  worker().taken.store(submissions_.next(), std::memory_order_release);
  // SYNC: request_cancelled. A front that gives up without asking anybody sees
  // `taken`, or is seen by the look at `cancellations` below.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  BATON_CRASH_POINT("worker.taken_published");
  const SubmissionEntry& entry = *taken.operator->();
  Bump(page.taken);
  const int64_t start = ipc::MonotonicNs();
  // Relaxed: who reads one without the other judges by a request that has just begun or ended.
  page.busy_deadline_ns.store(entry.deadline_ns, std::memory_order_relaxed);
  page.busy_since_ns.store(start, std::memory_order_relaxed);

  Answer answer = Execute(entry, sequence, model, start);

  const int64_t end = ipc::MonotonicNs();
  BATON_CRASH_POINT("worker.answer_written");
  Publish(entry, answer, static_cast<uint64_t>(std::max<int64_t>(end - start, 0)));
  BATON_CRASH_POINT("worker.completion_published");
  WakeFront();
  Bump(answer.dropped ? page.expired : answer.status.ok() ? page.completed : page.failed);
  page.busy_since_ns.store(0, std::memory_order_relaxed);
  page.heartbeat_ns.store(end, std::memory_order_relaxed);
  return true;
}

std::optional<std::span<const std::byte>> ChannelServerImpl::RequestBlock(
    const SubmissionEntry& entry) const {
  const uint64_t end = uint64_t{entry.request_granule} + entry.request_granules;
  if (end > submission_view_.plan.arena_bytes / ipc::kGranuleBytes) return std::nullopt;
  const uint64_t bytes = entry.request_granules * ipc::kGranuleBytes;
  if (ipc::kBlockHeaderBytes + uint64_t{entry.descriptor_bytes} > bytes) return std::nullopt;
  return std::span<const std::byte>(submission_.data() + submission_view_.plan.arena_offset +
                                        entry.request_granule * ipc::kGranuleBytes,
                                    bytes);
}

// An empty block where the entry's is not inside the arena: nothing is
// written then, the answer has no text.
std::span<std::byte> ChannelServerImpl::ResponseBlock(const SubmissionEntry& entry) const {
  const uint64_t end = uint64_t{entry.response_granule} + entry.response_granules;
  if (end > completion_view_.plan.arena_bytes / ipc::kGranuleBytes) return {};
  return {completion_.data() + completion_view_.plan.arena_offset +
              entry.response_granule * ipc::kGranuleBytes,
          entry.response_granules * ipc::kGranuleBytes};
}

// Where the results go on the device; nowhere when the entry names nothing.
absl::StatusOr<ResponseWriter::DeviceBlock> ChannelServerImpl::DeviceBlock(
    const SubmissionEntry& entry) const {
  if (entry.device_granules == 0) return ResponseWriter::DeviceBlock{};
  const uint64_t end = uint64_t{entry.device_granule} + entry.device_granules;
  if (end > slice_bytes_ / ipc::kGranuleBytes) {
    return absl::InvalidArgumentError("the block for the results is outside the channel's slice");
  }
  if (device_.device == nullptr || slice_offset_ > device_.results_bytes ||
      slice_bytes_ > device_.results_bytes - slice_offset_) {
    return absl::FailedPreconditionError(
        absl::StrCat("this generation sets ", device_.results_bytes,
                     " bytes of device memory aside for results, the channel's slice ends at ",
                     slice_offset_ + slice_bytes_));
  }
  return ResponseWriter::DeviceBlock{.device = device_.device,
                                     .address = device_.results_address + slice_offset_ +
                                                uint64_t{entry.device_granule} * ipc::kGranuleBytes,
                                     .bytes = uint64_t{entry.device_granules} * ipc::kGranuleBytes};
}

bool ChannelServerImpl::Cancelled(uint64_t sequence, std::span<const std::byte> block) {
  const uint64_t cancellations = front().cancellations.load(std::memory_order_acquire);
  if (cancellations != cancellations_seen_) {
    cancellations_seen_ = cancellations;
    check_cancelled_ = true;
    // Whatever may have been cancelled was submitted before; no more than a
    // ring of requests is outstanding.
    check_cancelled_until_ = sequence + submission_view_.ring_entries;
  }
  if (!check_cancelled_) return false;
  if (static_cast<int64_t>(sequence - check_cancelled_until_) > 0) {
    check_cancelled_ = false;
    return false;
  }
  const auto* header = reinterpret_cast<const ipc::RequestBlockHeader*>(block.data());
  return header->cancelled.load(std::memory_order_acquire) != 0;
}

Answer ChannelServerImpl::Execute(const SubmissionEntry& entry, uint64_t sequence,
                                  loader::Model& model, int64_t now) {
  const std::optional<std::span<const std::byte>> block = RequestBlock(entry);
  if (!block || entry.kind != static_cast<uint16_t>(ipc::RequestKind::kInfer)) {
    return Answer::Refusal(absl::InvalidArgumentError(
        "the request's block is outside its arena, or its kind is unknown"));
  }
  if (entry.deadline_ns != 0 && now >= entry.deadline_ns) {
    return Answer::Dropped(absl::DeadlineExceededError("its deadline passed while it waited"));
  }
  if (Cancelled(sequence, *block)) {
    return Answer::Dropped(absl::CancelledError("cancelled while it waited"));
  }
  ServedMethod* const method = methods_.Get(model, entry.method);
  if (method == nullptr || method->streams()) {
    return Answer::Refusal(absl::InvalidArgumentError(absl::StrCat(
        "the model's method ", entry.method,
        method == nullptr ? " is not there: it has fewer" : " is called by a stream, not once")));
  }
  absl::StatusOr<KnownRequest*> request = known_.Get(
      {.token = entry.descriptor_token, .bytes = entry.descriptor_bytes, .method = entry.method},
      *block, *method->signature);
  if (!request.ok()) return Answer::Refusal(request.status());
  const absl::StatusOr<ResponseWriter::DeviceBlock> device = DeviceBlock(entry);
  if (!device.ok()) return Answer::Refusal(device.status());
  (*request)->Show(*block);
  return Run(**request, *method, ResponseBlock(entry), *device, model);
}

Answer ChannelServerImpl::Run(const KnownRequest& request, ServedMethod& method,
                              std::span<std::byte> response,
                              const ResponseWriter::DeviceBlock& device, loader::Model& model) {
  ResponseWriter& writer = *method.writer;
  writer.Begin(response, device);
  Answer answer;
  try {
    if (methods_.named()) {
      loader::CallContext call;
      answer.status = model.RunMethod(method.index, call, request.inputs, writer);
    } else {
      answer.status = model.Run(request.inputs, writer);
    }
  } catch (const std::exception& error) {
    answer.status = absl::InternalError(absl::StrCat("the model threw: ", error.what()));
  } catch (...) {
    answer.status = absl::InternalError("the model threw something that is no std::exception");
  }
  if (answer.status.ok()) {
    absl::StatusOr<ResponseWriter::Description> description = writer.Finish();
    if (description.ok()) {
      answer.description = *description;
    } else {
      answer.status = description.status();
    }
  }
  // Also where the model wraps the sink's refusal in words of its own.
  if (!answer.status.ok() &&
      (writer.needed_bytes() > response.size() || writer.needed_device_bytes() > device.bytes)) {
    answer.needed_bytes = writer.needed_bytes();
    answer.needed_device_bytes = writer.needed_device_bytes();
    if (!absl::IsResourceExhausted(answer.status)) {
      answer.status = absl::ResourceExhaustedError(std::string(answer.status.message()));
    }
  }
  return answer;
}

void ChannelServerImpl::Publish(const SubmissionEntry& entry, Answer& answer, uint64_t service_ns) {
  uint32_t descriptor_bytes = answer.description.bytes;
  if (!answer.status.ok()) {
    const std::span<std::byte> block = ResponseBlock(entry);
    const auto text = answer.status.message();
    descriptor_bytes = static_cast<uint32_t>(std::min({text.size(), block.size(), kMaxErrorBytes}));
    if (descriptor_bytes > 0) std::memcpy(block.data(), text.data(), descriptor_bytes);
  }
  completions_.Publish([&](CompletionEntry& completion) {
    completion.request_id = entry.request_id;
    completion.generation = generation_;
    completion.descriptor_token = answer.description.token;
    completion.needed_bytes = answer.needed_bytes;
    completion.descriptor_bytes = descriptor_bytes;
    completion.status_code = static_cast<uint16_t>(answer.status.code());
    completion.flags = answer.dropped ? ipc::kCompletionDropped : 0;
    completion.service_ns = service_ns;
    completion.needed_device_bytes = answer.needed_device_bytes;
    BATON_CRASH_POINT("worker.completion_filled");
  });
  // Relaxed: a hint for the next worker, which trusts the stamps.
  worker().published.store(completions_.next(), std::memory_order_relaxed);
}

void ChannelServerImpl::WakeFront() {
  // SYNC: front_sleeps. Either this sees the flag, or the front, which looks
  // at the ring once more after setting it, sees the completion.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  switch (front().sleeping.load(std::memory_order_relaxed)) {
    case ipc::kFrontOnFutex:
      worker().wake_count.fetch_add(1, std::memory_order_release);
      BATON_CRASH_POINT("worker.wake_counted");
      ipc::FutexWakeAll(&worker().wake_count);
      break;
    case ipc::kFrontOnEventFd:
      if (event_) ipc::SignalEventFd(event_.get());
      break;
    default:
      break;
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<ChannelServer>> ChannelServer::Map(uint64_t channel,
                                                                  const Descriptors& descriptors) {
  absl::StatusOr<ipc::Segment> submission = ipc::Segment::Map(
      descriptors.submission, descriptors.submission_bytes, ipc::SegmentAccess::kReadOnly);
  if (!submission.ok()) return submission.status();
  absl::StatusOr<ipc::Segment> completion = ipc::Segment::Map(
      descriptors.completion, descriptors.completion_bytes, ipc::SegmentAccess::kReadWrite);
  if (!completion.ok()) return completion.status();
  absl::StatusOr<ipc::SegmentView> submission_view =
      ipc::ReadSubmissionHeader(submission->data(), submission->bytes());
  if (!submission_view.ok()) return submission_view.status();
  absl::StatusOr<ipc::SegmentView> completion_view =
      ipc::ReadCompletionHeader(completion->data(), completion->bytes());
  if (!completion_view.ok()) return completion_view.status();
  ipc::UniqueFd event;
  if (descriptors.event >= 0) event.reset(::fcntl(descriptors.event, F_DUPFD_CLOEXEC, 3));
  return std::make_unique<ChannelServerImpl>(channel, descriptors, *std::move(submission),
                                             *submission_view, *std::move(completion),
                                             *completion_view, std::move(event));
}

}  // namespace baton::runtime
