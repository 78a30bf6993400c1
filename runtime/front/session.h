// A front's connection to one server: the control socket and the thread that
// answers on it, the two pages, and the imported device arena.
//
// Thread safety: all functions may be called from any thread. The hot path
// reads the pages and `event_word` and takes no lock.
#ifndef BATON_RUNTIME_FRONT_SESSION_H_
#define BATON_RUNTIME_FRONT_SESSION_H_

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "baton/options.h"
#include "baton/tensor.h"
#include "ipc/control_socket.h"
#include "ipc/device.h"
#include "ipc/pages.h"
#include "ipc/process.h"
#include "ipc/segment.h"

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
  const Signature& signature() const { return signature_; }
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

  uint64_t imported_generation() const {
    return imported_generation_.load(std::memory_order_acquire);
  }

  // Shares a channel's descriptors with the server; returns its number.
  struct ChannelFds {
    int submission = -1;  // read-only
    int completion = -1;  // read-write
    int event = -1;
    uint32_t ring_entries = 0;
    uint64_t submission_bytes = 0;
    uint64_t completion_bytes = 0;
  };
  absl::StatusOr<uint64_t> OpenChannel(const ChannelFds& fds);
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
    uint64_t channel = 0;
  };

  Session(ipc::ControlSocket socket, const FrontOptions& options);
  absl::Status Handshake();
  absl::Status ReadWelcome(ipc::ControlMessage welcome);
  void Run();
  void Handle(ipc::ControlMessage message);
  void Import(ipc::ControlMessage message);
  void CloseImports(uint64_t generation);
  void AnswerLeases(uint64_t call, uint64_t generation);
  void Answer(uint64_t call, absl::Status status, uint64_t channel);
  void MarkGone();
  absl::Status Send(capnp::MessageBuilder& message, std::span<const int> fds = {});

  const FrontOptions options_;
  const uint32_t fork_epoch_ = ForkEpoch();
  ipc::ControlSocket socket_;
  std::mutex send_mutex_;
  std::string server_;
  Signature signature_;
  uint64_t max_request_bytes_ = 0;
  ipc::Segment status_page_;
  ipc::Segment worker_page_;
  ipc::UniqueFd doorbell_;

  std::atomic<bool> gone_{false};
  std::atomic<uint32_t> event_word_{0};
  std::atomic<uint64_t> imported_generation_{0};
  std::unique_ptr<ipc::ImportedArena> imported_;  // the thread's

  std::mutex mutex_;
  std::condition_variable answered_;
  std::map<uint64_t, PendingCall> pending_;
  uint64_t next_call_ = 1;

  ipc::UniqueFd stop_;  // eventfd
  std::thread thread_;
  ipc::UniqueFd life_;
  std::optional<ipc::ChildProcess> own_server_;
};

}  // namespace baton::internal

#endif  // BATON_RUNTIME_FRONT_SESSION_H_
