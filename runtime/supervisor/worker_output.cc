#include "runtime/supervisor/worker_output.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <string>
#include <utility>

#include "ipc/redact.h"

namespace baton::runtime {
namespace {

// Of a worker that is gone: a process that it has left behind may go on writing.
constexpr size_t kMostAtTheEnd = 4 * WorkerOutput::kPipeBytes;

}  // namespace

WorkerOutput::WorkerOutput(std::shared_ptr<const SecretsSnapshot> secrets, Log log)
    : secrets_(std::move(secrets)), log_(std::move(log)) {
  for (const auto& [key, value] : secrets_->values)
    values_.emplace_back(value.data(), value.size());
}

WorkerOutput::~WorkerOutput() = default;

absl::StatusOr<std::unique_ptr<WorkerOutput>> WorkerOutput::Create(
    std::shared_ptr<const SecretsSnapshot> secrets, Log log) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) {
    return absl::ErrnoToStatus(errno, "cannot make a pipe for a worker's output");
  }
  std::unique_ptr<WorkerOutput> output(new WorkerOutput(std::move(secrets), std::move(log)));
  output->read_.reset(ends[0]);
  output->write_.reset(ends[1]);
  // This end alone: who writes relies on being made to wait.
  ::fcntl(ends[0], F_SETFL, O_NONBLOCK);
  // Where it is refused (fs.pipe-user-pages-soft) the pipe stays as it is.
  ::fcntl(ends[0], F_SETPIPE_SZ, static_cast<int>(kPipeBytes));
  return output;
}

bool WorkerOutput::Read(size_t most) {
  std::array<char, 16 << 10> chunk;
  bool open = true;
  for (size_t done = 0; done < most;) {
    const ssize_t got = ::read(read_.get(), chunk.data(), std::min(chunk.size(), most - done));
    if (got < 0 && errno == EINTR) continue;
    open = got > 0 || (got < 0 && errno == EAGAIN);
    if (got <= 0) break;
    done += static_cast<size_t>(got);
    Take({chunk.data(), static_cast<size_t>(got)});
  }
  WipeBytes(chunk.data(), chunk.size());
  return open;
}

void WorkerOutput::Finish() {
  Read(kMostAtTheEnd);
  if (!line_.empty()) EndLine();
}

void WorkerOutput::Take(std::string_view text) {
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    const size_t part = std::min(end, kMaxLineBytes - line_.size());
    line_.insert(line_.end(), text.begin(), text.begin() + static_cast<ptrdiff_t>(part));
    text.remove_prefix(part);
    const bool complete = !text.empty() && text.front() == '\n';
    if (complete) text.remove_prefix(1);
    if (complete || line_.size() == kMaxLineBytes) EndLine();
  }
}

void WorkerOutput::EndLine() {
  const std::string clean = ipc::Redacted({line_.data(), line_.size()}, values_);
  WipeBytes(line_.data(), line_.size());
  line_.clear();
  std::string_view rest = clean;
  do {
    log_(rest.substr(0, kMaxPieceBytes));
    rest.remove_prefix(std::min(rest.size(), kMaxPieceBytes));
  } while (!rest.empty());
}

}  // namespace baton::runtime
