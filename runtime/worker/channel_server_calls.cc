// ChannelServerImpl: what outlasts a turn: calls on threads of their own, streams, kept inputs.
#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "ipc/crash_point.h"
#include "runtime/worker/channel_server_impl.h"

namespace baton::runtime {

// ---- Calls on threads --------------------------------------------------------------------------

CallThreads* ChannelServerImpl::ThreadsFor(const ServedMethod& method) const {
  CallThreads* const threads = host_ == nullptr ? nullptr : host_->call_threads;
  if (threads == nullptr || (!threads->concurrent() && !method.streams_inputs)) return nullptr;
  return threads;
}

bool ChannelServerImpl::RunOnThread(KnownRequest& request, ServedMethod& method,
                                    const RequestPlace& place, CallThreads& threads,
                                    loader::Model& model, ipc::WorkerPage& page, Answer* answer) {
  const absl::StatusOr<CallThread*> thread = threads.Take();
  if (!thread.ok()) {
    *answer = Answer::Refusal(thread.status());
    return true;
  }
  auto call = std::make_unique<ServedCall>(place, request, method, kept_, threads, **thread);
  absl::Status shown = call->ShowInputs(device_inputs_, model);
  if (!shown.ok()) {
    *answer = Answer::Refusal(std::move(shown));
    return true;
  }
  call->Start(model, methods_.named(), host_->running, page);
  BATON_CRASH_POINT("worker.call_started");
  calls_.push_back(std::move(call));
  ++host_->active_calls;
  return false;
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

// ---- Streams -----------------------------------------------------------------------------------

bool ChannelServerImpl::StartStream(const SubmissionEntry& entry, uint64_t sequence,
                                    loader::Model& model, ipc::WorkerPage& page, int64_t now,
                                    Answer* answer) {
  const auto refuse = [&](absl::Status why) {
    *answer = Answer::Refusal(std::move(why));
    return true;
  };
  std::span<const std::byte> block;
  if (!Admit(entry, sequence, now, &block, answer)) return true;
  ServedMethod* const method = methods_.Get(model, entry.method);
  if (method == nullptr || !method->streams() || host_ == nullptr) {
    return refuse(absl::InvalidArgumentError(absl::StrCat(
        "the model has no method ", entry.method, " that streams, or nobody could step it")));
  }
  const absl::StatusOr<ServedStream::Place> place = ServedStream::Find(
      entry, block, memory_.ResponseBlock(entry.response_granule, entry.response_granules));
  if (!place.ok()) return refuse(place.status());
  KnownRequest* const request = Describe(
      {.token = entry.descriptor_token, .bytes = entry.descriptor_bytes, .method = entry.method},
      block, *method->signature, answer);
  if (request == nullptr) return true;
  CallThreads* const threads = ThreadsFor(*method);
  const absl::StatusOr<CallThread*> thread = threads == nullptr ? nullptr : threads->Take();
  if (!thread.ok()) return refuse(thread.status());
  auto stream = std::make_unique<ServedStream>(
      StreamChannel{channel_, memory_, completions_, known_, *host_}, *place, *method, *thread);
  absl::Status started = stream->Start(model, *request, block, page);
  if (!started.ok()) return refuse(std::move(started));
  BATON_CRASH_POINT("worker.stream_started");
  streams_.push_back(std::move(stream));
  ++host_->active_calls;
  return false;
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

// ---- Kept inputs -------------------------------------------------------------------------------

void ChannelServerImpl::ReleaseInputs() {
  if (!begun_) return;
  for (const uint64_t request_id : kept_.TakeReleased()) {
    completions_.Publish({.request_id = request_id, .text = {}}, Answer());
    BATON_CRASH_POINT("worker.inputs_released");
    memory_.WakeFront();
  }
}

}  // namespace baton::runtime
