// The life of a server: which worker serves, which one is on its way, and what
// has to happen before the one may replace the other.
//
// A pure state machine: events and the time go in, actions come out. It does
// no I/O, reads no clock and holds no descriptor, so that every state can be
// met with every event in a test.
//
// Thread safety: none needed; belongs to the supervisor's one thread.
//
// The steps are ipc::ServerState; the only moves, and what bounds each step,
// are the table in reload_transitions.cc. CONFIRMING is left for ADMITTING only
// with a kConfirmed for that very generation, or by an override that somebody
// asked for and the receipt shows: unconfirmed never allocates (A27).
//
// Up to three workers have a part:
//   old_     serves; or is on its way out, from CLOSING to CONFIRMING
//   next_    is on its way in
//   beside_  stands by while another one is on its way out: with `overlap` the
//            successor that serves already (or the old one that serves on,
//            when the successor failed after it was admitted)
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
    kLeasesHeld,      // fronts still lease that generation's device memory; detail: who
    kLeasesReturned,  // none does
    kImportsClosed,   // nobody maps that generation, as far as fronts answered or died
    kImportsMapped,
    kConfirmed,     // the kernel says that the generation's device memory is gone
    kNotConfirmed,  // it does not; detail: the verdict. May come many times
    kOverride,      // somebody takes it upon himself: go on, though it is not confirmed
    kNotNeeded,     // the secrets are those of who serves: forget a retry for them alone
    kTimeout,       // deadline_ns() has passed
    kStop,
  };
  Kind kind;
  uint64_t generation = 0;  // which worker; an event about another one is ignored
  std::string detail;
  bool overlap = false;  // kWorkerStaged: it is to come up beside the one that serves
};
inline constexpr int kReloadEventKinds = static_cast<int>(ReloadEvent::Kind::kStop) + 1;

struct ReloadAction {
  enum class Kind {
    kBegin,  // a reload starts (detail: trigger): open its receipt
    kJoin,   // what was asked for now is served by the reload that runs already
    kEnter,  // the step is now `step`: publish it
    kSpawn,  // start worker `generation`, with what was last good or what is newest
    kAdmit,  // it may allocate
    kServe,
    kHold,
    kTellClosing,  // fronts: that generation is about to go; ask for kLeasesReturned
    kTellKept,     // fronts: it is not
    kExit,
    kKill,           // SIGKILL; harmless when it is dead already
    kCloseImports,   // ask for kImportsClosed
    kCutOffClosers,  // fronts that have not closed it are disconnected
    kMapImports,     // ask for kImportsMapped
    kCutOffMappers,
    kConfirm,           // ask until kConfirmed
    kOverridden,        // go on without; detail: the verdict
    kUnconfirmed,       // confirm_timeout passed: make the verdict visible, go on asking
    kStillUnavailable,  // another worker is lost, or one does not die: tell those who wait
    kFailedGeneration,  // a generation that never served is gone (detail: why): write a receipt
    kFinish,            // the reload is over (outcome, detail: reason): close its receipt
    kStopped,           // last action of all; detail: why, when nobody asked for it
  };
  Kind kind;
  uint64_t generation = 0;
  ipc::ServerState step = ipc::ServerState::kStarting;
  bool last_good = false;  // kSpawn: secrets and configuration as they were when one last served
  std::string outcome;     // "swapped", "kept-old", "stopped"
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
  // Steps and loading may take so much longer: nobody could answer meanwhile.
  void PutOff(int64_t ns);
  // When to send kTimeout; 0: never. CLOCK_MONOTONIC.
  int64_t deadline_ns() const;
  // Somebody is awaited, and only for so long.
  bool awaits() const { return step_deadline_ns_ != 0 || load_deadline_ns_ != 0; }
  // Somebody is told to serve and was not seen dead; not while requests are held.
  bool serves() const;
  // When the next worker is tried, or a reload once more; 0: nothing is waited for.
  int64_t retry_at_ns() const { return spawn_at_ns_ != 0 ? spawn_at_ns_ : retry_at_ns_; }
  // Serves, or served last; 0 before the first one does.
  uint64_t serving_generation() const { return served_; }
  // On its way; 0: none.
  uint64_t next_generation() const { return next_.generation; }
  // Serves, or is on its way out; 0: none.
  uint64_t old_generation() const { return old_.generation; }
  // Stands by while old_generation() is on its way out; 0: none.
  uint64_t beside_generation() const { return beside_.generation; }
  // Why it does not serve, or does not serve what was last asked for; empty: all is well.
  const std::string& reason() const { return reason_; }
  // CONFIRMING for longer than confirm_timeout.
  bool unconfirmed() const { return step_ == State::kConfirming && unconfirmed_; }
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
    bool last_good = false;
    bool gentle = false;  // it has done nothing wrong: it may clean up
    std::string why;      // it is being given up
  };

  void OnReloadRequested(const std::string& trigger);
  void OnStop();
  void OnStaged(bool overlap);
  void OnReady();
  void OnMapped();
  void OnOverride();
  void TellStuck();
  void SayUnconfirmed();
  void OnTimeout();
  void OnStepTimeout();
  void OnOldLost(const std::string& why);
  void OnNextLost(const std::string& why);
  void OnBesideLost(const std::string& why);
  void OnDrained();

  void MoveTo(State to);
  void BeginReload(const std::string& trigger);
  void Spawn();
  void SpawnWhenDue();
  void ScheduleSpawn();
  void DropNext();
  void RetireNext(const std::string& why, bool gentle = false);
  void TellFailedGeneration();
  void Admit();
  void EnterHolding();
  void EnterClosing();
  void EnterExiting();
  void EnterConfirming();
  void EnterServing();
  void TellServes(Worker& worker);
  void Promote();
  void RetireNextBesideOld(const std::string& why, bool gentle);
  void LeaveConfirming();
  void EndBeside();
  void ResumeBeside();
  void KeepOld(const std::string& why, bool retry = false);
  void FinishKeptOld(const std::string& why, bool retry);
  void Override();
  void AwaitMapped();
  void RetryReload();
  void StopServing();
  void Stopped();
  void Emit(Action kind, uint64_t generation = 0);
  int64_t After(absl::Duration delay) const;

  loader::ReloadPolicy policy_;
  BackoffPolicy backoff_;
  State step_ = State::kStarting;
  bool stopping_ = false;
  Worker old_;
  Worker next_;
  Worker beside_;
  bool overlap_ = false;   // next_ is admitted while old_ serves
  bool held_ = false;      // DRAINING: nothing is in flight
  bool returned_ = false;  // DRAINING: nobody leases
  std::string holders_;    // DRAINING: who does
  uint64_t served_ = 0;
  uint64_t last_generation_ = 0;
  bool again_ = false;  // asked for while a reload ran
  std::string again_trigger_;
  std::string trigger_;          // of the reload that runs, or ran last
  bool only_secrets_ = false;    // it was asked for because of them, and of nothing else
  uint64_t kept_in_a_row_ = 0;   // reloads that a drain timeout ended
  int64_t retry_at_ns_ = 0;      // to ask for trigger_ again; 0: never
  bool override_ = false;        // asked for, for the reload that runs
  bool again_override_ = false;  // asked for with again_, for the reload after it
  std::string kept_why_;         // beside_ is the old one, which serves on: why
  bool kept_retry_ = false;      // and it is to be tried again
  uint64_t failures_ = 0;        // workers lost since the last healthy one
  int newest_failures_ = 0;      // how often the newest secrets and configuration did not come up
  bool kill_sent_ = false;       // EXITING: the cleanup_timeout has passed
  bool unconfirmed_ = false;     // CONFIRMING: the confirm_timeout has passed
  std::string verdict_;          // the last kNotConfirmed
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
