// The supervisor's side of one real baton-worker process, for tests.
#ifndef BATON_TESTS_RUNTIME_WORKER_FAKE_SUPERVISOR_H_
#define BATON_TESTS_RUNTIME_WORKER_FAKE_SUPERVISOR_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"

#include "ipc/control_socket.h"
#include "ipc/pages.h"
#include "ipc/process.h"
#include "ipc/segment.h"
#include "ipc/unique_fd.h"

namespace baton::runtime {

// What outlives workers: the page, the doorbell, a folder with a model.
class Stage {
 public:
  Stage();
  ~Stage();
  Stage(const Stage&) = delete;
  Stage& operator=(const Stage&) = delete;

  ipc::WorkerPage& page() const { return *reinterpret_cast<ipc::WorkerPage*>(page_.data()); }
  int page_fd() const { return page_handles_.read_write.get(); }
  int doorbell_fd() const { return doorbell_.get(); }
  const std::string& directory() const { return directory_; }
  std::string trace_path() const { return directory_ + "/trace"; }
  std::string log_path() const { return directory_ + "/log"; }

  void WriteConfig(const std::string& yaml) const;
  // Lines that the scripted model wrote.
  std::vector<std::string> Trace() const;
  void WaitForTrace(const std::string& line) const;
  // What workers wrote to standard error.
  std::string Log() const;

 private:
  std::string directory_;
  ipc::SegmentHandles page_handles_;
  ipc::Segment page_;
  ipc::UniqueFd doorbell_;
};

using Secrets = std::map<std::string, std::string>;

class FakeSupervisor {
 public:
  using Envelope = ipc::schema::Envelope;

  // Spawns a worker for `generation` and sends it `start` as call 1. `leaked`
  // is a descriptor that the worker inherits by mistake.
  FakeSupervisor(const Stage& stage, uint64_t generation, const Secrets& secrets, int leaked = -1);

  void Send(const std::function<void(Envelope::Builder)>& fill, std::vector<int> fds = {});
  void Admit(uint64_t call, uint64_t capacity_bytes);
  void Serve();
  void Hold(uint64_t call);
  void Exit();

  // The next message, which must be `which` and answer `call`.
  ipc::ControlMessage Expect(Envelope::Which which, uint64_t call);
  // Its arena, and that it is ready.
  void ExpectReady(uint64_t call);
  // The status of the next message, which must be `failed`.
  absl::Status ExpectFailed(uint64_t call);
  // start ... serve
  void BringUp();

  ipc::ExitStatus Reap();
  void Die() { socket_.Close(); }
  ipc::ChildProcess& process() { return process_; }

 private:
  ipc::ControlSocket socket_;
  ipc::ChildProcess process_;
};

}  // namespace baton::runtime

#endif  // BATON_TESTS_RUNTIME_WORKER_FAKE_SUPERVISOR_H_
