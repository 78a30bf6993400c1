// The life of a server: which worker serves, which one is on its way, and what
// has to happen before the one may replace the other.
//
// A pure state machine: events and the time go in, actions come out. It does
// no I/O, reads no clock and holds no descriptor, so that every state can be
// met with every event in a test.
//
// Thread safety: none needed; belongs to the supervisor's one thread.
//
// The steps are ipc::ServerState. The only moves, all made by MoveTo():
//
//   from         to            when
//   STARTING     SERVING       worker 1 is ready
//                CLOSING       worker 1 failed, or stop
//   SERVING      STAGING       a reload was asked for
//                CLOSING       the worker died
//                HOLDING       stop
//   STAGING      HOLDING       the successor is staged, or stop
//                SERVING       the successor failed: kept-old
//                CLOSING       the serving worker died
//   HOLDING      DRAINING      at once
//   DRAINING     CLOSING       held, the worker died, or (stop) drain_timeout
//                SERVING       drain_timeout, or the successor was lost: kept-old
//   CLOSING      EXITING       all imports are closed, or close_timeout (cut off)
//   EXITING      CONFIRMING    the worker is reaped (SIGKILL after cleanup_timeout)
//   CONFIRMING   ADMITTING     freed, and there is a successor
//                UNAVAILABLE   freed, and there is none
//                STOPPED       stop: freed, or confirm_timeout
//   ADMITTING    REMAPPING     the successor is ready
//                CLOSING       it failed after it was admitted: it must go, confirmed; or stop
//                UNAVAILABLE   it failed before it was admitted
//   REMAPPING    SERVING       every front mapped it, or close_timeout (cut off)
//                CLOSING       it died, or stop
//   UNAVAILABLE  ADMITTING     a fresh successor is staged
//                CLOSING       stop, with a successor on its way
//                STOPPED       stop, with none
//
// CONFIRMING is never left to ADMITTING without a kConfirmed for that very
// generation: unconfirmed never allocates (A27).
#ifndef BATON_RUNTIME_SUPERVISOR_RELOAD_MACHINE_H_
#define BATON_RUNTIME_SUPERVISOR_RELOAD_MACHINE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"

#include "ipc/pages.h"
#include "loader/model_config.h"

namespace baton::runtime {

// How long to wait before the next worker after failures in a row.
struct BackoffPolicy {
  absl::Duration first = absl::Milliseconds(100);  // after the second failure; the first: at once
  absl::Duration longest = absl::Seconds(30);
  absl::Duration healthy_after = absl::Seconds(30);  // serving this long forgets the failures
};

struct ReloadEvent {
  enum class Kind {
    kReloadRequested,  // detail: the trigger
    kWorkerStaged,
    kWorkerReady,
    kWorkerFailed,  // it said so, or is wedged, or broke the protocol; detail: why
    kWorkerExited,  // pidfd ready and reaped, wanted or not; detail: how
    kHeld,
    kImportsClosed,  // nobody maps that generation, as far as fronts answered or died
    kImportsMapped,
    kConfirmed,     // the kernel says that the generation's device memory is gone
    kNotConfirmed,  // it does not; detail: the verdict. May come many times
    kTimeout,       // deadline_ns() has passed
    kStop,
  };
  Kind kind;
  uint64_t generation = 0;  // which worker; an event about another one is ignored
  std::string detail;
};
inline constexpr int kReloadEventKinds = static_cast<int>(ReloadEvent::Kind::kStop) + 1;

struct ReloadAction {
  enum class Kind {
    kBegin,  // a reload starts (detail: trigger): open its receipt
    kJoin,   // what was asked for now is served by the reload that runs already
    kEnter,  // the step is now `step`: publish it
    kSpawn,  // start worker `generation`, with the last good secrets or the newest
    kAdmit,  // it may allocate
    kServe,
    kHold,
    kExit,
    kKill,           // SIGKILL; harmless when it is dead already
    kCloseImports,   // ask for kImportsClosed
    kCutOffClosers,  // fronts that have not closed it are disconnected
    kMapImports,     // ask for kImportsMapped
    kCutOffMappers,
    kConfirm,           // ask until kConfirmed
    kUnconfirmed,       // confirm_timeout passed: make the verdict visible, go on asking
    kStillUnavailable,  // another worker is lost: tell those who wait for it
    kFailedGeneration,  // a generation that never served is gone (detail: why): write a receipt
    kFinish,            // the reload is over (outcome, detail: reason): close its receipt
    kStopped,           // last action of all; detail: why, when nobody asked for it
  };
  Kind kind;
  uint64_t generation = 0;
  ipc::ServerState step = ipc::ServerState::kStarting;
  bool last_good_secrets = false;
  std::string outcome;  // "swapped", "kept-old", "stopped"
  std::string detail;
};

class ReloadMachine {
 public:
  explicit ReloadMachine(loader::ReloadPolicy policy, BackoffPolicy backoff = {});

  // Brings up generation 1. Once, before Handle.
  std::vector<ReloadAction> Start(int64_t now_ns);
  // Never fails: an event that means nothing in this state does nothing.
  std::vector<ReloadAction> Handle(const ReloadEvent& event, int64_t now_ns);

  // What the server shows. Equal to step(), except that every step on the way
  // down shows as STOPPING.
  ipc::ServerState state() const;
  // Where in the table above.
  ipc::ServerState step() const { return step_; }
  // When to send kTimeout; 0: never. CLOCK_MONOTONIC.
  int64_t deadline_ns() const;
  // Serves, or served last; 0 before the first one does.
  uint64_t serving_generation() const { return served_; }
  // On its way; 0: none.
  uint64_t next_generation() const { return next_.generation; }
  // Ends, or serves; 0: none.
  uint64_t old_generation() const { return old_.generation; }
  // Why it does not serve, or does not serve what was last asked for; empty: all is well.
  const std::string& reason() const { return reason_; }
  uint64_t failures_in_a_row() const { return failures_; }
  // From the next step on.
  void set_policy(const loader::ReloadPolicy& policy) { policy_ = policy; }

  // True when the table above has this move.
  static bool Allowed(ipc::ServerState from, ipc::ServerState to);

 private:
  using State = ipc::ServerState;
  using Action = ReloadAction::Kind;
  enum class Phase { kNone, kStaging, kStaged, kAdmitted, kReady, kServing };
  struct Worker {
    uint64_t generation = 0;
    Phase phase = Phase::kNone;
    bool reaped = false;
    bool last_good_secrets = false;
    std::string why;  // it is being given up
  };

  void OnReloadRequested(const std::string& trigger);
  void OnStop();
  void OnStaged();
  void OnReady();
  void OnConfirmed();
  void TellUnconfirmed();
  void OnTimeout();
  void OnStepTimeout();
  void OnOldLost(const std::string& why);
  void OnNextLost(const std::string& why);

  void MoveTo(State to);
  void BeginReload(const std::string& trigger);
  void Spawn();
  void SpawnWhenDue();
  void ScheduleSpawn();
  void DropNext();
  void RetireNext(const std::string& why);
  void TellFailedGeneration();
  void Admit();
  void EnterHolding();
  void EnterClosing();
  void EnterExiting();
  void EnterConfirming();
  void EnterServing();
  void KeepOld(const std::string& why);
  void Stopped();
  void Emit(Action kind, uint64_t generation = 0);
  int64_t After(absl::Duration delay) const;

  loader::ReloadPolicy policy_;
  BackoffPolicy backoff_;
  State step_ = State::kStarting;
  bool stopping_ = false;
  Worker old_;   // serves, or is on its way out
  Worker next_;  // is on its way in
  uint64_t served_ = 0;
  uint64_t last_generation_ = 0;
  bool again_ = false;  // asked for while a reload ran
  std::string again_trigger_;
  uint64_t failures_ = 0;     // workers lost since the last healthy one
  int newest_failures_ = 0;   // how often the newest secrets did not come up
  bool kill_sent_ = false;    // EXITING: the cleanup_timeout has passed
  bool unconfirmed_ = false;  // CONFIRMING: the confirm_timeout has passed
  std::string verdict_;       // the last kNotConfirmed
  std::string reason_;
  std::string stop_reason_;  // nobody asked for it
  int64_t now_ns_ = 0;
  int64_t step_deadline_ns_ = 0;
  int64_t load_deadline_ns_ = 0;  // of next_
  int64_t spawn_at_ns_ = 0;
  int64_t healthy_at_ns_ = 0;
  std::vector<ReloadAction> actions_;
};

}  // namespace baton::runtime

#endif  // BATON_RUNTIME_SUPERVISOR_RELOAD_MACHINE_H_
