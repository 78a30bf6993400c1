#include "ipc/pages.h"

namespace baton::ipc {

std::string_view ServerStateName(ServerState state) {
  switch (state) {
    case ServerState::kStarting:
      return "STARTING";
    case ServerState::kServing:
      return "SERVING";
    case ServerState::kStaging:
      return "STAGING";
    case ServerState::kHolding:
      return "HOLDING";
    case ServerState::kDraining:
      return "DRAINING";
    case ServerState::kClosing:
      return "CLOSING";
    case ServerState::kExiting:
      return "EXITING";
    case ServerState::kConfirming:
      return "CONFIRMING";
    case ServerState::kAdmitting:
      return "ADMITTING";
    case ServerState::kRemapping:
      return "REMAPPING";
    case ServerState::kUnavailable:
      return "UNAVAILABLE";
    case ServerState::kStopping:
      return "STOPPING";
    case ServerState::kStopped:
      return "STOPPED";
  }
  return "UNKNOWN";
}

}  // namespace baton::ipc
