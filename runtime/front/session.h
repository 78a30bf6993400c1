// A front's connection to one server: the control socket and the thread that
// answers on it, the two pages, and the imported device arenas.
//
// Thread safety: all functions may be called from any thread. The hot path
// reads the pages and `event_word` and takes no lock. Whatever the server is
// told about arenas and leases, the thread says; others only wake it.
#ifndef BATON_RUNTIME_FRONT_SESSION_H_
#define BATON_RUNTIME_FRONT_SESSION_H_

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "baton/device_lease.h"
#include "baton/options.h"
#include "baton/tensor.h"
#include "ipc/control_socket.h"
#include "ipc/eventfd.h"
#include "ipc/pages.h"
#include "ipc/process.h"
#include "ipc/segment.h"
#include "runtime/front/arena_leases.h"
#include "runtime/front/channel_inputs.h"
#include "runtime/front/device_thread.h"

namespace baton::internal {

class Session {
 public:
  // Connects to the control socket at `path`, says hello, maps the pages and
  // starts the thread.
  static absl::StatusOr<std::shared_ptr<Session>> Connect(const std::string& path,
                                                          const FrontOptions& options);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  const std::string& server() const { return server_; }
  const std::vector<Method>& methods() const { return methods_; }  // never empty
  const Signature& signature() const { return methods_.front().signature; }
  uint64_t max_request_bytes() const { return max_request_bytes_; }

  const ipc::StatusPage& status_page() const {
    return *reinterpret_cast<const ipc::StatusPage*>(status_page_.data());
  }
  const ipc::WorkerPage& worker_page() const {
    return *reinterpret_cast<const ipc::WorkerPage*>(worker_page_.data());
  }
  int doorbell_fd() const { return doorbell_.get(); }

  // The connection has ended: the server is gone.
  bool gone() const { return gone_.load(std::memory_order_acquire); }
  // Futex word of this process, bumped when `gone` changes.
  const std::atomic<uint32_t>& event_word() const { return event_word_; }
  // This process is a fork of the one that connected.
  bool forked() const { return fork_epoch_ != ForkEpoch(); }
  static uint32_t ForkEpoch();

  uint64_t imported_generation() const { return leases_.newest(); }
  // The oldest generation that a reload is about to take away; 0: none.
  uint64_t closing_generation() const {
    return closing_generation_.load(std::memory_order_acquire);
  }

  // A lease of `session`'s arena, in the name of a channel.
  static absl::StatusOr<DeviceLease> Lease(std::shared_ptr<Session> session, uint64_t channel);
  void ReturnLease(LeasedArena* arena, uint64_t channel);

  // ---- results on the device (see ArenaLeases)
  void AddResultChannel(uint64_t channel, ArenaLeases::Unread unread) {
    leases_.AddChannel(channel, std::move(unread));
  }
  void RemoveResultChannel(uint64_t channel);
  // Until an arena is mapped, for connect_timeout at most.
  absl::Status AwaitImport();
  // nullptr: nothing of that generation is mapped here.
  LeasedArena* LeaseResult(uint64_t channel, uint64_t generation) {
    return leases_.AcquireResult(channel, generation);
  }
  // A channel has read answers; a generation that is closing may wait for that.
  void ResultsRead();

  // ---- inputs on the device (see ChannelInputs; session_inputs.cc)
  // Has the channel's slice made writable in every arena, and its inputs moved
  // when one is closed.
  void AddInputs(std::shared_ptr<ChannelInputs> inputs);
  // Until that is done for an arena, for connect_timeout at most.
  absl::Status AwaitInputs(const ChannelInputs& inputs);
  // Nothing is moved any more; the server hears that the channel is closed when
  // nothing is copied any more.
  void CloseInputs(const std::shared_ptr<ChannelInputs>& inputs);
  // A lease for inputs that are to be written, in the channel's name.
  absl::StatusOr<LeasedArena*> LeaseForInputs(uint64_t channel);

  // Shares a channel's descriptors with the server; returns its number.
  struct ChannelFds {
    int submission = -1;  // read-only
    int completion = -1;  // read-write
    int event = -1;
    uint32_t ring_entries = 0;
    uint64_t submission_bytes = 0;
    uint64_t completion_bytes = 0;
    uint64_t device_bytes = 0;  // a slice for results on the device
    uint64_t device_input_bytes = 0;
  };
  struct OpenedChannel {
    uint64_t channel = 0;
    uint64_t device_offset = 0;  // of its slice
    uint64_t device_input_offset = 0;
  };
  absl::StatusOr<OpenedChannel> OpenChannel(const ChannelFds& fds);
  // Says that a channel is done with. Does not wait for an answer.
  void CloseChannel(uint64_t channel);

  // With Launch: the server's process, which ends with this session.
  void OwnServer(ipc::ChildProcess server, ipc::UniqueFd life);
  // Ends that server; waits for it, up to 15 s. Nothing without one.
  void EndOwnServer();

 private:
  struct PendingCall {
    bool done = false;
    absl::Status status;
    OpenedChannel opened;
  };

  struct Notice {
    GenerationEvent event;
    uint64_t generation;
  };

  Session(ipc::ControlSocket socket, const FrontOptions& options);
  absl::Status Handshake();
  absl::Status ReadWelcome(ipc::ControlMessage welcome);
  // The thread. A turn waits for something and answers it; false: the end.
  void Run();
  bool Turn();
  void Handle(ipc::ControlMessage message);
  void Import(ipc::ControlMessage message);
  void Imported(uint64_t generation, absl::StatusOr<std::unique_ptr<ipc::ImportedArena>> arena);
  void Imported(uint64_t generation, const absl::Status& status);
  void LetGo(std::unique_ptr<LeasedArena> arena, std::function<void()> unmapped);
  void CloseBeforeLeaving();
  void SeeToInputs();
  // Runs `job` on arenas here, or where they may hang on the device thread.
  void OnArenas(bool may_hang, DeviceThread::Job job, DeviceThread::Job done);
  void InputsSeenTo();
  void LoseInputs(const absl::Status& why);
  void StartClosing(uint64_t call, uint64_t generation);
  void KeepGeneration(uint64_t generation);
  void CloseImports(uint64_t generation);
  void SendDue();
  absl::Status SendLeases(const ArenaLeases::Answer& answer);
  absl::Status SendImportsClosed(uint64_t generation);
  absl::Status NotLeased(uint64_t closing) const;
  // What becomes of generations, for closing_generation() and the callback.
  void Note(GenerationEvent event, uint64_t generation);
  void NoteReaped();
  void Answer(uint64_t call, absl::Status status, const OpenedChannel& opened);
  void MarkGone();
  absl::Status Send(capnp::MessageBuilder& message, std::span<const int> fds = {});

  const FrontOptions options_;
  const uint32_t fork_epoch_ = ForkEpoch();
  ipc::ControlSocket socket_;
  std::mutex send_mutex_;
  std::string server_;
  std::vector<Method> methods_{1};
  uint64_t max_request_bytes_ = 0;
  ipc::Segment status_page_;
  ipc::Segment worker_page_;
  ipc::UniqueFd doorbell_;

  std::atomic<bool> gone_{false};
  std::atomic<uint32_t> event_word_{0};
  ArenaLeases leases_;
  std::atomic<uint64_t> closing_generation_{0};
  std::set<uint64_t> closing_;   // announced; the thread's
  std::vector<Notice> notices_;  // to be given to the callback; the thread's
  // Of generations that are not mapped: still to be told. The thread's.
  std::vector<ArenaLeases::Answer> unsent_answers_;
  std::vector<uint64_t> unsent_closed_;
  // On their way on the device thread; asked meanwhile to be closed. The thread's.
  std::set<uint64_t> importing_;
  std::set<uint64_t> close_when_imported_;
  // Generations whose arena is being made writable, or whose inputs are being
  // moved, on the device thread. The thread's.
  std::set<uint64_t> adopting_;
  std::set<uint64_t> moving_;
  bool unsent_ = false;        // something could not be sent: again soon. The thread's
  bool* destroyed_ = nullptr;  // set where the thread itself ends *this; the thread's

  std::mutex mutex_;
  std::condition_variable answered_;
  std::map<uint64_t, PendingCall> pending_;
  uint64_t next_call_ = 1;
  std::vector<std::shared_ptr<ChannelInputs>> closing_inputs_;  // guarded by mutex_

  ipc::UniqueFd wake_;  // eventfd: leases to tell of, or the end
  std::atomic<bool> stopping_{false};
  std::thread thread_;
  // After wake_, which it signals; what it has still to do may outlive *this.
  DeviceThread device_thread_{[this] { ipc::SignalEventFd(wake_.get()); }};
  ipc::UniqueFd life_;
  std::optional<ipc::ChildProcess> own_server_;
};

}  // namespace baton::internal

#endif  // BATON_RUNTIME_FRONT_SESSION_H_
