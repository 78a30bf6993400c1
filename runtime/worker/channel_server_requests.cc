// ChannelServerImpl: requests, from the ring to their answers.
#include <algorithm>
#include <atomic>
#include <mutex>
#include <utility>

#include "absl/strings/str_cat.h"

#include "ipc/crash_point.h"
#include "ipc/prefetch.h"
#include "runtime/worker/channel_server_impl.h"
#include "runtime/worker/device_results.h"
#include "runtime/worker/page_counter.h"

namespace baton::runtime {

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
    Anticipate(*taken.operator->());
    SayTaken();
    // Before the model runs, which may take long. SYNC: front_sleeps, by the fence of SayTaken.
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

void ChannelServerImpl::StoreTaken() {
  BATON_CRASH_POINT("worker.entry_read");
  // SYNC: request_taken. From here on the request counts as started.
  memory_.worker().taken.store(submissions_.next(), std::memory_order_release);
  BATON_CRASH_POINT("worker.taken_published");
}

void ChannelServerImpl::SayTaken() {
  StoreTaken();
  // SYNC: request_cancelled. A front that gives up without asking anybody sees
  // `taken`, or is seen by the look at its count in Cancellations.
  std::atomic_thread_fence(std::memory_order_seq_cst);
}

// Has the lines that the model will touch first come over from the front's core while the request
// is looked at: of its first input, and of where its first output goes, which the front has read.
// Only of requests like one before; what it does to memory is nothing.
void ChannelServerImpl::Anticipate(const SubmissionEntry& entry) const {
  const KnownRequest* const known = known_.Find(entry.descriptor_token);
  if (known == nullptr) return;
  const std::span<const std::byte> block =
      memory_.RequestBlock(entry.request_granule, entry.request_granules);
  if (!block.empty() && !known->places.empty()) {
    ipc::PrefetchToRead(block.data() + known->places.front().offset);
  }
  const std::span<std::byte> response =
      memory_.ResponseBlock(entry.response_granule, entry.response_granules);
  const ServedMethod* const method = methods_.Find(entry.method);
  if (method != nullptr && method->writer->first_offset() < response.size()) {
    ipc::PrefetchToWrite(response.data() + method->writer->first_offset());
  }
}

// True: it is answered, and its front not woken yet.
bool ChannelServerImpl::ServeTaken(const SubmissionEntry& entry, uint64_t sequence,
                                   loader::Model& model, ipc::WorkerPage& page, int64_t* now_ns) {
  Bump(page.taken);
  const int64_t start = *now_ns;
  KeptInputs::Call call(kept_, entry.request_id);
  Answer answer;
  const bool answered = entry.kind == static_cast<uint16_t>(ipc::RequestKind::kStream)
                            ? StartStream(entry, sequence, model, page, start, &answer)
                            : Execute(entry, sequence, model, call, page, start, &answer);
  // Those that wait in a batch are many, and their time is the batch's.
  if (!answered && gathering_ != nullptr) return false;
  *now_ns = clock().NowNs();
  page.heartbeat_ns.store(*now_ns, std::memory_order_relaxed);
  if (answered) PublishAnswer(entry, answer, start, *now_ns, call.Answered(), page);
  return answered;
}

ChannelServer::Gathered ChannelServerImpl::Gather(BatchedCall& batch, loader::Model& model,
                                                  ipc::WorkerPage& page, int64_t now) {
  if (kept_.count() > 0) ReleaseInputs();
  SubmissionTaken seen;
  const uint64_t sequence = submissions_.next();
  if (!begun_ || !submissions_.Peek(&seen)) return Gathered::kNothing;
  const SubmissionEntry& entry = *seen.operator->();
  KnownRequest* const known = known_.Find(entry.descriptor_token);
  if (!batch.MayTake(entry, known)) return Gathered::kWaits;
  if (entry.kind == static_cast<uint16_t>(ipc::RequestKind::kStream)) {
    return ServeOne(model, page) ? Gathered::kServed : Gathered::kNothing;
  }
  if (JoinAsBefore(entry, sequence, known, batch, page, now)) return Gathered::kJoined;
  // What was seen is what is taken: the front could change it meanwhile.
  submissions_.Advance();
  Anticipate(entry);
  SayTaken();  // started also while it waits in a batch
  gathering_ = &batch;
  const bool answered = ServeTaken(entry, sequence, model, page, &now);
  gathering_ = nullptr;
  if (!answered) return Gathered::kJoined;
  memory_.WakeFront();
  return Gathered::kServed;
}

// Most requests are like one before, and nothing is wrong with them: such a one joins without all
// that Execute looks at. False: nothing has happened, and it is for Execute to say what it is.
bool ChannelServerImpl::JoinAsBefore(const SubmissionEntry& entry, uint64_t sequence,
                                     KnownRequest* known, BatchedCall& batch, ipc::WorkerPage& page,
                                     int64_t now) {
  if (known == nullptr || known->item || known->device_end != 0 || known->method != entry.method ||
      entry.kind != static_cast<uint16_t>(ipc::RequestKind::kInfer) || entry.device_granules != 0 ||
      (entry.deadline_ns != 0 && now >= entry.deadline_ns)) {
    return false;
  }
  const ServedMethod* const method = methods_.Find(entry.method);
  const std::span<const std::byte> block =
      memory_.RequestBlock(entry.request_granule, entry.request_granules);
  if (method == nullptr || method->streams() || block.size() < ipc::kBlockHeaderBytes ||
      known->end > block.size() || !batch.Takes(entry.method, *known)) {
    return false;
  }
  const std::span<std::byte> response =
      memory_.ResponseBlock(entry.response_granule, entry.response_granules);
  // As Anticipate, now that all of it is at hand.
  ipc::PrefetchToRead(block.data() + known->places.front().offset);
  if (method->writer->first_offset() < response.size()) {
    ipc::PrefetchToWrite(response.data() + method->writer->first_offset());
  }
  // What was seen is what is taken: the front could change it meanwhile.
  submissions_.Advance();
  // Whether it was cancelled is looked at when the batch is run, after one fence for all of it.
  StoreTaken();
  Bump(page.taken);
  Join(batch, *known, *method, entry, sequence, block, response);
  return true;
}

void ChannelServerImpl::Join(BatchedCall& batch, KnownRequest& request, const ServedMethod& method,
                             const SubmissionEntry& entry, uint64_t sequence,
                             std::span<const std::byte> block, std::span<std::byte> response) {
  request.Show(block);
  BatchedCall::Member& member = batch.Add(request, method, entry.deadline_ns, methods_.named());
  member.request_id = entry.request_id;
  member.response = response;
  member.writer = method.writer.get();
  member.answers = &batch_answers_;
  member.header = reinterpret_cast<const ipc::RequestBlockHeader*>(block.data());
  member.sequence = sequence;
}

void ChannelServerImpl::PublishAnswer(const SubmissionEntry& entry, const Answer& answer,
                                      int64_t start_ns, int64_t end_ns, bool more,
                                      ipc::WorkerPage& page) {
  std::span<std::byte> text =
      memory_.ResponseBlock(entry.response_granule, entry.response_granules);
  if (entry.kind == static_cast<uint16_t>(ipc::RequestKind::kStream)) {
    text = text.subspan(std::min(text.size(), sizeof(ipc::StreamProgress)));
  }
  Publish({.request_id = entry.request_id,
           .text = text,
           .service_ns = static_cast<uint64_t>(std::max<int64_t>(end_ns - start_ns, 0)),
           .more = more},
          answer, page);
}

// Wakes nobody.
void ChannelServerImpl::Publish(const CompletionWriter::Completion& completion,
                                const Answer& answer, ipc::WorkerPage& page) {
  BATON_CRASH_POINT("worker.answer_written");
  completions_.Publish(completion, answer);
  BATON_CRASH_POINT("worker.completion_published");
  Bump(answer.dropped ? page.expired : answer.status.ok() ? page.completed : page.failed);
}

// ---- Looking at a request ----------------------------------------------------------------------

bool ChannelServerImpl::Admit(const SubmissionEntry& entry, uint64_t sequence, int64_t now,
                              std::span<const std::byte>* block, Answer* answer) {
  *block = memory_.RequestBlock(entry.request_granule, entry.request_granules);
  const auto kind = static_cast<ipc::RequestKind>(entry.kind);
  const bool known = kind == ipc::RequestKind::kInfer || kind == ipc::RequestKind::kStream ||
                     kind == ipc::RequestKind::kInferOnDevice;
  if (block->size() < ipc::kBlockHeaderBytes || !known) {
    *answer = Answer::Refusal(absl::InvalidArgumentError(
        "the request's block is outside its arena, or its kind is unknown"));
    return false;
  }
  if (entry.deadline_ns != 0 && now >= entry.deadline_ns) {
    *answer = Answer::Dropped(absl::DeadlineExceededError("its deadline passed while it waited"));
    return false;
  }
  if (cancellations_.Cancelled(sequence,
                               *reinterpret_cast<const ipc::RequestBlockHeader*>(block->data()))) {
    *answer = Answer::Cancelled();
    return false;
  }
  return true;
}

bool ChannelServerImpl::FindDeviceInputs(const SubmissionEntry& entry,
                                         std::span<const std::byte> block,
                                         DeviceInputs::Block* inputs, Answer* answer) {
  if (entry.kind != static_cast<uint16_t>(ipc::RequestKind::kInferOnDevice)) return true;
  const absl::StatusOr<DeviceInputs::Block> found =
      device_inputs_.Find(*reinterpret_cast<const ipc::RequestBlockHeader*>(block.data()));
  if (!found.ok()) {
    *answer = Answer::Refusal(found.status());
    return false;
  }
  const uint64_t generation = completions_.generation();
  if (found->bytes > 0 && found->generation != static_cast<uint32_t>(generation)) {
    *answer = Answer::StaleInputs(found->generation, generation);
    return false;
  }
  *inputs = *found;
  return true;
}

KnownRequest* ChannelServerImpl::Describe(const DescriptionName& name,
                                          std::span<const std::byte> block,
                                          const Signature& signature, Answer* answer) {
  if (KnownRequest* const known = known_.Recall(name, block.size())) return known;
  const absl::StatusOr<KnownRequest*> request = known_.Get(name, block, signature);
  if (request.ok()) return *request;
  *answer = Answer::Refusal(request.status());
  return nullptr;
}

// ---- Running it --------------------------------------------------------------------------------

bool ChannelServerImpl::Execute(const SubmissionEntry& entry, uint64_t sequence,
                                loader::Model& model, KeptInputs::Call& call, ipc::WorkerPage& page,
                                int64_t now, Answer* answer) {
  RequestPlace place;
  place.request_id = entry.request_id;
  place.deadline_ns = entry.deadline_ns;
  if (!Admit(entry, sequence, now, &place.block, answer)) return true;
  ServedMethod* const method = methods_.Get(model, entry.method);
  if (method == nullptr || method->streams()) {
    *answer = Answer::Refusal(absl::InvalidArgumentError(absl::StrCat(
        "the model's method ", entry.method,
        method == nullptr ? " is not there: it has fewer" : " is called by a stream, not once")));
    return true;
  }
  if (!FindDeviceInputs(entry, place.block, &place.device_inputs, answer)) return true;
  KnownRequest* const request = Describe({.token = entry.descriptor_token,
                                          .bytes = entry.descriptor_bytes,
                                          .method = entry.method,
                                          .device_bytes = place.device_inputs.bytes},
                                         place.block, *method->signature, answer);
  if (request == nullptr) return true;
  if (entry.device_granules != 0) {
    const absl::StatusOr<DeviceResultBlock> device =
        FindDeviceResults(entry, results_slice_, device_);
    if (!device.ok()) {
      *answer = Answer::Refusal(device.status());
      return true;
    }
    place.device_results = *device;
  }
  place.response = memory_.ResponseBlock(entry.response_granule, entry.response_granules);
  if (gathering_ != nullptr && place.device_inputs.bytes == 0 && place.device_results.bytes == 0 &&
      gathering_->Takes(method->index, *request)) {
    Join(*gathering_, *request, *method, entry, sequence, place.block, place.response);
    return false;
  }
  if (CallThreads* const threads = ThreadsFor(*method)) {
    return RunOnThread(*request, *method, place, *threads, model, page, answer);
  }
  // What lies on the device may have been copied to a buffer that the next request gets.
  loader::CallContext keeps_nothing;
  *answer = Run(*request, *method, place, model,
                place.device_inputs.bytes > 0 ? keeps_nothing : call, page, now);
  return true;
}

Answer ChannelServerImpl::Run(KnownRequest& request, ServedMethod& method,
                              const RequestPlace& place, loader::Model& model,
                              loader::CallContext& call, ipc::WorkerPage& page, int64_t now) {
  // The line of the completion is fetched now where its front does nothing but wait for it, for a
  // model that takes no time, and again when the model has come back. No sooner, and not before
  // the model where more is under way: who looks at the line takes it away again.
  if (memory_.front().one_at_a_time.load(std::memory_order_relaxed) != 0) completions_.Prefetch();
  request.Show(place.block);
  if (place.device_inputs.bytes > 0) {
    absl::Status shown = device_inputs_.Show(place.device_inputs, request.places,
                                             model.takes_device_inputs(), request.inputs);
    if (!shown.ok()) return Answer::Refusal(std::move(shown));
  }
  ResponseWriter& writer = *method.writer;
  if (place.device_results.bytes > 0) {
    writer.Begin(place.response, place.device_results);
  } else {
    writer.Begin(place.response);
  }
  RunningCalls& running = host_ == nullptr ? alone_ : host_->running;
  running.Begin(&place, now, place.deadline_ns, page);
  absl::Status said;
  {
    const auto turn = host_ == nullptr ? std::unique_lock<std::mutex>() : host_->ModelTurn();
    said = CallModel(model, methods_.named(), method, call, request.inputs, writer);
  }
  completions_.Prefetch();
  running.End(&place, page);
  return Conclude(std::move(said), writer, place.response.size(), place.device_results.bytes);
}

}  // namespace baton::runtime
