// What workers leave behind: descendants that made a session of their own, and
// so outlive their worker's process group with whatever they hold of its
// device memory.
//
// The supervisor is the one to whom the kernel gives them (a subreaper). It
// kills and reaps those whose worker has ended, and reaps those that end by
// themselves; so it never has a zombie that is not its own child's.
//
// Whose a process is, its environment says: each worker is started with
// BATON_WORKER=<supervisor's pid>/<generation>. One without that is a stranger
// (as pid 1 of a container the supervisor inherits everybody's), or a model's
// that has thrown it away. It is reaped when it ends, and never signalled.
//
// Only children of this process are ever signalled, by pidfd: a child keeps its
// pid until it is reaped, and nobody else reaps here (R5). Never touched: those
// that `is_ours` knows (workers, helpers), and children older than Begin.
//
// Thread safety: belongs to the supervisor's one thread. No call waits, but the
// destructor, a second for each round of what it has to kill.
#ifndef BATON_RUNTIME_SUPERVISOR_ORPHANS_H_
#define BATON_RUNTIME_SUPERVISOR_ORPHANS_H_

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>

#include "absl/status/status.h"

#include "ipc/process.h"
#include "runtime/supervisor/event_loop.h"
#include "runtime/supervisor/server_log.h"

namespace baton::runtime {

// "BATON_WORKER=1234/7", for a worker's environment.
std::string WorkerTag(uint64_t generation);

class Orphans {
 public:
  struct Owner {
    std::function<bool(pid_t)> is_ours;
    std::function<bool(uint64_t)> lives;  // that generation's worker was not reaped yet
  };

  Orphans(EventLoop& loop, ServerLog log, Owner owner)
      : loop_(loop), log_(std::move(log)), owner_(std::move(owner)) {}
  // Kills what is left of workers, which have to be gone. Lets go of strangers.
  ~Orphans();
  Orphans(const Orphans&) = delete;
  Orphans& operator=(const Orphans&) = delete;

  // Before the first child. An error: it cannot see or inherit them, and they
  // end up with whoever would have had them otherwise.
  absl::Status Begin();

  // Finds new ones, and kills those whose worker has ended. Reads /proc/self:
  // tens of microseconds.
  void Look();

  size_t count() const { return adopted_.size(); }

 private:
  struct Adopted {
    ipc::ChildProcess process;
    uint64_t generation = 0;  // 0: it does not say
    bool asked_twice = false;
    bool killed = false;
  };
  void Find();
  void Reap(pid_t pid);
  void Kill(Adopted& adopted);

  EventLoop& loop_;
  const ServerLog log_;
  const Owner owner_;
  bool begun_ = false;
  std::set<pid_t> foreign_;  // there before Begin
  std::map<pid_t, Adopted> adopted_;
};

}  // namespace baton::runtime

#endif  // BATON_RUNTIME_SUPERVISOR_ORPHANS_H_
