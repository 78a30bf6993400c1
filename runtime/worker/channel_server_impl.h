// One channel, as its worker serves it: what is behind a ChannelServer.
//
//   channel_server.cc            its segments, devices, generations
//   channel_server_requests.cc   requests: taken, looked at, run, answered
//   channel_server_calls.cc      what outlasts a turn: streams, calls on threads, kept inputs
//
// Thread safety: as ChannelServer.
#ifndef BATON_RUNTIME_WORKER_CHANNEL_SERVER_IMPL_H_
#define BATON_RUNTIME_WORKER_CHANNEL_SERVER_IMPL_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "absl/status/status.h"

#include "ipc/channel_layout.h"
#include "ipc/cycle_clock.h"
#include "ipc/device.h"
#include "ipc/pages.h"
#include "ipc/ring.h"
#include "loader/model.h"
#include "runtime/worker/answer.h"
#include "runtime/worker/batch_answers.h"
#include "runtime/worker/batched_call.h"
#include "runtime/worker/cancellations.h"
#include "runtime/worker/channel_device.h"
#include "runtime/worker/channel_memory.h"
#include "runtime/worker/channel_server.h"
#include "runtime/worker/completion_writer.h"
#include "runtime/worker/device_inputs.h"
#include "runtime/worker/kept_inputs.h"
#include "runtime/worker/known_requests.h"
#include "runtime/worker/running_calls.h"
#include "runtime/worker/served_call.h"
#include "runtime/worker/served_methods.h"
#include "runtime/worker/served_stream.h"
#include "runtime/worker/serving_host.h"

namespace baton::runtime {

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
  ipc::NextEntry Next() const override { return begun_ ? submissions_.Next() : ipc::NextEntry(); }
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

  using SubmissionEntry = ipc::SubmissionEntry;
  using SubmissionTaken = ipc::TakenEntry<SubmissionEntry>;

  ipc::CycleClock& clock() { return host_ == nullptr ? alone_clock_ : host_->clock; }
  size_t Serve(loader::Model& model, ipc::WorkerPage& page, size_t most, int64_t* now_ns);
  bool ServeTaken(const SubmissionEntry& entry, uint64_t sequence, loader::Model& model,
                  ipc::WorkerPage& page, int64_t* now_ns);
  void Anticipate(const SubmissionEntry& entry) const;
  bool JoinAsBefore(const SubmissionEntry& entry, uint64_t sequence, KnownRequest* known,
                    BatchedCall& batch, ipc::WorkerPage& page, int64_t now);
  void Join(BatchedCall& batch, KnownRequest& request, const ServedMethod& method,
            const SubmissionEntry& entry, uint64_t sequence, std::span<const std::byte> block,
            std::span<std::byte> response);
  // The block of a request that may be started. False: `answer` says why it may not, and
  // `*block` means nothing.
  bool Admit(const SubmissionEntry& entry, uint64_t sequence, int64_t now,
             std::span<const std::byte>* block, Answer* answer);
  bool FindDeviceInputs(const SubmissionEntry& entry, std::span<const std::byte> block,
                        DeviceInputs::Block* inputs, Answer* answer);
  // What `name` describes in `block`; nullptr: `answer` says why it cannot be.
  KnownRequest* Describe(const DescriptionName& name, std::span<const std::byte> block,
                         const Signature& signature, Answer* answer);
  // The following return whether `answer` is there. If not, it is under way, or in gathering_.
  bool Execute(const SubmissionEntry& entry, uint64_t sequence, loader::Model& model,
               KeptInputs::Call& call, ipc::WorkerPage& page, int64_t now, Answer* answer);
  bool RunOnThread(KnownRequest& request, ServedMethod& method, const RequestPlace& place,
                   CallThreads& threads, loader::Model& model, ipc::WorkerPage& page,
                   Answer* answer);
  bool StartStream(const SubmissionEntry& entry, uint64_t sequence, loader::Model& model,
                   ipc::WorkerPage& page, int64_t now, Answer* answer);
  Answer Run(KnownRequest& request, ServedMethod& method, const RequestPlace& place,
             loader::Model& model, loader::CallContext& call, ipc::WorkerPage& page, int64_t now);
  // Says that everything up to the next entry is taken: from here on it counts as started.
  void SayTaken();
  // The same without the fence that a look at what was cancelled needs.
  void StoreTaken();
  void PublishAnswer(const SubmissionEntry& entry, const Answer& answer, int64_t start_ns,
                     int64_t end_ns, bool more, ipc::WorkerPage& page);
  void Publish(const CompletionWriter::Completion& completion, const Answer& answer,
               ipc::WorkerPage& page);
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
  Cancellations cancellations_{memory_, submissions_};
  BatchAnswers batch_answers_{memory_, completions_, cancellations_};
  BatchedCall* gathering_ = nullptr;  // in Gather: what requests join
  ServedMethods methods_;
  KnownRequests known_;
  KeptInputs kept_;
  std::vector<std::unique_ptr<ServedStream>> streams_;
  std::vector<std::unique_ptr<ServedCall>> calls_;  // on threads of their own
};

}  // namespace baton::runtime

#endif  // BATON_RUNTIME_WORKER_CHANNEL_SERVER_IMPL_H_
