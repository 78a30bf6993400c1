#include "runtime/worker/served_call.h"

#include <algorithm>
#include <string>
#include <utility>

#include "ipc/futex.h"
#include "runtime/worker/guarded_call.h"

namespace baton::runtime {

absl::Status CallModel(loader::Model& model, bool named, const ServedMethod& method,
                       loader::CallContext& call, std::span<const TensorView> inputs,
                       loader::OutputSink& outputs) {
  return Guarded([&] {
    return named ? model.RunMethod(method.index, call, inputs, outputs)
                 : model.Run(inputs, outputs);
  });
}

Answer Conclude(absl::Status said, ResponseWriter& writer, uint64_t block_bytes,
                uint64_t device_bytes) {
  Answer answer;
  answer.status = std::move(said);
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
      (writer.needed_bytes() > block_bytes || writer.needed_device_bytes() > device_bytes)) {
    answer.needed_bytes = writer.needed_bytes();
    answer.needed_device_bytes = writer.needed_device_bytes();
    if (!absl::IsResourceExhausted(answer.status)) {
      answer.status = absl::ResourceExhaustedError(std::string(answer.status.message()));
    }
  }
  return answer;
}

ServedCall::ServedCall(const RequestPlace& place, KnownRequest& request, ServedMethod& method,
                       KeptInputs& kept, CallThreads& threads, CallThread& thread)
    : place_(place),
      request_(request.shared_from_this()),
      method_(method),
      threads_(threads),
      thread_(thread),
      call_(kept, place.request_id),
      writer_(*method.signature, *method.descriptions) {}

absl::Status ServedCall::ShowInputs(DeviceInputs& device_inputs, const loader::Model& model) {
  request_->Show(place_.block);
  inputs_ = request_->inputs;
  if (place_.device_inputs.bytes == 0) return absl::OkStatus();
  return device_inputs.Show(place_.device_inputs, request_->places, model.takes_device_inputs(),
                            inputs_, bounce_);
}

void ServedCall::Start(loader::Model& model, bool named, RunningCalls& running,
                       ipc::WorkerPage& page) {
  writer_.Begin(place_.response, place_.device_results);
  start_ns_ = ipc::MonotonicNs();
  running.Begin(this, start_ns_, place_.deadline_ns, page);
  thread_.Run([this, &model, named] {
    loader::CallContext& call = place_.device_inputs.bytes > 0 ? keeps_nothing_ : call_;
    said_ = CallModel(model, named, method_, call, inputs_, writer_);
  });
}

Answer ServedCall::Finish(RunningCalls& running, ipc::WorkerPage& page) {
  running.End(this, page);
  Answer answer =
      Conclude(std::move(said_), writer_, place_.response.size(), place_.device_results.bytes);
  service_ns_ = std::max<int64_t>(ipc::MonotonicNs() - start_ns_, 0);
  return answer;
}

}  // namespace baton::runtime
