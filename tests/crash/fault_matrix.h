// The fault matrix: what can befall whom, in which state of a reload, and what has to come of it.
//
// Rows: one process (a front, a second front, the supervisor, the worker that serves, the worker
// that is to replace it, the helper that confirms) x one fault (SIGKILL, SIGSTOP, a step that
// fails). Columns: the states of a server. In each cell two fronts are under load, and it holds
// that
//   - each request ends exactly once, with its own payload, and generations never go back;
//   - one generation at a time holds device memory, as an observer of /proc sees it;
//   - nothing is left behind: processes, zombies, descriptors, names in /dev/shm;
//   - service comes back: a fresh request is answered, and a reload after it swaps. While it
//     cannot come back `status` says why, and it does when the hindrance is lifted.
//
// What is to be expected beyond that, by class of cell, and why:
//   front dies        it counts as closed everywhere, so the reload goes on: `swapped`
//   front hangs       before CLOSING it cannot say that it leases nothing: drain_timeout,
//                     `kept-old`. In CLOSING it is cut off after close_timeout, but what it maps
//                     cannot be taken from it: CONFIRMING says `pinned-by <pid>`, and nothing is
//                     allocated until it goes on or dies (A27): `swapped unpinned`. Later it maps
//                     nothing of the old generation; it is cut off when it does not map the new
//                     one: `swapped`
//   front fails       as one that hangs, but what it maps goes when it is cut off
//   supervisor dies   all that is its goes, requests end; then the next one serves: `restarted`
//   supervisor hangs  who serves, serves on; where nobody does requests expire by themselves (A32)
//   old worker dies   it costs the request that it ran; the successor comes up: `replaced` where
//                     it served alone, else `swapped`
//   old worker hangs  serving: its heartbeat tells, it is killed and `replaced`. In a drain:
//                     drain_timeout, `kept-old`, and then its heartbeat. Later: killed after
//                     cleanup_timeout, `swapped`
//   new worker dies   while the old one can serve on: `kept-old` (A19). Later another one is
//                     tried: `swapped`; `failed+swapped` if it was admitted, for its memory needs
//                     a proof
//   new worker hangs  the same, after load_timeout; where it serves already, its heartbeat tells
//   helper            is asked in CONFIRMING only; elsewhere its fate touches nobody. What it does
//                     not say is never taken for `freed`: another one is asked, after
//                     helper_timeout if it hangs: `swapped`
// These words are made from the receipts, in their order.
//
// How a state is met at will: BATON_STOP_AT=supervisor.<STATE> has the supervisor stop itself
// where the state has been published and nothing of it is done (ipc/crash_point.h). The cell does
// its deed then, and lets the supervisor go on. UNAVAILABLE is entered by killing the worker that
// serves, and its successor while that stages and the memory of the one before is confirmed freed.
#ifndef BATON_TESTS_CRASH_FAULT_MATRIX_H_
#define BATON_TESTS_CRASH_FAULT_MATRIX_H_

#include <cstdint>
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

// Points of ipc/crash_point.h in the server's environment that bring the fault about.
struct FaultPoints {
  std::string fail_at;
  // Then no signal is sent, and the supervisor does not stop for it.
  std::string crash_at;
  std::string stop_at;
};

struct CellPlan {
  // Why there is no such cell; then the rest says nothing.
  std::string impossible;

  Course course = Course::kReload;
  bool stops_at_state = true;  // the supervisor does, and the deed is done meanwhile
  // What the receipts have to say, one of: "served" (nothing), "swapped", "kept-old", "replaced",
  // "failed", several joined with a plus; or "restarted".
  std::set<std::string> outcomes;

  std::vector<FaultPoints> runs = {{}};  // the cell is run once for each
  std::string stop_at;                   // in the server's environment, in each of them
  std::string front_fail_at;             // in that of the front which is the target
  std::string front_stop_at;
  bool stops_by_itself = false;  // the target, at one of those points: no signal is sent

  // Short ones; all others are too long to pass.
  std::vector<std::string> timeouts;  // "drain_timeout", ...
  bool short_heartbeat = false;

  int workers_lost = 0;      // so many may have been running a request: it is aborted
  bool cut_off = false;      // the target, a front, loses its server
  bool pins = false;         // the target keeps the old generation's memory from being freed
  bool must_expire = false;  // nobody serves while the supervisor hangs
  // How it is known that the fault has struck, where the outcome does not show it.
  uint64_t successor = 0;    // if not 0: the generation that the last receipt names
  std::string receipt_says;  // part of a receipt's reason; PID: the target's
  std::string log_says;
};

CellPlan PlanOf(const Cell& cell);

}  // namespace baton::testing

#endif  // BATON_TESTS_CRASH_FAULT_MATRIX_H_
