#include "runtime/worker/channel_server.h"

#include <fcntl.h>

#include <algorithm>
#include <mutex>
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
#include "runtime/worker/batch_answers.h"
#include "runtime/worker/batched_call.h"
#include "runtime/worker/channel_memory.h"
#include "runtime/worker/completion_writer.h"
#include "runtime/worker/device_inputs.h"
#include "runtime/worker/device_results.h"
#include "runtime/worker/kept_inputs.h"
#include "runtime/worker/known_requests.h"
#include "runtime/worker/page_counter.h"
#include "runtime/worker/response_writer.h"
#include "runtime/worker/resume_position.h"
#include "runtime/worker/served_call.h"
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
  size_t ServeBurst(loader::Model& model, ipc::WorkerPage& page, int64_t* now_ns) override;
  Gathered Gather(BatchedCall& batch, loader::Model& model, ipc::WorkerPage& page,
                  int64_t now) override;
  void Prefetch() const override { submissions_.Prefetch(); }
  bool HasWork() const override { return begun_ && submissions_.Ready(); }
  void UseDevice(const ChannelDevice& device) override;
  void Join(ServingHost& host) override;
  void ReleaseInputs() override;
  bool StepCalls(ipc::WorkerPage& page) override;
  bool CallsHaveWork() const override;
  void EndCalls(const absl::Status& why, ipc::WorkerPage& page) override;
  bool on_threads() const override;

 private:
  // A turn ends after so many, however short they were.
  static constexpr size_t kMaxBurst = 8;

  ipc::CycleClock& clock() { return host_ == nullptr ? alone_clock_ : host_->clock; }
  size_t Serve(loader::Model& model, ipc::WorkerPage& page, size_t most, int64_t* now_ns);
  bool ServeTaken(const SubmissionEntry& entry, uint64_t sequence, loader::Model& model,
                  ipc::WorkerPage& page, int64_t* now_ns);
  bool Cancelled(uint64_t sequence, std::span<const std::byte> block);
  // nullopt: it is under way, or in gathering_.
  std::optional<Answer> Execute(const SubmissionEntry& entry, uint64_t sequence,
                                loader::Model& model, KeptInputs::Call& call, ipc::WorkerPage& page,
                                int64_t now);
  Answer Run(KnownRequest& request, ServedMethod& method, const RequestPlace& place,
             loader::Model& model, loader::CallContext& call, ipc::WorkerPage& page, int64_t now);
  std::optional<Answer> RunOnThread(KnownRequest& request, ServedMethod& method,
                                    const RequestPlace& place, CallThreads& threads,
                                    loader::Model& model, ipc::WorkerPage& page);
  void Publish(const CompletionWriter::Completion& completion, const Answer& answer,
               ipc::WorkerPage& page);
  std::optional<Answer> StartStream(const SubmissionEntry& entry, uint64_t sequence,
                                    loader::Model& model, ipc::WorkerPage& page, int64_t now);
  absl::StatusOr<std::span<const std::byte>> Admit(const SubmissionEntry& entry, uint64_t sequence,
                                                   int64_t now, bool* dropped);
  // Where a call of `method` runs; nullptr: here.
  CallThreads* ThreadsFor(const ServedMethod& method) const;
  bool AnswerCalls(ipc::WorkerPage& page);
  void ForgetEndedStreams();

  const uint64_t channel_;
  const DeviceSlice results_slice_;
  DeviceInputs device_inputs_;
  ChannelMemory memory_;
  ChannelDevice device_;
  std::unique_ptr<ipc::HostRegistration> registrations_[2];
  ServingHost* host_ = nullptr;
  RunningCalls alone_;  // where nobody has joined it
  ipc::CycleClock alone_clock_;

  bool begun_ = false;
  ipc::RingConsumer<SubmissionEntry> submissions_;
  CompletionWriter completions_{memory_};
  BatchAnswers batch_answers_{memory_, completions_};
  BatchedCall* gathering_ = nullptr;  // in Gather: what requests join
  ServedMethods methods_;
  KnownRequests known_;
  KeptInputs kept_;
  std::vector<std::unique_ptr<ServedStream>> streams_;
  std::vector<std::unique_ptr<ServedCall>> calls_;  // on threads of their own
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
  const absl::StatusOr<ResumePosition> position = FindResumePosition(memory_, channel_);
  if (!position.ok()) return position.status();
  const auto [taken, published] = *position;
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
  check_cancelled_until_ = taken + memory_.submission_slots();
  cancellations_seen_ = memory_.front().cancellations.load(std::memory_order_acquire);
  return absl::OkStatus();
}

bool ChannelServerImpl::ServeOne(loader::Model& model, ipc::WorkerPage& page) {
  int64_t now = 0;
  return Serve(model, page, /*most=*/1, &now) > 0;
}

size_t ChannelServerImpl::ServeBurst(loader::Model& model, ipc::WorkerPage& page, int64_t* now_ns) {
  return Serve(model, page, kMaxBurst, now_ns);
}

size_t ChannelServerImpl::Serve(loader::Model& model, ipc::WorkerPage& page, size_t most,
                                int64_t* now_ns) {
  if (kept_.count() > 0) ReleaseInputs();
  if (!begun_) return 0;
  size_t served = 0;
  int64_t until_ns = 0;
  bool wake_owed = false;
  SubmissionTaken taken;
  while (served < most && (served == 0 || *now_ns < until_ns)) {
    const uint64_t sequence = submissions_.next();
    if (!submissions_.TryTake(&taken)) break;
    BATON_CRASH_POINT("worker.entry_read");
    // SYNC: request_taken. From here on the request counts as started.
    memory_.worker().taken.store(submissions_.next(), std::memory_order_release);
    // SYNC: request_cancelled. A front that gives up without asking anybody sees
    // `taken`, or is seen by the look at `cancellations` below.
    std::atomic_thread_fence(std::memory_order_seq_cst);
    BATON_CRASH_POINT("worker.taken_published");
    // Before the model runs, which may take long. SYNC: front_sleeps, by the same fence.
    if (wake_owed) memory_.WakeFrontAfterFence();
    if (served++ == 0) {
      *now_ns = clock().NowNs();
      until_ns = *now_ns + kBurstNs;
    }
    wake_owed = ServeTaken(*taken.operator->(), sequence, model, page, now_ns);
    if (!wake_owed) break;  // under way, with commands applied perhaps
  }
  if (wake_owed) memory_.WakeFront();
  return served;
}

// True: it is answered, and its front not woken yet.
bool ChannelServerImpl::ServeTaken(const SubmissionEntry& entry, uint64_t sequence,
                                   loader::Model& model, ipc::WorkerPage& page, int64_t* now_ns) {
  Bump(page.taken);
  const int64_t start = *now_ns;
  const bool is_stream = entry.kind == static_cast<uint16_t>(ipc::RequestKind::kStream);
  KeptInputs::Call call(kept_, entry.request_id);
  const std::optional<Answer> answer = is_stream
                                           ? StartStream(entry, sequence, model, page, start)
                                           : Execute(entry, sequence, model, call, page, start);
  *now_ns = clock().NowNs();
  page.heartbeat_ns.store(*now_ns, std::memory_order_relaxed);
  if (!answer) return false;
  std::span<std::byte> text =
      memory_.ResponseBlock(entry.response_granule, entry.response_granules);
  if (is_stream) text = text.subspan(std::min(text.size(), sizeof(ipc::StreamProgress)));
  Publish({.request_id = entry.request_id,
           .text = text,
           .service_ns = static_cast<uint64_t>(std::max<int64_t>(*now_ns - start, 0)),
           .more = call.Answered()},
          *answer, page);
  return true;
}

ChannelServer::Gathered ChannelServerImpl::Gather(BatchedCall& batch, loader::Model& model,
                                                  ipc::WorkerPage& page, int64_t now) {
  if (kept_.count() > 0) ReleaseInputs();
  SubmissionTaken seen;
  const uint64_t sequence = submissions_.next();
  if (!begun_ || !submissions_.Peek(&seen)) return Gathered::kNothing;
  const SubmissionEntry& entry = *seen.operator->();
  if (!batch.MayTake(entry, known_.Find(entry.descriptor_token))) return Gathered::kWaits;
  if (entry.kind == static_cast<uint16_t>(ipc::RequestKind::kStream)) {
    return ServeOne(model, page) ? Gathered::kServed : Gathered::kNothing;
  }
  // What was seen is what is taken: the front could change it meanwhile.
  submissions_.Advance();
  BATON_CRASH_POINT("worker.entry_read");
  // SYNC: request_taken, request_cancelled, as in ServeOne: started also while it waits in a batch.
  memory_.worker().taken.store(submissions_.next(), std::memory_order_release);
  std::atomic_thread_fence(std::memory_order_seq_cst);
  BATON_CRASH_POINT("worker.taken_published");
  Bump(page.taken);
  KeptInputs::Call call(kept_, entry.request_id);
  gathering_ = &batch;
  const std::optional<Answer> answer = Execute(entry, sequence, model, call, page, now);
  gathering_ = nullptr;
  if (!answer) return Gathered::kJoined;
  const int64_t end = clock().NowNs();
  Publish({.request_id = entry.request_id,
           .text = memory_.ResponseBlock(entry.response_granule, entry.response_granules),
           .service_ns = static_cast<uint64_t>(std::max<int64_t>(end - now, 0)),
           .more = call.Answered()},
          *answer, page);
  memory_.WakeFront();
  page.heartbeat_ns.store(end, std::memory_order_relaxed);
  return Gathered::kServed;
}

// Wakes nobody.
void ChannelServerImpl::Publish(const CompletionWriter::Completion& completion,
                                const Answer& answer, ipc::WorkerPage& page) {
  BATON_CRASH_POINT("worker.answer_written");
  completions_.Publish(completion, answer);
  BATON_CRASH_POINT("worker.completion_published");
  Bump(answer.dropped ? page.expired : answer.status.ok() ? page.completed : page.failed);
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
  const bool known = kind == ipc::RequestKind::kInfer || kind == ipc::RequestKind::kStream ||
                     kind == ipc::RequestKind::kInferOnDevice;
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

std::optional<Answer> ChannelServerImpl::Execute(const SubmissionEntry& entry, uint64_t sequence,
                                                 loader::Model& model, KeptInputs::Call& call,
                                                 ipc::WorkerPage& page, int64_t now) {
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
  absl::StatusOr<DeviceInputs::Block> inputs = DeviceInputs::Block{};
  if (entry.kind == static_cast<uint16_t>(ipc::RequestKind::kInferOnDevice)) {
    inputs = device_inputs_.Find(*reinterpret_cast<const ipc::RequestBlockHeader*>(block->data()));
  }
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
  const absl::StatusOr<DeviceResultBlock> device =
      FindDeviceResults(entry, results_slice_, device_);
  if (!device.ok()) return Answer::Refusal(device.status());
  const std::span<std::byte> response =
      memory_.ResponseBlock(entry.response_granule, entry.response_granules);
  if (gathering_ != nullptr && inputs->bytes == 0 && device->bytes == 0 &&
      gathering_->Takes(method->index, **request)) {
    (*request)->Show(*block);
    gathering_->Add({.request_id = entry.request_id,
                     .deadline_ns = entry.deadline_ns,
                     .response = response,
                     .method = method,
                     .writer = method->writer.get(),
                     .answers = &batch_answers_},
                    **request, methods_.named());
    return std::nullopt;
  }
  const RequestPlace place{.request_id = entry.request_id,
                           .deadline_ns = entry.deadline_ns,
                           .block = *block,
                           .response = response,
                           .device_inputs = *inputs,
                           .device_results = *device};
  if (CallThreads* const threads = ThreadsFor(*method)) {
    return RunOnThread(**request, *method, place, *threads, model, page);
  }
  // What lies on the device may have been copied to a buffer that the next request gets.
  loader::CallContext keeps_nothing;
  return Run(**request, *method, place, model, inputs->bytes > 0 ? keeps_nothing : call, page, now);
}

CallThreads* ChannelServerImpl::ThreadsFor(const ServedMethod& method) const {
  CallThreads* const threads = host_ == nullptr ? nullptr : host_->call_threads;
  if (threads == nullptr || (!threads->concurrent() && !method.streams_inputs)) return nullptr;
  return threads;
}

Answer ChannelServerImpl::Run(KnownRequest& request, ServedMethod& method,
                              const RequestPlace& place, loader::Model& model,
                              loader::CallContext& call, ipc::WorkerPage& page, int64_t now) {
  request.Show(place.block);
  if (place.device_inputs.bytes > 0) {
    absl::Status shown = device_inputs_.Show(place.device_inputs, request.places,
                                             model.takes_device_inputs(), request.inputs);
    if (!shown.ok()) return Answer::Refusal(std::move(shown));
  }
  ResponseWriter& writer = *method.writer;
  writer.Begin(place.response, place.device_results);
  RunningCalls& running = host_ == nullptr ? alone_ : host_->running;
  running.Begin(&place, now, place.deadline_ns, page);
  absl::Status said;
  {
    const auto turn = host_ == nullptr ? std::unique_lock<std::mutex>() : host_->ModelTurn();
    said = CallModel(model, methods_.named(), method, call, request.inputs, writer);
  }
  running.End(&place, page);
  return Conclude(std::move(said), writer, place.response.size(), place.device_results.bytes);
}

std::optional<Answer> ChannelServerImpl::RunOnThread(KnownRequest& request, ServedMethod& method,
                                                     const RequestPlace& place,
                                                     CallThreads& threads, loader::Model& model,
                                                     ipc::WorkerPage& page) {
  const absl::StatusOr<CallThread*> thread = threads.Take();
  if (!thread.ok()) return Answer::Refusal(thread.status());
  auto call = std::make_unique<ServedCall>(place, request, method, kept_, threads, **thread);
  absl::Status shown = call->ShowInputs(device_inputs_, model);
  if (!shown.ok()) return Answer::Refusal(std::move(shown));
  call->Start(model, methods_.named(), host_->running, page);
  BATON_CRASH_POINT("worker.call_started");
  calls_.push_back(std::move(call));
  ++host_->active_calls;
  return std::nullopt;
}

bool ChannelServerImpl::AnswerCalls(ipc::WorkerPage& page) {
  for (auto& call : calls_) {
    if (!call->done()) continue;
    const Answer answer = call->Finish(host_->running, page);
    Publish({.request_id = call->place().request_id,
             .text = call->place().response,
             .service_ns = static_cast<uint64_t>(call->service_ns()),
             .more = call->KeepsInputs()},
            answer, page);
    memory_.WakeFront();
    call.reset();
  }
  const size_t ended = std::erase(calls_, nullptr);
  host_->active_calls -= ended;
  return ended > 0;
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
  CallThreads* const threads = ThreadsFor(*method);
  const absl::StatusOr<CallThread*> thread = threads == nullptr ? nullptr : threads->Take();
  if (!thread.ok()) return Answer::Refusal(thread.status());
  auto stream = std::make_unique<ServedStream>(
      StreamChannel{channel_, memory_, completions_, known_, *host_}, *place, *method, *thread);
  absl::Status started = stream->Start(model, **request, *block, page);
  if (!started.ok()) return Answer::Refusal(std::move(started));
  BATON_CRASH_POINT("worker.stream_started");
  streams_.push_back(std::move(stream));
  ++host_->active_calls;
  return std::nullopt;
}

bool ChannelServerImpl::StepCalls(ipc::WorkerPage& page) {
  const bool answered = !calls_.empty() && AnswerCalls(page);
  bool stepped = false;
  for (const auto& stream : streams_) stepped |= stream->Step(page);
  if (stepped) ForgetEndedStreams();
  return answered || stepped;
}

void ChannelServerImpl::ForgetEndedStreams() {
  host_->active_calls -=
      std::erase_if(streams_, [](const auto& stream) { return stream->ended(); });
}

bool ChannelServerImpl::CallsHaveWork() const {
  return std::any_of(calls_.begin(), calls_.end(), [](const auto& call) { return call->done(); }) ||
         std::any_of(streams_.begin(), streams_.end(),
                     [](const auto& stream) { return stream->HasWork(); });
}

void ChannelServerImpl::EndCalls(const absl::Status& why, ipc::WorkerPage& page) {
  if (streams_.empty()) return;
  for (const auto& stream : streams_) stream->End(why, page);
  ForgetEndedStreams();
}

bool ChannelServerImpl::on_threads() const {
  return !calls_.empty() || std::any_of(streams_.begin(), streams_.end(),
                                        [](const auto& stream) { return stream->on_thread(); });
}

ChannelServerImpl::~ChannelServerImpl() {
  if (host_ != nullptr) host_->active_calls -= streams_.size() + calls_.size();
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
