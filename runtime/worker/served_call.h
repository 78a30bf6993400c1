// One request that is answered once: what the model is called with, and what becomes
// of what it says.
//
// Thread safety: the serving thread's, which shares a ServedCall with the call's thread
// in turns (call_threads.h).
#ifndef BATON_RUNTIME_WORKER_SERVED_CALL_H_
#define BATON_RUNTIME_WORKER_SERVED_CALL_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "ipc/pages.h"
#include "loader/model.h"
#include "runtime/worker/answer.h"
#include "runtime/worker/call_threads.h"
#include "runtime/worker/device_inputs.h"
#include "runtime/worker/kept_inputs.h"
#include "runtime/worker/known_requests.h"
#include "runtime/worker/response_writer.h"
#include "runtime/worker/running_calls.h"
#include "runtime/worker/served_methods.h"

namespace baton::runtime {

// The model's own part of a call. On the call's thread.
absl::Status CallModel(loader::Model& model, bool named, const ServedMethod& method,
                       loader::CallContext& call, std::span<const TensorView> inputs,
                       loader::OutputSink& outputs);

// The answer when the model has said `said`, having written into the blocks that
// `writer` was begun with. Serving thread.
Answer Conclude(absl::Status said, ResponseWriter& writer, uint64_t block_bytes,
                uint64_t device_bytes);

// What a request names, checked.
struct RequestPlace {
  uint64_t request_id = 0;
  int64_t deadline_ns = 0;  // 0: none
  std::span<const std::byte> block;
  std::span<std::byte> response;
  DeviceInputs::Block device_inputs;
  ResponseWriter::DeviceBlock device_results;
};

// A request under way on a thread of its own. What it was described by, its inputs
// and the writer of its outputs are its own: others of its kind run meanwhile.
class ServedCall {
 public:
  // All must outlive this; `thread` is given back to `threads` at its end.
  ServedCall(const RequestPlace& place, KnownRequest& request, ServedMethod& method,
             KeptInputs& kept, CallThreads& threads, CallThread& thread);
  // Not while it runs.
  ~ServedCall() { threads_.GiveBack(thread_); }
  ServedCall(const ServedCall&) = delete;
  ServedCall& operator=(const ServedCall&) = delete;

  // Finds the inputs. An error: not to be started.
  absl::Status ShowInputs(DeviceInputs& device_inputs, const loader::Model& model);
  // Has the model run, and comes back at once. `named` as ServedMethods::named.
  void Start(loader::Model& model, bool named, RunningCalls& running, ipc::WorkerPage& page);
  // Whether the model has come back.
  bool done() const { return thread_.back(); }
  // Once, when it is done. What is left is to publish it.
  Answer Finish(RunningCalls& running, ipc::WorkerPage& page);

  const RequestPlace& place() const { return place_; }
  // Whether the model keeps the inputs: as KeptInputs::Call::Answered, once.
  bool KeepsInputs() { return call_.Answered(); }
  int64_t service_ns() const { return service_ns_; }

 private:
  const RequestPlace place_;
  const std::shared_ptr<KnownRequest> request_;  // what the inputs' names and shapes are in
  const ServedMethod& method_;
  CallThreads& threads_;
  CallThread& thread_;
  KeptInputs::Call call_;
  // What lies on the device may have been copied to memory that goes with this.
  loader::CallContext keeps_nothing_;
  std::vector<TensorView> inputs_;
  DeviceInputs::Bounce bounce_;
  ResponseWriter writer_;
  absl::Status said_;
  int64_t start_ns_ = 0;
  int64_t service_ns_ = 0;
};

}  // namespace baton::runtime

#endif  // BATON_RUNTIME_WORKER_SERVED_CALL_H_
