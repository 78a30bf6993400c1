// A server in the test's own process: it answers on a real control socket,
// owns the pages, and keeps the descriptors of every channel, as a supervisor
// does. Workers are made by the test, where and when it wants them.
//
// Thread safety: its own thread answers; all functions but the constructor and
// the destructor may be called from any thread.
#ifndef BATON_TESTS_RUNTIME_FRONT_FAKE_SERVER_H_
#define BATON_TESTS_RUNTIME_FRONT_FAKE_SERVER_H_

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"

#include "baton/channel.h"
#include "baton/options.h"
#include "baton/tensor.h"
#include "ipc/channel_layout.h"
#include "ipc/control_socket.h"
#include "ipc/device.h"
#include "ipc/pages.h"
#include "ipc/segment.h"
#include "ipc/unique_fd.h"
#include "ipc/worker_sleep.h"
#include "loader/model.h"
#include "runtime/front/session.h"
#include "runtime/worker/channel_server.h"

namespace baton::test {

// x: float32[?] -> y: float32[?]
Signature VectorSignature();

// A model that is one function; counts its runs.
class FunctionModel : public loader::Model {
 public:
  using Function = std::function<absl::Status(std::span<const TensorView>, loader::OutputSink&)>;
  explicit FunctionModel(Function function, Signature signature = VectorSignature())
      : function_(std::move(function)), signature_(std::move(signature)) {}

  const Signature& signature() const override { return signature_; }
  uint64_t device_bytes() const override { return 0; }
  absl::Status Upload(const loader::DeviceRegion&) override { return absl::OkStatus(); }
  absl::Status Run(std::span<const TensorView> inputs, loader::OutputSink& outputs) override {
    runs_.fetch_add(1);
    return function_(inputs, outputs);
  }
  int runs() const { return runs_.load(); }

 private:
  Function function_;
  Signature signature_;
  std::atomic<int> runs_{0};
};

// One function a method.
class MethodModel : public loader::Model {
 public:
  using Function = std::function<absl::Status(loader::CallContext&, std::span<const TensorView>,
                                              loader::OutputSink&)>;
  MethodModel(std::vector<Method> methods, std::vector<Function> functions)
      : methods_(std::move(methods)), functions_(std::move(functions)) {}

  const Signature& signature() const override { return methods_.front().signature; }
  std::span<const Method> methods() const override { return methods_; }
  uint64_t device_bytes() const override { return 0; }
  absl::Status Upload(const loader::DeviceRegion&) override { return absl::OkStatus(); }
  absl::Status Run(std::span<const TensorView>, loader::OutputSink&) override {
    return absl::InternalError("Run of a model that has methods");
  }
  absl::Status RunMethod(size_t method, loader::CallContext& call,
                         std::span<const TensorView> inputs, loader::OutputSink& outputs) override {
    return functions_.at(method)(call, inputs, outputs);
  }

 private:
  const std::vector<Method> methods_;
  const std::vector<Function> functions_;
};

// y = 2 x
absl::Status Double(std::span<const TensorView> inputs, loader::OutputSink& outputs);

class FakeServer {
 public:
  explicit FakeServer(Signature signature = VectorSignature());
  explicit FakeServer(std::vector<Method> methods);
  ~FakeServer();
  FakeServer(const FakeServer&) = delete;
  FakeServer& operator=(const FakeServer&) = delete;

  std::shared_ptr<internal::Session> Connect(const FrontOptions& options = {});
  // A session of its own, and a channel.
  Channel Open(const ChannelOptions& options = {});

  // Of the channel that was opened as number `index`, from 0. Valid as long as
  // the server.
  runtime::ChannelServer::Descriptors Descriptors(size_t index) const;
  size_t opened_channels() const;
  int closed_channels() const { return closed_.load(); }

  ipc::StatusPage& status_page() { return *reinterpret_cast<ipc::StatusPage*>(status_.data()); }
  ipc::WorkerPage& worker_page() { return *reinterpret_cast<ipc::WorkerPage*>(worker_.data()); }
  int doorbell() const { return doorbell_.get(); }

  // As a supervisor: stores, then wakes who waits on the page.
  void ShowReaped(uint64_t generation);
  void ShowState(ipc::ServerState state, int64_t hold_started_ns = 0, int64_t gap_ns = 0);
  // Ends as a supervisor that was killed: connections close, nothing is said.
  void Die();

  // ---- device arenas and leases, as a supervisor says and hears of them
  // Sends one message to every front, once it is connected.
  void OfferArena(const ipc::ArenaExport& arena);
  void SayClosing(uint64_t generation, uint64_t call);
  void SayKept(uint64_t generation);
  void SayCloseImports(uint64_t generation);
  // What fronts have said about arenas, in words: "imported 1", "leases 7 of 1:
  // 3x2" (call 7, two of channel 3), "closed 1".
  std::vector<std::string> Said() const;
  // Waits until it is at least so much; false after a minute.
  bool AwaitSaid(size_t count) const;
  // The same, until this is the last of it.
  bool AwaitLast(const std::string& text) const;

  // From now on answers openChannel only when ReleaseAnswers is called.
  void HoldAnswers() { hold_answers_ = true; }
  void ReleaseAnswers();

 private:
  struct Kept {
    ipc::UniqueFd submission;
    ipc::UniqueFd completion;
    ipc::UniqueFd event;
    uint64_t submission_bytes = 0;
    uint64_t completion_bytes = 0;
    runtime::DeviceSlice results;  // every channel's are at the arena's start
    runtime::DeviceSlice inputs;   // and behind these
  };
  void Run();
  void Answer(ipc::ControlSocket& socket, ipc::ControlMessage message);
  void Note(const ipc::ControlMessage& message);
  // Has the thread do it.
  void Post(std::function<void()> command);
  void Wake();

  const std::vector<Method> methods_;
  std::string directory_;
  ipc::ControlListener listener_;
  ipc::SegmentHandles status_handles_;
  ipc::SegmentHandles worker_handles_;
  ipc::Segment status_;
  ipc::Segment worker_;
  ipc::UniqueFd doorbell_;
  ipc::UniqueFd command_;
  std::atomic<bool> stop_{false};
  std::atomic<bool> hold_answers_{false};
  std::atomic<int> closed_{0};
  mutable std::mutex mutex_;
  std::vector<Kept> channels_;                          // guarded by mutex_
  std::vector<std::pair<uint64_t, uint64_t>> waiting_;  // call, channel; guarded by mutex_
  std::vector<std::function<void()>> commands_;         // guarded by mutex_
  std::vector<std::string> said_;                       // guarded by mutex_
  mutable std::condition_variable heard_;
  std::vector<ipc::ControlSocket> sockets_;  // the thread's
  std::thread thread_;
};

// What a worker has mapped of a channel, for tests that do by hand what a
// worker does, dies of, or should never do.
class RawWorker {
 public:
  RawWorker(FakeServer& server, size_t index);

  ipc::WorkerState& state() const {
    return *reinterpret_cast<ipc::WorkerState*>(completion_.data() + sizeof(ipc::SegmentHeader));
  }
  // What the front says of itself.
  const ipc::FrontState& front() const {
    return *reinterpret_cast<const ipc::FrontState*>(submission_.data() +
                                                     sizeof(ipc::SegmentHeader));
  }
  ipc::CompletionEntry& completion(uint64_t sequence) const;
  // Answers the request of `sequence` with an error, as completion number `at`.
  void Fail(uint64_t sequence, uint64_t at, absl::StatusCode code, uint16_t flags = 0) const;
  const ipc::SubmissionEntry& submission(uint64_t sequence) const;
  bool Submitted(uint64_t sequence) const {
    return submission(sequence).stamp.load(std::memory_order_acquire) == sequence;
  }
  std::span<std::byte> response_block(const ipc::SubmissionEntry& entry) const;
  std::span<std::byte> completion_segment() const {
    return {completion_.data(), completion_.bytes()};
  }
  const ipc::SegmentView& completion_view() const { return completion_view_; }

 private:
  ipc::Segment submission_;
  ipc::Segment completion_;
  ipc::SegmentView submission_view_;
  ipc::SegmentView completion_view_;
};

// Serves channels as a loop does, where a test does by hand what a loop does.
class PlainHost : public runtime::ServingHost {
 public:
  absl::Status Await(uint64_t channel, absl::FunctionRef<bool()> wanted) override;
  void InputsReleased() override {}

 private:
  uint64_t looks_ = 0;
};

// A worker's end that serves when it is told to, on the caller's thread.
class StepWorker {
 public:
  StepWorker(FakeServer& server, size_t index, uint64_t generation, loader::Model& model,
             const runtime::ChannelDevice& device = {});
  // At most one request, and one response of each stream.
  bool Step() {
    const bool stepped = server_->StepCalls(fake_.worker_page());
    return server_->ServeOne(model_, fake_.worker_page()) || stepped;
  }
  // As many as one turn of a loop takes.
  size_t Burst() {
    int64_t now_ns = 0;
    return server_->ServeBurst(model_, fake_.worker_page(), &now_ns);
  }
  PlainHost& host() { return host_; }
  runtime::ChannelServer& server() { return *server_; }
  void StepAll() {
    while (Step()) {
    }
  }

 private:
  FakeServer& fake_;
  loader::Model& model_;
  PlainHost host_;
  std::unique_ptr<runtime::ChannelServer> server_;
};

// A worker's end on a thread of its own, which sleeps when it has nothing to
// do, or never sleeps (`busy`).
class WorkerThread {
 public:
  WorkerThread(FakeServer& server, size_t index, uint64_t generation, loader::Model& model,
               bool busy = false, const runtime::ChannelDevice& device = {});
  ~WorkerThread();  // ends after the request it is at

 private:
  void Run(bool busy);

  FakeServer& fake_;
  loader::Model& model_;
  PlainHost host_;
  std::unique_ptr<runtime::ChannelServer> server_;
  ipc::UniqueFd command_;
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

// Fills x with first, first + 1, ... and submits or calls.
Request Vector(Channel& channel, size_t elements, float first);

}  // namespace baton::test

#endif  // BATON_TESTS_RUNTIME_FRONT_FAKE_SERVER_H_
