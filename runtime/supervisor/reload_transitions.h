// The reload, as one table: which step may follow which, when, and what bounds
// the time in each.
//
// Thread safety: constant data.
#ifndef BATON_RUNTIME_SUPERVISOR_RELOAD_TRANSITIONS_H_
#define BATON_RUNTIME_SUPERVISOR_RELOAD_TRANSITIONS_H_

#include <span>

#include "ipc/pages.h"

namespace baton::runtime {

// With which strategy a move is made. `overlap` brings the successor up beside
// the one that serves, so ADMITTING and REMAPPING come before HOLDING.
enum class MadeBy { kBoth, kExclusive, kOverlap };

struct ReloadTransition {
  ipc::ServerState from;
  ipc::ServerState to;
  MadeBy strategy;
  const char* when;
};

// What bounds a step. Where `option` is null nothing has to: the step waits
// for nobody, or is where the server is meant to be.
struct StepDeadline {
  ipc::ServerState step;
  const char* option;  // reload.<option> in config.yaml, a duration with a unit
  const char* then;    // what happens when it has passed
};

// Every move there is; ReloadMachine aborts rather than make another.
std::span<const ReloadTransition> ReloadTransitions();
std::span<const StepDeadline> StepDeadlines();

}  // namespace baton::runtime

#endif  // BATON_RUNTIME_SUPERVISOR_RELOAD_TRANSITIONS_H_
