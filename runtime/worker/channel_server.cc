#include "runtime/worker/channel_server.h"

#include <fcntl.h>

#include <algorithm>
#include <exception>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "ipc/channel_layout.h"
#include "ipc/crash_point.h"
#include "ipc/descriptor.h"
#include "ipc/futex.h"
#include "ipc/ring.h"
#include "ipc/segment.h"
#include "runtime/worker/answer.h"
#include "runtime/worker/channel_memory.h"
#include "runtime/worker/completion_writer.h"
#include "runtime/worker/device_inputs.h"
#include "runtime/worker/kept_inputs.h"
#include "runtime/worker/known_requests.h"
#include "runtime/worker/page_counter.h"
#include "runtime/worker/response_writer.h"
#include "runtime/worker/served_methods.h"
#include "runtime/worker/served_stream.h"
#include "spdlog/spdlog.h"

namespace baton::runtime {
namespace {

using ipc::SubmissionEntry;
using SubmissionTaken = ipc::TakenEntry<SubmissionEntry>;

class ChannelServerImpl final : public ChannelServer {
 public:
  ChannelServerImpl(uint64_t channel, const Descriptors& descriptors, ChannelMemory memory)
      : channel_(channel),
        results_slice_(descriptors.results),
        device_inputs_(descriptors.inputs),
        memory_(std::move(memory)) {}
  ~ChannelServerImpl() override;

  uint64_t channel() const override { return channel_; }
  absl::Status Begin(uint64_t generation) override;
  bool ServeOne(loader::Model& model, ipc::WorkerPage& page) override;
  bool HasWork() const override { return begun_ && submissions_.Ready(); }
  void UseDevice(const ChannelDevice& device) override;
  void Join(ServingHost& host) override;
  void ReleaseInputs() override;
  bool StepStreams(ipc::WorkerPage& page) override;
  bool StreamsHaveWork() const override;
  void EndStreams(const absl::Status& why, ipc::WorkerPage& page) override;

 private:
  absl::StatusOr<ResponseWriter::DeviceBlock> DeviceBlock(const SubmissionEntry& entry) const;
  bool Cancelled(uint64_t sequence, std::span<const std::byte> block);
  Answer Execute(const SubmissionEntry& entry, uint64_t sequence, loader::Model& model,
                 loader::CallContext& call, int64_t now);
  absl::Status ShowInputs(KnownRequest& request, std::span<const std::byte> block,
                          const DeviceInputs::Block& there, const loader::Model& model);
  Answer Run(const KnownRequest& request, ServedMethod& method, std::span<std::byte> response,
             const ResponseWriter::DeviceBlock& device, loader::Model& model,
             loader::CallContext& call);
  std::optional<Answer> StartStream(const SubmissionEntry& entry, uint64_t sequence,
                                    loader::Model& model, ipc::WorkerPage& page, int64_t now);
  absl::StatusOr<std::span<const std::byte>> Admit(const SubmissionEntry& entry, uint64_t sequence,
                                                   int64_t now, bool* dropped);
  void ForgetEndedStreams();

  const uint64_t channel_;
  const DeviceSlice results_slice_;
  DeviceInputs device_inputs_;
  ChannelMemory memory_;
  ChannelDevice device_;
  std::unique_ptr<ipc::HostRegistration> registrations_[2];
  ServingHost* host_ = nullptr;

  bool begun_ = false;
  ipc::RingConsumer<SubmissionEntry> submissions_;
  CompletionWriter completions_{memory_};
  ServedMethods methods_;
  KnownRequests known_;
  KeptInputs kept_;
  std::vector<std::unique_ptr<ServedStream>> streams_;
  uint64_t cancellations_seen_ = 0;
  uint64_t check_cancelled_until_ = 0;
  bool check_cancelled_ = false;
};

void ChannelServerImpl::UseDevice(const ChannelDevice& use) {
  for (auto& registration : registrations_) registration.reset();
  device_ = use;
  device_inputs_.UseDevice(use);
  ipc::Device* const device = use.device;
  if (device == nullptr) return;
  const std::span<const std::byte> memory[] = {memory_.submission(), memory_.completion()};
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
  ipc::WorkerState& state = memory_.worker();
  const uint64_t entries = memory_.submission_slots();
  // SYNC: request_taken. The worker that stored it has been reaped.
  const uint64_t taken = state.taken.load(std::memory_order_acquire);
  const uint64_t at_taken =
      memory_.submission_entries()[taken & (entries - 1)].stamp.load(std::memory_order_acquire);
  const uint64_t last = taken - 1;
  const uint64_t at_last =
      memory_.submission_entries()[last & (entries - 1)].stamp.load(std::memory_order_acquire);
  if ((at_taken != taken && at_taken != taken - entries) ||
      (at_last != last && at_last != last + entries)) {
    return absl::DataLossError(absl::StrCat("channel ", channel_,
                                            ": the worker before left an impossible position (",
                                            taken, "); the front has to open a new channel"));
  }
  const uint64_t slots = memory_.completion_slots();
  const uint64_t published =
      ipc::FindPublished(memory_.completion_entries(), memory_.completion_slots(),
                         state.published.load(std::memory_order_acquire));
  const uint64_t at_published =
      memory_.completion_entries()[published & (slots - 1)].stamp.load(std::memory_order_acquire);
  const uint64_t at_previous =
      memory_.completion_entries()[(published - 1) & (slots - 1)].stamp.load(
          std::memory_order_acquire);
  if (at_published != published - slots || at_previous != published - 1) {
    return absl::DataLossError(absl::StrCat("channel ", channel_,
                                            ": the worker before left completions that cannot be (",
                                            published, "); the front has to open a new channel"));
  }
  submissions_ = ipc::RingConsumer<SubmissionEntry>(memory_.submission_entries(),
                                                    memory_.submission_slots(), taken);
  completions_.Begin(generation, published);
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
  cancellations_seen_ = memory_.front().cancellations.load(std::memory_order_acquire);
  return absl::OkStatus();
}

bool ChannelServerImpl::ServeOne(loader::Model& model, ipc::WorkerPage& page) {
  SubmissionTaken taken;
  if (kept_.count() > 0) ReleaseInputs();
  const uint64_t sequence = submissions_.next();
  if (!begun_ || !submissions_.TryTake(&taken)) return false;
  BATON_CRASH_POINT("worker.entry_read");
  // SYNC: request_taken. From here on the request counts as started.
  memory_.worker().taken.store(submissions_.next(), std::memory_order_release);
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

  const bool is_stream = entry.kind == static_cast<uint16_t>(ipc::RequestKind::kStream);
  KeptInputs::Call call(kept_, entry.request_id);
  std::optional<Answer> answer;
  if (is_stream) {
    answer = StartStream(entry, sequence, model, page, start);
  } else {
    answer = Execute(entry, sequence, model, call, start);
  }

  const int64_t end = ipc::MonotonicNs();
  if (answer) {
    BATON_CRASH_POINT("worker.answer_written");
    std::span<std::byte> text =
        memory_.ResponseBlock(entry.response_granule, entry.response_granules);
    if (is_stream) text = text.subspan(std::min(text.size(), sizeof(ipc::StreamProgress)));
    completions_.Publish({.request_id = entry.request_id,
                          .text = text,
                          .service_ns = static_cast<uint64_t>(std::max<int64_t>(end - start, 0)),
                          .more = call.Answered()},
                         *answer);
    BATON_CRASH_POINT("worker.completion_published");
    memory_.WakeFront();
    Bump(answer->dropped ? page.expired : answer->status.ok() ? page.completed : page.failed);
  }
  page.busy_since_ns.store(0, std::memory_order_relaxed);
  page.heartbeat_ns.store(end, std::memory_order_relaxed);
  return true;
}

// Where the results go on the device; nowhere when the entry names nothing.
absl::StatusOr<ResponseWriter::DeviceBlock> ChannelServerImpl::DeviceBlock(
    const SubmissionEntry& entry) const {
  if (entry.device_granules == 0) return ResponseWriter::DeviceBlock{};
  const uint64_t end = uint64_t{entry.device_granule} + entry.device_granules;
  if (end > results_slice_.bytes / ipc::kGranuleBytes) {
    return absl::InvalidArgumentError("the block for the results is outside the channel's slice");
  }
  if (!results_slice_.IsIn(device_)) {
    return absl::FailedPreconditionError(
        absl::StrCat("this generation sets ", device_.slices_bytes,
                     " bytes of device memory aside for channels, this one's results end at ",
                     results_slice_.offset + results_slice_.bytes));
  }
  return ResponseWriter::DeviceBlock{.device = device_.device,
                                     .address = device_.slices_address + results_slice_.offset +
                                                uint64_t{entry.device_granule} * ipc::kGranuleBytes,
                                     .bytes = uint64_t{entry.device_granules} * ipc::kGranuleBytes};
}

bool ChannelServerImpl::Cancelled(uint64_t sequence, std::span<const std::byte> block) {
  const uint64_t cancellations = memory_.front().cancellations.load(std::memory_order_acquire);
  if (cancellations != cancellations_seen_) {
    cancellations_seen_ = cancellations;
    check_cancelled_ = true;
    // Whatever may have been cancelled was submitted before; no more than a
    // ring of requests is outstanding.
    check_cancelled_until_ = sequence + memory_.submission_slots();
  }
  if (!check_cancelled_) return false;
  if (static_cast<int64_t>(sequence - check_cancelled_until_) > 0) {
    check_cancelled_ = false;
    return false;
  }
  const auto* header = reinterpret_cast<const ipc::RequestBlockHeader*>(block.data());
  return header->cancelled.load(std::memory_order_acquire) != 0;
}

// The block of a request that may be started; why not, where it may not.
absl::StatusOr<std::span<const std::byte>> ChannelServerImpl::Admit(const SubmissionEntry& entry,
                                                                    uint64_t sequence, int64_t now,
                                                                    bool* dropped) {
  const std::optional<std::span<const std::byte>> block =
      memory_.RequestBlock(entry.request_granule, entry.request_granules);
  const auto kind = static_cast<ipc::RequestKind>(entry.kind);
  const bool known = kind == ipc::RequestKind::kInfer || kind == ipc::RequestKind::kStream;
  if (!block || block->size() < ipc::kBlockHeaderBytes || !known) {
    return absl::InvalidArgumentError(
        "the request's block is outside its arena, or its kind is unknown");
  }
  *dropped = true;
  if (entry.deadline_ns != 0 && now >= entry.deadline_ns) {
    return absl::DeadlineExceededError("its deadline passed while it waited");
  }
  if (Cancelled(sequence, *block)) return absl::CancelledError("cancelled while it waited");
  *dropped = false;
  return *block;
}

Answer ChannelServerImpl::Execute(const SubmissionEntry& entry, uint64_t sequence,
                                  loader::Model& model, loader::CallContext& call, int64_t now) {
  bool dropped = false;
  const absl::StatusOr<std::span<const std::byte>> block = Admit(entry, sequence, now, &dropped);
  if (!block.ok()) {
    return dropped ? Answer::Dropped(block.status()) : Answer::Refusal(block.status());
  }
  ServedMethod* const method = methods_.Get(model, entry.method);
  if (method == nullptr || method->streams()) {
    return Answer::Refusal(absl::InvalidArgumentError(absl::StrCat(
        "the model's method ", entry.method,
        method == nullptr ? " is not there: it has fewer" : " is called by a stream, not once")));
  }
  const absl::StatusOr<DeviceInputs::Block> inputs =
      device_inputs_.Find(*reinterpret_cast<const ipc::RequestBlockHeader*>(block->data()));
  if (!inputs.ok()) return Answer::Refusal(inputs.status());
  const uint64_t generation = completions_.generation();
  if (inputs->bytes > 0 && inputs->generation != static_cast<uint32_t>(generation)) {
    return Answer::StaleInputs(inputs->generation, generation);
  }
  absl::StatusOr<KnownRequest*> request = known_.Get({.token = entry.descriptor_token,
                                                      .bytes = entry.descriptor_bytes,
                                                      .method = entry.method,
                                                      .device_bytes = inputs->bytes},
                                                     *block, *method->signature);
  if (!request.ok()) return Answer::Refusal(request.status());
  const absl::StatusOr<ResponseWriter::DeviceBlock> device = DeviceBlock(entry);
  if (!device.ok()) return Answer::Refusal(device.status());
  if (absl::Status shown = ShowInputs(**request, *block, *inputs, model); !shown.ok()) {
    return Answer::Refusal(std::move(shown));
  }
  // What lies on the device may have been copied to a buffer that the next request gets.
  loader::CallContext keeps_nothing;
  return Run(**request, *method,
             memory_.ResponseBlock(entry.response_granule, entry.response_granules), *device, model,
             inputs->bytes > 0 ? keeps_nothing : call);
}

// Says where the inputs of this block are.
absl::Status ChannelServerImpl::ShowInputs(KnownRequest& request, std::span<const std::byte> block,
                                           const DeviceInputs::Block& there,
                                           const loader::Model& model) {
  request.Show(block);
  if (there.bytes == 0) return absl::OkStatus();
  return device_inputs_.Show(there, request.places, model.takes_device_inputs(), request.inputs);
}

Answer ChannelServerImpl::Run(const KnownRequest& request, ServedMethod& method,
                              std::span<std::byte> response,
                              const ResponseWriter::DeviceBlock& device, loader::Model& model,
                              loader::CallContext& call) {
  ResponseWriter& writer = *method.writer;
  writer.Begin(response, device);
  Answer answer;
  try {
    if (methods_.named()) {
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

// ---- Streams, kept inputs ----------------------------------------------------------------------

std::optional<Answer> ChannelServerImpl::StartStream(const SubmissionEntry& entry,
                                                     uint64_t sequence, loader::Model& model,
                                                     ipc::WorkerPage& page, int64_t now) {
  bool dropped = false;
  const absl::StatusOr<std::span<const std::byte>> block = Admit(entry, sequence, now, &dropped);
  if (!block.ok()) {
    return dropped ? Answer::Dropped(block.status()) : Answer::Refusal(block.status());
  }
  ServedMethod* const method = methods_.Get(model, entry.method);
  if (method == nullptr || !method->streams() || host_ == nullptr) {
    return Answer::Refusal(absl::InvalidArgumentError(absl::StrCat(
        "the model has no method ", entry.method, " that streams, or nobody could step it")));
  }
  const absl::StatusOr<ServedStream::Place> place = ServedStream::Find(
      entry, *block, memory_.ResponseBlock(entry.response_granule, entry.response_granules));
  if (!place.ok()) return Answer::Refusal(place.status());
  absl::StatusOr<KnownRequest*> request = known_.Get(
      {.token = entry.descriptor_token, .bytes = entry.descriptor_bytes, .method = entry.method},
      *block, *method->signature);
  if (!request.ok()) return Answer::Refusal(request.status());
  auto stream = std::make_unique<ServedStream>(
      StreamChannel{channel_, memory_, completions_, known_, *host_}, *place, *method);
  absl::Status started = stream->Start(model, **request, *block, page);
  if (!started.ok()) return Answer::Refusal(std::move(started));
  BATON_CRASH_POINT("worker.stream_started");
  streams_.push_back(std::move(stream));
  ++host_->active_streams;
  return std::nullopt;
}

bool ChannelServerImpl::StepStreams(ipc::WorkerPage& page) {
  bool any = false;
  for (const auto& stream : streams_) any |= stream->Step(page);
  if (any) ForgetEndedStreams();
  return any;
}

void ChannelServerImpl::ForgetEndedStreams() {
  host_->active_streams -=
      std::erase_if(streams_, [](const auto& stream) { return stream->ended(); });
}

bool ChannelServerImpl::StreamsHaveWork() const {
  return std::any_of(streams_.begin(), streams_.end(),
                     [](const auto& stream) { return stream->HasWork(); });
}

void ChannelServerImpl::EndStreams(const absl::Status& why, ipc::WorkerPage& page) {
  if (streams_.empty()) return;
  for (const auto& stream : streams_) stream->End(why, page);
  ForgetEndedStreams();
}

ChannelServerImpl::~ChannelServerImpl() {
  if (host_ != nullptr) host_->active_streams -= streams_.size();
}

void ChannelServerImpl::Join(ServingHost& host) {
  host_ = &host;
  kept_.Join(host);
}

void ChannelServerImpl::ReleaseInputs() {
  if (!begun_) return;
  for (const uint64_t request_id : kept_.TakeReleased()) {
    completions_.Publish({.request_id = request_id, .text = {}}, Answer());
    BATON_CRASH_POINT("worker.inputs_released");
    memory_.WakeFront();
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
  return std::make_unique<ChannelServerImpl>(
      channel, descriptors,
      ChannelMemory(*std::move(submission), *submission_view, *std::move(completion),
                    *completion_view, std::move(event)));
}

}  // namespace baton::runtime
