// Notices when the secrets in a directory change.
//
// Thread safety: belongs to one thread. Starts none: the owner waits for fd()
// and deadline_ns() in a loop of its own, and passes the time in.
//
// inotify tells that something may have changed; a slow poll finds what it
// does not tell (network file systems, no watches left). Either only starts a
// look: what counts is whether the content differs from the last snapshot, so
// a touch is nothing and a file that is written in ten steps is one change.
//
//   something happened  ->  settling: until settle_delay without more of it,
//                           or settle_limit after the first  ->  read, compare
//
// A directory that does not exist yet is waited for at its nearest ancestor
// that does (A14).
#ifndef BATON_RUNTIME_SUPERVISOR_SECRETS_WATCHER_H_
#define BATON_RUNTIME_SUPERVISOR_SECRETS_WATCHER_H_

#include <cstdint>
#include <map>
#include <string>

#include "absl/time/time.h"

#include "ipc/unique_fd.h"
#include "runtime/supervisor/secrets.h"

namespace baton::runtime {

struct SecretsWatcherOptions {
  absl::Duration settle_delay = absl::Milliseconds(100);
  absl::Duration settle_limit = absl::Milliseconds(500);
  // With settle_limit, less than the second in which a change is to be seen (A13).
  absl::Duration poll_interval = absl::Milliseconds(400);
  bool use_inotify = true;
  SecretsLimits limits;
};

class SecretsWatcher {
 public:
  // Takes the first snapshot. Where inotify is not to be had, it polls.
  SecretsWatcher(std::string directory, int64_t now_ns, SecretsWatcherOptions options = {});

  // For epoll: readable when something happened. -1 when it only polls.
  int fd() const { return inotify_.get(); }
  // When to call Check at the latest. CLOCK_MONOTONIC.
  int64_t deadline_ns() const;

  // Call when fd() is readable or deadline_ns() has passed; cheap in between.
  // True when current() has other values now.
  bool Check(int64_t now_ns);

  // The values that were last found settled.
  const SecretsSnapshot& current() const { return current_; }
  const std::string& directory() const { return directory_; }

 private:
  struct Watch {
    std::string path;
    std::string only_name;  // an ancestor: only this entry of it matters
  };

  bool DrainEvents();
  void Unsettle(int64_t now_ns);
  void RefreshWatches();
  void AddWatch(std::map<int, Watch>& watches, const std::string& path,
                const std::string& only_name);

  const std::string directory_;
  const SecretsWatcherOptions options_;
  ipc::UniqueFd inotify_;
  std::map<int, Watch> watches_;
  SecretsSnapshot current_;
  SecretsSnapshot seen_;  // at the last look, settled or not
  int64_t next_poll_ns_ = 0;
  int64_t settle_at_ns_ = 0;  // 0: nothing happened
  int64_t settle_by_ns_ = 0;
};

}  // namespace baton::runtime

#endif  // BATON_RUNTIME_SUPERVISOR_SECRETS_WATCHER_H_
