#include "tests/simgpu/knobs.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <charconv>

#include "ipc/unique_fd.h"

namespace baton::ipc::cuda::sim {
namespace {

constexpr int64_t kNanosecondsPerSecond = 1'000'000'000;
constexpr uint64_t kNanosecondsPerMillisecond = 1'000'000;

std::optional<std::string> ReadAll(int fd) {
  std::string text;
  char buffer[4096];
  for (;;) {
    const ssize_t got = ::read(fd, buffer, sizeof(buffer));
    if (got < 0) return std::nullopt;
    if (got == 0) return text;
    text.append(buffer, static_cast<size_t>(got));
  }
}

}  // namespace

Knobs Knobs::Parse(std::string_view text) {
  Knobs knobs;
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    const size_t equals = line.find('=');
    if (equals == std::string_view::npos) continue;
    knobs.values_[std::string(line.substr(0, equals))] = std::string(line.substr(equals + 1));
  }
  return knobs;
}

std::optional<std::string> Knobs::Text(std::string_view name) const {
  const auto it = values_.find(name);
  if (it == values_.end()) return std::nullopt;
  return it->second;
}

uint64_t Knobs::Number(std::string_view name, uint64_t fallback) const {
  const auto it = values_.find(name);
  if (it == values_.end()) return fallback;
  const std::string& text = it->second;
  uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size() ? number : fallback;
}

TeardownRule Knobs::teardown() const {
  return {.delay_ns = Number("teardown_ms", 0) * kNanosecondsPerMillisecond,
          .hold = Flag("hold_teardown"),
          .dead_only = Flag("teardown_dead_only")};
}

Uuid Knobs::UuidOf(DeviceOrdinal device) const {
  Uuid uuid{};
  const std::string digits = Text("uuid").value_or("");
  for (size_t i = 0; i < sizeof(uuid.bytes) && 2 * i + 2 <= digits.size(); ++i) {
    const char* const at = digits.data() + 2 * i;
    std::from_chars(at, at + 2, uuid.bytes[i], 16);
  }
  uuid.bytes[sizeof(uuid.bytes) - 1] += static_cast<unsigned char>(device);
  return uuid;
}

std::shared_ptr<const Knobs> KnobFile::Now() {
  const std::lock_guard<std::mutex> lock(mutex_);
  struct stat seen {};
  if (::stat(path_.c_str(), &seen) != 0) {
    inode_ = 0;
    written_ns_ = -1;
    knobs_ = std::make_shared<const Knobs>();
    return knobs_;
  }
  if (seen.st_ino == inode_ &&
      seen.st_mtim.tv_sec * kNanosecondsPerSecond + seen.st_mtim.tv_nsec == written_ns_) {
    return knobs_;
  }
  // What is read is what is remembered, even if it was replaced since the look.
  const UniqueFd fd(::open(path_.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd || ::fstat(fd.get(), &seen) != 0) return knobs_;
  const std::optional<std::string> text = ReadAll(fd.get());
  if (!text.has_value()) return knobs_;
  inode_ = seen.st_ino;
  written_ns_ = seen.st_mtim.tv_sec * kNanosecondsPerSecond + seen.st_mtim.tv_nsec;
  knobs_ = std::make_shared<const Knobs>(Knobs::Parse(*text));
  return knobs_;
}

}  // namespace baton::ipc::cuda::sim
