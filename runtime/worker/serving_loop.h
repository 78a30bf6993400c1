// The worker's serving thread: takes requests from all channels in turn, obeys
// the control thread, sleeps when there is nothing to do.
//
// Thread safety: everything here belongs to the serving thread; only the
// CommandQueue is shared. Calls of a model that may have several at once run on
// CallThreads, which have nothing of the loop's.
//
// Invariants
// 1. The worker page and the completion segments are not written before the
//    first `serve`: until then the worker before owns them.
// 2. No lock and no syscall while requests keep coming.
// 3. A turn gives each channel that had a request lately one burst (ServeBurst), and
//    each stream one response; commands are looked at before each, and while a stream
//    waits for its caller's item. All channels have theirs once in kSweepNs, and are
//    looked at before it sleeps: one busy among many idle ones does not pay for them.
// 4. A batch of requests is gathered and answered within one turn; a command that comes
//    meanwhile ends the gathering (batch_gatherer.h says where it is looked for).
// 5. The doorbell is drained only by a worker that serves.
#ifndef BATON_RUNTIME_WORKER_SERVING_LOOP_H_
#define BATON_RUNTIME_WORKER_SERVING_LOOP_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/status.h"

#include "ipc/pages.h"
#include "ipc/spin_budget.h"
#include "ipc/worker_sleep.h"
#include "loader/batching_policy.h"
#include "loader/model.h"
#include "runtime/worker/channel_server.h"
#include "runtime/worker/command_queue.h"
#include "runtime/worker/cpu_affinity.h"
#include "runtime/worker/serving_host.h"

namespace baton::runtime {

class BatchGatherer;

// What the serving thread tells the supervisor.
class ServingReplies {
 public:
  virtual ~ServingReplies() = default;
  virtual void Held(uint64_t call) = 0;
  virtual void ChannelRemoved(uint64_t call, uint64_t channel) = 0;
  // The channel has been dropped.
  virtual void ChannelRefused(uint64_t call, uint64_t channel, const absl::Status& why) = 0;
};

class ServingLoop : public ServingHost {
 public:
  struct Options {
    uint64_t generation = 0;
    int doorbell_fd = -1;  // the supervisor's eventfd, not owned
    ipc::SpinBudget spin = ipc::SpinBudget::ForThisThread();
    int heartbeat_ms = 100;  // how often an idle worker says that it lives
  };

  // All must outlive the loop.
  ServingLoop(const Options& options, ipc::WorkerPage& page, CommandQueue& commands,
              ServingReplies& replies);
  ~ServingLoop() override;

  // Waits for `admit`, adding and removing channels meanwhile. nullopt when
  // told to exit instead.
  std::optional<Command> WaitForAdmission();

  // For every channel, of those to come too; without a device: for none any
  // more. The device must outlive the loop, or this be called.
  void UseDevice(const ChannelDevice& device);

  // What threads that run calls of the model run on, where it is not what the
  // serving thread runs on.
  void UseForCallThreads(const ThreadCpus& cpus) { call_cpus_ = cpus; }

  // How long it spins before it sleeps. Before Run.
  void UseSpin(const ipc::SpinBudget& spin) { spin_ = gather_spin_ = spin; }

  // Has requests of all channels gathered into batches (DESIGN.md, "Batches"), where the
  // policy is on. Before Run.
  void UseBatching(const loader::BatchingPolicy& policy);

  // Serves until told to exit; holds until told to serve. Calls that are under way
  // then go on while it holds; when it exits streams end with ABORTED, and other
  // calls are waited for.
  void Run(loader::Model& model);

  // As ServingHost.
  absl::Status Await(uint64_t channel, absl::FunctionRef<bool()> wanted) override;
  void InputsReleased() override;

 private:
  // kStandby -> kServing <-> kHeld; any -> kExiting.
  enum class State { kStandby, kServing, kHeld, kExiting };
  class Batches;
  struct Channel {
    std::unique_ptr<ChannelServer> server;
    bool begun = false;
    std::optional<uint64_t> removal = {};  // the call that asked for it; goes when it can
    uint64_t last_sweep = 0;               // before which it had its last request
    bool recent = false;                   // it is in recent_
  };

  void ApplyCommands();
  void Apply(Command& command);
  void Serve();
  void Remove(const Command& command);
  // Drops the channels that are to go and that no call is inside of any more.
  void DropRemoved();
  // Begins the channels that have not begun; drops those that cannot.
  void BeginChannels();

  // One turn of Run; false at its end.
  bool Turn(loader::Model& model);
  // False when no channel that was looked at had a request, and no call had anything
  // to be done.
  bool ServeTurn(loader::Model& model);
  bool ServeRecent(loader::Model& model);
  bool Sweep(loader::Model& model);
  bool Serve(Channel& channel, loader::Model& model);
  // After channels have come or gone: all are looked at next.
  void ForgetRecent();
  void AddRecent(size_t index);
  bool StepCalls();
  // As ServeTurn, with one batch.
  bool BatchTurn(loader::Model& model);
  // Waits for a request or a command, as a batch does: until `until_ns` at most.
  void AwaitForBatch(int64_t until_ns);
  // Ends what can be ended; true when no call is under way any more.
  bool EndCalls();
  // Says `held` once no call is under way.
  void AnswerHold();
  // Whether a request may be started beside the calls that there are.
  bool HasRoom() const { return active_calls < max_calls_; }
  // Waits for a request or a command.
  void Wait();
  // Waits for that or a command, for as long as a heartbeat may take.
  void WaitFor(absl::FunctionRef<bool()> wanted);
  // Whether a call of this channel may go on waiting for its caller.
  absl::Status CheckGoing(uint64_t channel) const;
  bool Wanted() const;
  // Notes where to glimpse at. False: only Wanted can tell.
  bool PrepareGlimpses();
  // Whether a command, or a channel that had a request lately, wants it; of the other
  // channels it looks at some, others each time. After PrepareGlimpses, for as long as
  // nothing is taken and no command applied.
  bool Glimpse();
  void Heartbeat(int64_t now_ns);
  int64_t heartbeat_ns() const { return int64_t{heartbeat_ms_} * 1'000'000; }
  // What a thread that runs calls of the model does first.
  void PrepareCallThread() const;

  const uint64_t generation_;
  const int heartbeat_ms_;
  ipc::WorkerPage& page_;
  CommandQueue& commands_;
  ServingReplies& replies_;
  ipc::SpinBudget spin_;
  ipc::WorkerSleep sleep_;
  const bool may_spin_;                      // whether this thread has a CPU to spin on
  ipc::SpinBudget gather_spin_;              // of batches that wait for more
  std::unique_ptr<BatchGatherer> gatherer_;  // nullptr: nothing is batched

  ChannelDevice device_;
  std::optional<ThreadCpus> call_cpus_;
  State state_ = State::kStandby;
  std::optional<Command> admission_;
  std::optional<uint64_t> hold_call_;  // `hold`, not answered yet
  std::optional<uint64_t> awaiting_;   // the channel whose call waits in Await
  uint64_t applied_ = 0;               // commands
  size_t removals_ = 0;                // channels that are to go
  size_t max_calls_ = 1;
  std::vector<Channel> channels_;
  size_t next_ = 0;  // whose turn it is

  // How often all channels are served, or looked at, while some are busy.
  static constexpr int64_t kSweepNs = 10'000;
  // For how many sweeps one without requests counts as one that had some lately.
  static constexpr uint64_t kRecentSweeps = 8;
  // How many of the others a glimpse looks at.
  static constexpr int kOthersAGlimpse = 2;
  // After so many heartbeats asleep, all is looked at again whatever the doorbell says.
  static constexpr int kBeatsALook = 10;
  std::vector<size_t> recent_;            // channels, by number
  std::vector<ipc::NextEntry> glimpses_;  // of those that a glimpse looks at
  uint64_t sweep_ = kRecentSweeps;
  int64_t last_ns_ = 0;   // when the clock was last read
  int64_t swept_ns_ = 0;  // what it was at the last sweep
};

}  // namespace baton::runtime

#endif  // BATON_RUNTIME_WORKER_SERVING_LOOP_H_
