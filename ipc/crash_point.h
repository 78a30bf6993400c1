// Places where a test can have a process die.
//
//   BATON_CRASH_POINT("worker.taken_published");
//
// kills the process with SIGKILL when the environment says
// BATON_CRASH_AT=worker.taken_published, or at the n-th pass with
// BATON_CRASH_AT=worker.taken_published:n (counted from 1, over all threads).
// Names start with the process that passes them: "worker.", "front.",
// "supervisor.".
//
// Compiled in only with the CMake option BATON_CRASH_POINTS (the presets for
// testing have it); otherwise nothing at all is left of it. The environment is
// read at the first pass of each point.
#ifndef BATON_IPC_CRASH_POINT_H_
#define BATON_IPC_CRASH_POINT_H_

#ifdef BATON_CRASH_POINTS

#include <atomic>
#include <cstdint>
#include <string_view>

namespace baton::ipc {

// Thread safety: any thread.
class CrashPoint {
 public:
  explicit CrashPoint(std::string_view name);
  // Does not return when this is the pass that was asked for.
  void Pass() {
    // Relaxed: only the count matters.
    if (left_.load(std::memory_order_relaxed) > 0) Count();
  }

 private:
  void Count();
  std::atomic<int64_t> left_{0};  // passes until death; 0: never
};

}  // namespace baton::ipc

#define BATON_CRASH_POINT(name)                           \
  do {                                                    \
    static ::baton::ipc::CrashPoint baton_crash_at(name); \
    baton_crash_at.Pass();                                \
  } while (0)

#else

#define BATON_CRASH_POINT(name) \
  do {                          \
  } while (0)

#endif  // BATON_CRASH_POINTS

#endif  // BATON_IPC_CRASH_POINT_H_
