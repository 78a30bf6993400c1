// Whether another process sleeps: for what measures a wake-up.
#ifndef BATON_BENCH_SLEEPING_H_
#define BATON_BENCH_SLEEPING_H_

#include <sys/types.h>

#include "absl/status/status.h"
#include "absl/time/time.h"

#include "ipc/unique_fd.h"

namespace baton::bench {

// Thread safety: none.
class SleepWatch {
 public:
  // Of the main thread of `pid`, which exists.
  explicit SleepWatch(pid_t pid);

  // Returns when it was seen asleep twice, ten microseconds apart. Looks without sleeping.
  // DEADLINE_EXCEEDED where it never is within `timeout`.
  absl::Status Await(absl::Duration timeout = absl::Seconds(10)) const;

 private:
  bool Sleeps() const;
  ipc::UniqueFd stat_;
};

}  // namespace baton::bench

#endif  // BATON_BENCH_SLEEPING_H_
