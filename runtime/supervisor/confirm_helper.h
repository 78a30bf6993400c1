// The confirmation helper as the supervisor holds it: a process that may hang
// or die in the supervisor's place, and is replaced when it does.
//
//   kAbsent  nobody to ask; why_absent() says why, a next one is due
//   kIdle    one is up and has answered everything
//   kAsked   one question is out; it answers it within the question's timeout
//
//   from     to       when
//   kAbsent  kIdle    it was started: at once for the first replacement, later
//                     with backoff while none has answered anything
//   kIdle    kAsked   Ask
//   kAsked   kIdle    the answer to that very call has come
//   any      kAbsent  it ended, hung up, talked nonsense or was late: killed,
//                     and left to Reap; what was asked is `unknown`
//
// Whoever was killed and is not reaped yet is waited for by nobody. At most
// kMaxLeaving of them are held (one in the kernel's D state may never end);
// past that none is started.
//
// Thread safety: belongs to the supervisor's one thread. No call waits, but
// the destructor, a second at most.
#ifndef BATON_RUNTIME_SUPERVISOR_CONFIRM_HELPER_H_
#define BATON_RUNTIME_SUPERVISOR_CONFIRM_HELPER_H_

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "ipc/control_socket.h"
#include "ipc/process.h"
#include "runtime/supervisor/device_verdict.h"
#include "runtime/supervisor/event_loop.h"
#include "runtime/supervisor/gpu_question.h"
#include "runtime/supervisor/server_log.h"

namespace baton::runtime {

struct ConfirmQuestion {
  uint64_t generation = 0;
  uint64_t bytes = 0;
  int fd = -1;  // the arena's; duplicated on its way
  std::string token;
  bool asked_before = false;  // about this arena
  bool name_holders = false;
  std::optional<GpuQuestion> gpu = {};  // of an arena on a GPU, which has no fd
};

class ConfirmHelper {
 public:
  enum class State { kAbsent, kIdle, kAsked };
  static constexpr size_t kMaxLeaving = 4;

  struct Options {
    std::string executable;
    std::string server;  // for people who look at ps
  };
  // Called once for each Ask that was not forgotten: with the helper's answer,
  // or with `unknown` and why there is none. From within the loop's callbacks,
  // Tick and Ask; may not call Ask.
  using Answered = std::function<void(const ConfirmQuestion& question, DeviceVerdict verdict)>;
  // The same for AskSurvey.
  using Surveyed =
      std::function<void(uint64_t generation, absl::StatusOr<ipc::cuda::GpuSurvey> survey)>;

  ConfirmHelper(EventLoop& loop, ServerLog log, Options options, Answered answered,
                Surveyed surveyed = nullptr);
  ~ConfirmHelper();
  ConfirmHelper(const ConfirmHelper&) = delete;
  ConfirmHelper& operator=(const ConfirmHelper&) = delete;

  // Starts the first one, so that its start is in nobody's gap.
  void Start(int64_t now_ns);

  State state() const { return state_; }
  // 0: there is none.
  pid_t pid() const { return state_ == State::kAbsent ? 0 : process_.pid(); }
  // Whether that child is one of its processes, dying ones included.
  bool Owns(pid_t pid) const;
  // Why there is none now; empty: there is one.
  const std::string& why_absent() const { return why_absent_; }

  // Only in kIdle.
  void Ask(const ConfirmQuestion& question, absl::Duration timeout, int64_t now_ns);
  // What NVML says of a GPU now. Only in kIdle. It may hang, and a question that
  // follows waits for that: not while somebody waits for a confirmation.
  void AskSurvey(uint64_t generation, const ipc::cuda::Uuid& device, absl::Duration timeout,
                 int64_t now_ns);
  // Nobody wants the answer to what was asked any more. It is awaited all the
  // same, so that it is never taken for the answer to something else.
  void Forget() { wanted_ = false; }

  // When to call Tick; 0: never.
  int64_t deadline_ns() const;
  void Tick(int64_t now_ns);

 private:
  struct Leaving {
    ipc::ChildProcess process;
    int64_t killed_ns = 0;
    bool told = false;  // that it does not go
  };

  void Spawn(int64_t now_ns);
  absl::Status TrySpawn(int64_t now_ns);
  void Read();
  void Send(capnp::MessageBuilder& message, int fd, absl::Duration timeout, int64_t now_ns);
  // What is wrong with it, if anything.
  absl::Status TakeAnswer(const ipc::ControlMessage& message);
  void Lost(const std::string& why, int64_t now_ns);
  void Answer(DeviceVerdict verdict);
  void ReapLeaving();

  EventLoop& loop_;
  const ServerLog log_;
  const Options options_;
  const Answered answered_;
  const Surveyed surveyed_;
  State state_ = State::kAbsent;
  ipc::ChildProcess process_;
  ipc::ControlSocket socket_;
  std::string why_absent_ = "it was not started yet";
  std::list<Leaving> leaving_;

  uint64_t started_ = 0;  // how many so far
  uint64_t last_call_ = 0;
  ConfirmQuestion asked_;
  bool asked_survey_ = false;  // of asked_.generation; else asked_
  bool wanted_ = false;
  absl::Duration timeout_;
  int64_t late_at_ns_ = 0;
  int64_t spawned_ns_ = 0;
  int64_t spawn_at_ns_ = 0;  // 0: there is one, or too many are leaving
  int failures_ = 0;         // lost since one has answered
};

}  // namespace baton::runtime

#endif  // BATON_RUNTIME_SUPERVISOR_CONFIRM_HELPER_H_
