// ReloadMachine: the table of reload_machine.h, as code.
#include "runtime/supervisor/reload_machine.h"

namespace baton::runtime {

using State = ipc::ServerState;

bool ReloadMachine::Allowed(State from, State to) {
  switch (from) {
    case State::kStarting:
      return to == State::kServing || to == State::kClosing;
    case State::kServing:
      return to == State::kStaging || to == State::kClosing || to == State::kHolding;
    case State::kStaging:
      return to == State::kHolding || to == State::kServing || to == State::kClosing;
    case State::kHolding:
      return to == State::kDraining;
    case State::kDraining:
      return to == State::kClosing || to == State::kServing;
    case State::kClosing:
      return to == State::kExiting;
    case State::kExiting:
      return to == State::kConfirming;
    case State::kConfirming:
      return to == State::kAdmitting || to == State::kUnavailable || to == State::kStopped;
    case State::kAdmitting:
      return to == State::kRemapping || to == State::kClosing || to == State::kUnavailable;
    case State::kRemapping:
      return to == State::kServing || to == State::kClosing;
    case State::kUnavailable:
      return to == State::kAdmitting || to == State::kClosing || to == State::kStopped;
    case State::kStopping:  // shown, never a step
    case State::kStopped:
      break;
  }
  return false;
}

}  // namespace baton::runtime
