#include "runtime/supervisor/secrets_watcher.h"

#include <sys/inotify.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <set>
#include <string_view>
#include <system_error>
#include <utility>

namespace baton::runtime {

namespace fs = std::filesystem;

namespace {

// Reading a secret must not look like a change: no IN_ACCESS, no IN_OPEN.
constexpr uint32_t kInside = IN_CLOSE_WRITE | IN_MODIFY | IN_CREATE | IN_DELETE | IN_MOVED_FROM |
                             IN_MOVED_TO | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF;
constexpr uint32_t kAbove =
    IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_DELETE_SELF | IN_MOVE_SELF;
constexpr size_t kMaxWatches = 1024;

std::string Absolute(const std::string& directory) {
  std::error_code error;
  const fs::path path = fs::absolute(directory, error).lexically_normal();
  if (error) return directory;
  return path.has_filename() ? path.native() : path.parent_path().native();
}

}  // namespace

SecretsWatcher::SecretsWatcher(std::string directory, int64_t now_ns, SecretsWatcherOptions options)
    : directory_(Absolute(directory)), options_(options) {
  if (options_.use_inotify) inotify_.reset(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  RefreshWatches();  // before the first look, so that nothing falls between
  current_ = ReadSecrets(directory_, options_.limits);
  seen_ = current_;
  next_poll_ns_ = now_ns + absl::ToInt64Nanoseconds(options_.poll_interval);
}

int64_t SecretsWatcher::deadline_ns() const {
  return settle_at_ns_ == 0 ? next_poll_ns_ : std::min(next_poll_ns_, settle_at_ns_);
}

bool SecretsWatcher::Check(int64_t now_ns) {
  if (DrainEvents()) Unsettle(now_ns);
  const bool settled = settle_at_ns_ != 0 && now_ns >= settle_at_ns_;
  if (!settled && now_ns < next_poll_ns_) return false;

  next_poll_ns_ = now_ns + absl::ToInt64Nanoseconds(options_.poll_interval);
  RefreshWatches();
  SecretsSnapshot found = ReadSecrets(directory_, options_.limits);
  const bool moved = !found.SameValues(seen_);
  seen_ = std::move(found);
  if (!settled) {  // the poll: it only starts what inotify would have started
    if (moved) {
      Unsettle(now_ns);
    } else if (seen_.SameValues(current_)) {
      current_.problems = seen_.problems;
    }
    return false;
  }
  // Without inotify, a difference to the last look is the only sign of more to come.
  if (moved && inotify_.get() < 0 && now_ns < settle_by_ns_) {
    Unsettle(now_ns);
    return false;
  }
  settle_at_ns_ = settle_by_ns_ = 0;
  const bool changed = !seen_.SameValues(current_);
  current_ = seen_;
  return changed;
}

void SecretsWatcher::Unsettle(int64_t now_ns) {
  if (settle_by_ns_ == 0) {
    settle_by_ns_ = now_ns + absl::ToInt64Nanoseconds(options_.settle_limit);
  }
  settle_at_ns_ = std::min(now_ns + absl::ToInt64Nanoseconds(options_.settle_delay), settle_by_ns_);
}

// Whether anything happened that may matter.
bool SecretsWatcher::DrainEvents() {
  bool happened = false;
  alignas(inotify_event) char buffer[4096];
  while (inotify_.get() >= 0) {
    const ssize_t n = ::read(inotify_.get(), buffer, sizeof(buffer));
    if (n <= 0) break;
    for (const char* at = buffer; at < buffer + n;) {
      const auto* event = reinterpret_cast<const inotify_event*>(at);
      at += sizeof(inotify_event) + event->len;
      const auto watch = watches_.find(event->wd);
      if (event->mask & IN_Q_OVERFLOW) happened = true;
      if (watch == watches_.end()) continue;
      const std::string_view name = event->len > 0 ? event->name : "";
      const std::string& only = watch->second.only_name;
      if (only.empty() || name.empty() || name == only) happened = true;
      if (event->mask & IN_IGNORED) watches_.erase(watch);
    }
  }
  return happened;
}

void SecretsWatcher::RefreshWatches() {
  if (inotify_.get() < 0) return;
  std::map<int, Watch> watches;
  // The way there: the parent (the directory itself may be replaced), or the nearest that exists.
  fs::path below = directory_;
  fs::path above = below.parent_path();
  std::error_code error;
  while (above != above.parent_path() && !fs::is_directory(above, error)) {
    below = above;
    above = above.parent_path();
  }
  AddWatch(watches, above, below.filename());
  if (fs::is_directory(directory_, error)) {
    AddWatch(watches, directory_, "");
    for (fs::directory_iterator it(directory_, error), end; !error && it != end;
         it.increment(error)) {
      std::error_code ignored;
      if (it->is_directory(ignored)) AddWatch(watches, it->path(), "");
    }
  }
  for (const auto& [wd, watch] : watches_) {
    if (!watches.contains(wd)) ::inotify_rm_watch(inotify_.get(), wd);
  }
  watches_ = std::move(watches);
}

void SecretsWatcher::AddWatch(std::map<int, Watch>& watches, const std::string& path,
                              const std::string& only_name) {
  if (watches.size() >= kMaxWatches) return;  // the poll sees what is beyond
  const uint32_t mask = (only_name.empty() ? kInside : kAbove) | IN_ONLYDIR;
  const int wd = ::inotify_add_watch(inotify_.get(), path.c_str(), mask);
  if (wd >= 0) watches.insert_or_assign(wd, Watch{path, only_name});
}

}  // namespace baton::runtime
