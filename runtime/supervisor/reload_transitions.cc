#include "runtime/supervisor/reload_transitions.h"

#include <algorithm>

#include "runtime/supervisor/reload_machine.h"

namespace baton::runtime {

using S = ipc::ServerState;

namespace {

constexpr MadeBy kBoth = MadeBy::kBoth;
constexpr MadeBy kExclusive = MadeBy::kExclusive;
constexpr MadeBy kOverlap = MadeBy::kOverlap;

// clang-format off
constexpr ReloadTransition kTransitions[] = {
    {S::kStarting,    S::kServing,     kBoth,      "worker 1 is ready"},
    {S::kStarting,    S::kClosing,     kBoth,      "worker 1 failed; or stop"},

    {S::kServing,     S::kStaging,     kBoth,      "secrets, model or a command ask for a reload"},
    {S::kServing,     S::kClosing,     kBoth,      "the worker died, or was killed because it is wedged"},
    {S::kServing,     S::kHolding,     kBoth,      "stop"},

    {S::kStaging,     S::kHolding,     kExclusive, "the successor is staged; or stop"},
    {S::kStaging,     S::kAdmitting,   kOverlap,   "the successor is staged, and both fit the device"},
    {S::kStaging,     S::kServing,     kBoth,      "the successor failed: kept-old"},
    {S::kStaging,     S::kClosing,     kBoth,      "the worker that serves died"},

    {S::kHolding,     S::kDraining,    kBoth,      "at once"},

    {S::kDraining,    S::kClosing,     kBoth,      "nothing is in flight and nobody leases device memory; or the worker died; overlap: the successor serves from here on, or failed and is the one to close"},
    {S::kDraining,    S::kServing,     kExclusive, "drain_timeout, or the successor was lost: kept-old"},

    {S::kClosing,     S::kExiting,     kBoth,      "every import is closed; or close_timeout"},
    {S::kExiting,     S::kConfirming,  kBoth,      "the worker is reaped"},

    {S::kConfirming,  S::kAdmitting,   kBoth,      "freed (or overridden), and there is a successor"},
    {S::kConfirming,  S::kServing,     kOverlap,   "freed (or overridden), and the other one serves"},
    {S::kConfirming,  S::kUnavailable, kBoth,      "freed (or overridden), and there is no successor"},
    {S::kConfirming,  S::kStopped,     kBoth,      "stop: freed, or confirm_timeout"},

    {S::kAdmitting,   S::kRemapping,   kBoth,      "the successor is ready"},
    {S::kAdmitting,   S::kClosing,     kBoth,      "it failed after it was admitted: it must go, confirmed; or the worker that serves died; or stop"},
    {S::kAdmitting,   S::kUnavailable, kBoth,      "it failed before it was admitted"},

    {S::kRemapping,   S::kServing,     kExclusive, "every front has mapped it; or close_timeout"},
    {S::kRemapping,   S::kHolding,     kOverlap,   "every front has mapped it; or close_timeout"},
    {S::kRemapping,   S::kClosing,     kBoth,      "it died; or the worker that serves died; or stop"},

    {S::kUnavailable, S::kAdmitting,   kBoth,      "another worker is staged"},
    {S::kUnavailable, S::kClosing,     kBoth,      "stop, with a worker on its way"},
    {S::kUnavailable, S::kStopped,     kBoth,      "stop, with none"},
};

constexpr StepDeadline kDeadlines[] = {
    {S::kStarting,    "load_timeout",    "the server ends with the reason"},
    {S::kServing,     nullptr,           ""},
    {S::kStaging,     "load_timeout",    "kept-old"},
    {S::kHolding,     nullptr,           ""},
    {S::kDraining,    "drain_timeout",   "kept-old, names who held it, tried again later; stop: goes on"},
    {S::kClosing,     "close_timeout",   "fronts that did not answer are cut off"},
    {S::kExiting,     "cleanup_timeout", "SIGKILL; once more: says that the device is wedged, and waits"},
    {S::kConfirming,  "confirm_timeout", "the verdict is shown; on_unconfirmed says: hold (wait on) or override"},
    {S::kAdmitting,   "load_timeout",    "it is killed, its memory confirmed, another is tried"},
    {S::kRemapping,   "close_timeout",   "fronts that did not answer are cut off"},
    {S::kUnavailable, nullptr,           ""},
};
// clang-format on

}  // namespace

std::span<const ReloadTransition> ReloadTransitions() { return kTransitions; }
std::span<const StepDeadline> StepDeadlines() { return kDeadlines; }

bool ReloadMachine::Allowed(S from, S to) {
  return std::any_of(std::begin(kTransitions), std::end(kTransitions),
                     [&](const ReloadTransition& t) { return t.from == from && t.to == to; });
}

}  // namespace baton::runtime
