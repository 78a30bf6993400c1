// The thread on which a front opens and closes memory on a GPU.
//
// Both take milliseconds, and a driver that hangs takes for ever. The session's
// thread answers the server meanwhile, and nobody who ends a session waits for
// longer than kPatience: a thread that hangs is left behind.
//
// Thread safety: Run may be called from any thread; TakeDone from one.
#ifndef BATON_RUNTIME_FRONT_DEVICE_THREAD_H_
#define BATON_RUNTIME_FRONT_DEVICE_THREAD_H_

#include <functional>
#include <memory>
#include <vector>

#include "absl/time/time.h"

namespace baton::internal {

class DeviceThread {
 public:
  using Job = std::function<void()>;
  static constexpr absl::Duration kPatience = absl::Seconds(5);

  // `on_done` is called on the thread after each job; it must be safe to call
  // until the destructor has returned.
  explicit DeviceThread(std::function<void()> on_done);
  // Lets what was asked for finish, for up to kPatience. Results that nobody
  // took are dropped, jobs that have not begun by then are not run.
  ~DeviceThread();
  DeviceThread(const DeviceThread&) = delete;
  DeviceThread& operator=(const DeviceThread&) = delete;

  // Runs `job` after those that came before it, then keeps `done` for whoever
  // calls TakeDone. Starts the thread with the first job; where none can be
  // started the job is run here.
  void Run(Job job, Job done);
  std::vector<Job> TakeDone();
  // Waits until nothing is under way, for up to kPatience; false: it still is.
  bool AwaitIdle();
  // Nobody will call TakeDone any more: results are dropped, on the thread.
  void Discard();
  // In a fork: the thread is the parent's, and so is all that it was given.
  void Abandon() { abandoned_ = true; }

 private:
  struct Shared;
  static void Loop(const std::shared_ptr<Shared>& shared);
  const std::shared_ptr<Shared> shared_;
  bool abandoned_ = false;
};

}  // namespace baton::internal

#endif  // BATON_RUNTIME_FRONT_DEVICE_THREAD_H_
