// libcuda.so.1: streams and events. Work runs when somebody waits for it, or
// asks for it, and not before: what waits too little sees stale bytes.
#include "tests/simgpu/driver_exports.h"
#include "tests/simgpu/driver_state.h"

namespace baton::ipc::cuda::sim {
namespace {

// With the knob slow_queries a question that finds work is answered "not yet";
// the work is done when it is asked again.
Result AnswerQuery(const Call& call, bool found_work, Result result) {
  if (result == kSuccess && found_work && call.knobs().Flag("slow_queries")) return kNotReady;
  return result;
}

}  // namespace

extern "C" {

Result SimStreamCreate(Stream* stream, unsigned flags) {
  Call call("cuStreamCreate", Needs::kContext);
  if (call.refused()) return call.result();
  if (stream == nullptr || (flags & ~kStreamNonBlocking) != 0) return kInvalidValue;
  auto created = std::make_unique<StreamRep>();
  created->context = call.context();
  created->non_blocking = (flags & kStreamNonBlocking) != 0;
  *stream = created.get();
  call->streams[*stream] = std::move(created);
  return kSuccess;
}

Result SimStreamDestroy(Stream stream) {
  Call call("cuStreamDestroy_v2", Needs::kContext);
  if (call.refused()) return call.result();
  if (stream == nullptr || !call->IsStream(stream)) return kInvalidHandle;
  call->Run(stream);  // what is in it still happens
  for (const auto& [handle, event] : call->events) {
    if (event->stream == stream) event->stream = nullptr;
  }
  call->streams.erase(stream);
  return kSuccess;
}

Result SimStreamSynchronize(Stream stream) {
  Call call("cuStreamSynchronize", Needs::kContext);
  if (call.refused()) return call.result();
  if (!call->IsStream(stream)) return kInvalidHandle;
  return stream == nullptr ? call->RunAll(call.context(), false) : call->Run(stream);
}

Result SimStreamQuery(Stream stream) {
  Call call("cuStreamQuery", Needs::kContext);
  if (call.refused()) return call.result();
  if (!call->IsStream(stream)) return kInvalidHandle;
  if (stream == nullptr) return call->RunAll(call.context(), false);
  const bool found_work = !stream->queue.empty();
  return AnswerQuery(call, found_work, call->Run(stream));
}

Result SimEventCreate(Event* event, unsigned) {
  Call call("cuEventCreate", Needs::kContext);
  if (call.refused()) return call.result();
  if (event == nullptr) return kInvalidValue;
  auto created = std::make_unique<EventRep>();
  created->context = call.context();
  *event = created.get();
  call->events[*event] = std::move(created);
  return kSuccess;
}

Result SimEventDestroy(Event event) {
  Call call("cuEventDestroy_v2", Needs::kContext);
  if (call.refused()) return call.result();
  return call->events.erase(event) == 1 ? kSuccess : kInvalidHandle;
}

Result SimEventRecord(Event event, Stream stream) {
  Call call("cuEventRecord", Needs::kContext);
  if (call.refused()) return call.result();
  if (!call->events.contains(event) || !call->IsStream(stream)) return kInvalidHandle;
  event->stream = stream;
  if (stream == nullptr) return call->RunAll(call.context(), false);
  event->sequence = stream->enqueued;
  return kSuccess;
}

Result SimEventSynchronize(Event event) {
  Call call("cuEventSynchronize", Needs::kContext);
  if (call.refused()) return call.result();
  if (!call->events.contains(event)) return kInvalidHandle;
  if (event->stream == nullptr) return call.context()->sticky;
  return call->Run(event->stream, event->sequence);
}

Result SimEventQuery(Event event) {
  Call call("cuEventQuery", Needs::kContext);
  if (call.refused()) return call.result();
  if (!call->events.contains(event)) return kInvalidHandle;
  if (event->stream == nullptr) return call.context()->sticky;
  const bool found_work = event->stream->done < event->sequence;
  return AnswerQuery(call, found_work, call->Run(event->stream, event->sequence));
}

}  // extern "C"

}  // namespace baton::ipc::cuda::sim
