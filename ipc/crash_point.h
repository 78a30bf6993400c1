// Places where a test can have a process die, stop or fail.
//
//   BATON_CRASH_POINT("worker.taken_published");
//   if (BATON_FAIL_POINT("worker.upload")) return absl::InternalError(...);
//
// What happens there, the environment says:
//   BATON_CRASH_AT=NAME   SIGKILL
//   BATON_STOP_AT=NAME    SIGSTOP; a test looks on, and sends SIGCONT
//   BATON_FAIL_AT=NAME    the BATON_FAIL_POINT is true: take the way of a
//                         failure, as if what stands before it had failed
// NAME is a point's name, `name:n` its n-th pass alone (counted from 1, over
// all threads; without it: the first), `name@scope` only in a process that has
// called SetCrashScope(scope) (a worker: its generation); several are separated
// by commas. Names start with the process that passes them: "worker.",
// "front.", "supervisor.", "confirm.".
//
// Compiled in only with the CMake option BATON_CRASH_POINTS (the presets for
// testing have it); otherwise nothing at all is left of it. The environment is
// read at the first pass of each point.
#ifndef BATON_IPC_CRASH_POINT_H_
#define BATON_IPC_CRASH_POINT_H_

#include <cstdint>

#ifdef BATON_CRASH_POINTS

#include <atomic>
#include <string_view>

namespace baton::ipc {

// To be called before the first pass of any point that is named with a scope.
void SetCrashScope(uint64_t scope);

// Thread safety: any thread.
class CrashPoint {
 public:
  explicit CrashPoint(std::string_view name);
  // Does not return when this is the pass that is to be its last. True when it
  // is the one that is to fail.
  bool Pass() { return set_ && PassSet(); }

 private:
  enum class Kind { kCrash, kStop, kFail };
  struct Trap {
    Kind kind;
    std::atomic<int64_t> left{0};  // passes until it springs; 0: never
  };
  bool PassSet() {
    bool fails = false;
    for (Trap& trap : traps_) {
      // Relaxed: only the count matters.
      if (trap.left.load(std::memory_order_relaxed) > 0) fails |= Count(trap);
    }
    return fails;
  }
  static bool Count(Trap& trap);
  bool set_ = false;  // any of them ever was: most points are never asked for
  Trap traps_[3] = {{Kind::kCrash}, {Kind::kStop}, {Kind::kFail}};
};

}  // namespace baton::ipc

#define BATON_FAIL_POINT(name)                            \
  ([]() -> bool {                                         \
    static ::baton::ipc::CrashPoint baton_crash_at(name); \
    return baton_crash_at.Pass();                         \
  }())
#define BATON_CRASH_POINT(name) static_cast<void>(BATON_FAIL_POINT(name))

#else

namespace baton::ipc {
inline void SetCrashScope(uint64_t /*scope*/) {}
}  // namespace baton::ipc

#define BATON_FAIL_POINT(name) false
#define BATON_CRASH_POINT(name) \
  do {                          \
  } while (0)

#endif  // BATON_CRASH_POINTS

#endif  // BATON_IPC_CRASH_POINT_H_
