// The fault matrix: what can befall whom, in which state of a reload, and what has to come of it.
//
// Rows: one process (a front, a second front, the supervisor, the worker that serves, the worker
// that is to replace it, the helper that confirms) x one fault (SIGKILL, SIGSTOP, a step that
// fails). Columns: the states of a server. In every cell two fronts are under load, and in every
// cell it holds that
//   - each request ends exactly once, with its own payload, generations never going back;
//   - device memory is held by one generation at a time, as an observer of /proc sees it;
//   - nothing is left behind: processes, zombies, descriptors, names in /dev/shm;
//   - service comes back: a fresh request is answered, and a reload after it swaps. While it cannot
//     come back, `status` says why, and it comes back when the hindrance is lifted.
//
// What is to be expected beyond that, by class of cell, and why:
//
//   a front dies             it counts as closed everywhere: the reload goes on (`swapped`)
//   a front hangs            before CLOSING it cannot say that it leases nothing: drain_timeout,
//   `kept-old`.
//                            In CLOSING it is cut off after close_timeout, but what it has mapped
//                            cannot be taken from it: CONFIRMING says `pinned-by <pid>` and nothing
//                            is allocated until it goes on or dies (A27). Later it maps nothing of
//                            the old generation; it is cut off when it does not map the new one,
//                            and `swapped`
//   a front's step fails     as one that hangs, but what it mapped goes when it has been cut off
//   the supervisor dies      everything of it goes, requests end; another one serves at once
//   (`restarted`) the supervisor hangs     who serves, serves on; requests end by their deadlines
//   where nobody does (A32) the old worker dies      it costs the request that it ran; its
//   successor comes up, `replaced` or `swapped` the old worker hangs     serving: found by its
//   heartbeat, killed, `replaced`. In a drain: drain_timeout,
//                            `kept-old`, then found. Closing: killed after cleanup_timeout,
//                            `swapped`
//   the new worker dies      before the old one is let go: `kept-old` (A19). Later: another one is
//   tried;
//                            `failed+swapped` when it had been admitted, for then its memory needs
//                            a proof
//   the new worker hangs     the same after load_timeout; heartbeat, where it serves already
//
// The words are made from the receipts, in their order.
//
// How a state is met at will: BATON_STOP_AT=supervisor.<STATE> has the supervisor stop itself where
// the state has been published and nothing of it is done (ipc/crash_point.h). The cell does its
// deed then, and lets the supervisor go on. UNAVAILABLE is entered by killing the worker that
// serves, and its successor while it stages and the memory of the one before is confirmed freed.
#ifndef BATON_TESTS_CRASH_FAULT_MATRIX_H_
#define BATON_TESTS_CRASH_FAULT_MATRIX_H_

#include <set>
#include <string>
#include <vector>

#include "ipc/pages.h"

namespace baton::testing {

enum class Target { kFront, kSecondFront, kSupervisor, kOldWorker, kNewWorker, kHelper };
enum class Fault { kKill, kHang, kFail };

struct Cell {
  Target target;
  Fault fault;
  ipc::ServerState state;
};

const std::vector<Target>& AllTargets();
const std::vector<Fault>& AllFaults();
const std::vector<ipc::ServerState>& AllStates();
std::vector<Cell> AllCells();  // row by row

// "second front", "SIGSTOP", and "second_front_SIGSTOP_in_SERVING".
std::string TargetName(Target target);
std::string FaultName(Fault fault);
std::string CellName(const Cell& cell);

// How the cell's state is reached.
enum class Course {
  kServing,      // it is there
  kReload,       // a command
  kWorkerDeath,  // the worker that serves is killed
  kUnavailable,  // and so is its successor, once it is what everybody waits for
};

struct CellPlan {
  // Why there is no such cell; then the rest says nothing.
  std::string impossible;

  Course course = Course::kReload;
  bool stops_at_state = true;  // the supervisor does, and the deed is done meanwhile
  // What the receipts have to say, one of: "served" (nothing), "swapped", "kept-old", "replaced",
  // "failed", several joined with a plus; or "restarted".
  std::set<std::string> outcomes;

  // In the server's environment, and in that of the front which is the target. The cell is run once
  // for each of `fail_at`.
  std::vector<std::string> fail_at = {""};
  std::string stop_at;
  std::string front_fail_at;
  std::string front_stop_at;
  bool stops_by_itself = false;  // the target, at one of those points: no signal is sent

  // Short ones; all others are too long to pass.
  std::vector<std::string> timeouts;  // "drain_timeout", ...
  bool short_heartbeat = false;

  int workers_lost = 0;      // so many may have been running a request: it is aborted
  bool cut_off = false;      // the target, a front, loses its server
  bool pins = false;         // the target keeps the old generation's memory from being freed
  bool must_expire = false;  // nobody serves while the supervisor hangs
  std::string receipt_says;  // part of a receipt's reason; PID: the target's
};

CellPlan PlanOf(const Cell& cell);

}  // namespace baton::testing

#endif  // BATON_TESTS_CRASH_FAULT_MATRIX_H_
