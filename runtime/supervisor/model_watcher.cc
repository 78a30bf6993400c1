#include "runtime/supervisor/model_watcher.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <string_view>
#include <system_error>

#include "absl/hash/hash.h"

#include "ipc/unique_fd.h"

namespace baton::runtime {

namespace fs = std::filesystem;

namespace {

// What editors, Python and Kubernetes keep beside the files that count.
bool IsScratch(std::string_view name) {
  return name.starts_with('.') || name.ends_with('~') || name == "__pycache__";
}

uint64_t Identity(const struct stat& info) {
  return absl::HashOf(uint64_t{info.st_dev}, uint64_t{info.st_ino}, int64_t{info.st_mtim.tv_sec},
                      int64_t{info.st_mtim.tv_nsec});
}

// Never waits on a pipe or a device: it was a regular file, and is opened so.
uint64_t Content(const fs::path& path, const struct stat& info) {
  const ipc::UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  std::string content(static_cast<size_t>(info.st_size), '\0');
  size_t done = 0;
  while (file && done < content.size()) {
    const ssize_t got = ::read(file.get(), content.data() + done, content.size() - done);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    done += static_cast<size_t>(got);
  }
  if (done < content.size()) return Identity(info);  // unreadable, or being written
  return absl::HashOf(content);
}

}  // namespace

ModelWatcher::ModelWatcher(std::string directory, int64_t now_ns, ModelWatcherOptions options)
    : directory_(std::move(directory)), options_(options) {
  Loaded(now_ns);
}

void ModelWatcher::Loaded(int64_t now_ns) {
  loaded_ = seen_ = Look();
  settling_ = false;
  next_look_ns_ = now_ns + absl::ToInt64Nanoseconds(options_.poll_interval);
}

bool ModelWatcher::Check(int64_t now_ns) {
  if (now_ns < next_look_ns_) return false;
  Files found = Look();
  const bool moved = found != seen_;
  seen_ = std::move(found);
  const bool settled = settling_ && !moved;
  settling_ = moved;
  next_look_ns_ =
      now_ns + absl::ToInt64Nanoseconds(settling_ ? options_.settle_delay : options_.poll_interval);
  if (!settled || seen_ == loaded_) return false;
  loaded_ = seen_;
  return true;
}

ModelWatcher::Files ModelWatcher::Look() const {
  Files files;
  std::error_code error;
  fs::recursive_directory_iterator it(directory_, fs::directory_options::skip_permission_denied,
                                      error);
  for (; !error && it != fs::recursive_directory_iterator(); it.increment(error)) {
    const std::string name = it->path().filename().native();
    if (IsScratch(name)) {
      it.disable_recursion_pending();
      continue;
    }
    if (it.depth() >= options_.max_depth) it.disable_recursion_pending();
    struct stat info {};
    if (::stat(it->path().c_str(), &info) != 0 || !S_ISREG(info.st_mode)) continue;
    const auto bytes = static_cast<uint64_t>(info.st_size);
    files[it->path().native()] = {
        bytes, bytes <= options_.max_content_bytes ? Content(it->path(), info) : Identity(info)};
    if (files.size() >= options_.max_files) break;
  }
  return files;
}

}  // namespace baton::runtime
