// Notices when code, configuration or weights in a model directory change.
//
// Thread safety: belongs to one thread. Starts none: the owner waits for
// deadline_ns() in a loop of its own, and passes the time in.
//
// It polls: a look is a stat of each file, which works on every file system,
// through symlinks and renames, and costs microseconds. Small files are told
// apart by content, so that a touch is nothing; large ones by identity (device,
// inode, size, time of modification): reading gigabytes each second would cost
// more than the reload that a touch of them causes.
#ifndef BATON_RUNTIME_SUPERVISOR_MODEL_WATCHER_H_
#define BATON_RUNTIME_SUPERVISOR_MODEL_WATCHER_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <utility>

#include "absl/time/time.h"

namespace baton::runtime {

struct ModelWatcherOptions {
  absl::Duration poll_interval = absl::Seconds(1);
  // A change counts when nothing has changed for this long: a directory is
  // rarely copied at once.
  absl::Duration settle_delay = absl::Milliseconds(500);
  uint64_t max_content_bytes = 256 * 1024;  // larger files go by identity
  size_t max_files = 4096;
  int max_depth = 4;
};

class ModelWatcher {
 public:
  ModelWatcher(std::string directory, int64_t now_ns, ModelWatcherOptions options = {});

  // When to call Check. CLOCK_MONOTONIC.
  int64_t deadline_ns() const { return next_look_ns_; }
  // True when the files have settled and are not what was last loaded; once
  // for each such change.
  bool Check(int64_t now_ns);
  // A worker starts now: what is there is what it loads.
  void Loaded(int64_t now_ns);

 private:
  // What tells one state of a file from another.
  using Files = std::map<std::string, std::pair<uint64_t, uint64_t>>;
  Files Look() const;

  const std::string directory_;
  const ModelWatcherOptions options_;
  Files loaded_;
  Files seen_;
  int64_t next_look_ns_ = 0;
  bool settling_ = false;
};

}  // namespace baton::runtime

#endif  // BATON_RUNTIME_SUPERVISOR_MODEL_WATCHER_H_
