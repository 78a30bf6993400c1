#include "runtime/supervisor/orphans.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"

#include "ipc/unique_fd.h"
#include "runtime/supervisor/secrets.h"

namespace baton::runtime {

namespace {

constexpr char kTag[] = "BATON_WORKER=";
// Descriptors for so many at a time; more are found when these have gone.
constexpr size_t kMaxAdopted = 256;
constexpr absl::Duration kDying = absl::Seconds(1);
// A tree of processes comes to us a generation of it at a time.
constexpr int kRounds = 64;
// No environment is larger: the kernel takes less.
constexpr size_t kMaxEnvironment = 8 << 20;

// Secrets stand in it: every copy is overwritten (A16).
SecretBytes EnvironmentOf(pid_t pid) {
  const ipc::UniqueFd file(
      ::open(absl::StrCat("/proc/", pid, "/environ").c_str(), O_RDONLY | O_CLOEXEC));
  SecretBytes bytes;
  size_t filled = 0;
  while (file && filled < kMaxEnvironment) {
    if (filled == bytes.size()) bytes.resize(std::max<size_t>(16384, 2 * filled));
    const ssize_t got = ::read(file.get(), bytes.data() + filled, bytes.size() - filled);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    filled += static_cast<size_t>(got);
  }
  bytes.resize(filled);
  return bytes;
}

// The generation that a process is of, by the environment that it was started with; 0: it does not
// say.
uint64_t GenerationOf(pid_t pid) {
  const SecretBytes bytes = EnvironmentOf(pid);
  const std::string_view environ(bytes.data(), bytes.size());
  const std::string tag = absl::StrCat(kTag, ::getpid(), "/");
  for (size_t at = 0; at < environ.size();) {
    const size_t end = std::min(environ.find('\0', at), environ.size());
    const std::string_view variable = environ.substr(at, end - at);
    uint64_t generation = 0;
    if (variable.starts_with(tag) &&
        absl::SimpleAtoi(std::string(variable.substr(tag.size())), &generation) &&
        generation != 0) {
      return generation;
    }
    at = end + 1;
  }
  return 0;
}

}  // namespace

std::string WorkerTag(uint64_t generation) {
  return absl::StrCat(kTag, ::getpid(), "/", generation);
}

absl::Status Orphans::Begin() {
  const auto children = ipc::ChildrenOfThisProcess();
  if (!children.ok()) return children.status();  // what cannot be found is not taken
  foreign_.insert(children->begin(), children->end());
  absl::Status status = ipc::InheritOrphans();
  begun_ = status.ok();
  return status;
}

Orphans::~Orphans() {
  for (int round = 0; begun_ && round < kRounds; ++round) {
    Find();
    size_t killed = 0;
    for (auto& [pid, adopted] : adopted_) {
      if (adopted.generation == 0) continue;
      Kill(adopted);
      ++killed;
    }
    for (auto& [pid, adopted] : adopted_) {
      loop_.Forget(adopted.process.pidfd());
      if (adopted.generation == 0) {
        adopted.process.Release();
      } else if (!adopted.process.Reap(kDying).ok()) {
        adopted.process.Release();  // it hangs in the kernel
        foreign_.insert(pid);
      }
    }
    adopted_.clear();
    if (killed == 0) return;
  }
}

void Orphans::Look() {
  if (!begun_) return;
  for (auto& [pid, adopted] : adopted_) {
    // One that was just starting a program had no environment yet.
    if (adopted.generation != 0 || std::exchange(adopted.asked_twice, true)) continue;
    adopted.generation = GenerationOf(pid);
  }
  Find();
  for (auto& [pid, adopted] : adopted_) {
    if (adopted.killed || adopted.generation == 0 || owner_.lives(adopted.generation)) continue;
    log_->info("killing process {}, which generation {} has left behind", pid, adopted.generation);
    Kill(adopted);
  }
}

void Orphans::Find() {
  const auto children = ipc::ChildrenOfThisProcess();
  if (!children.ok()) return;
  for (const pid_t pid : *children) {
    if (adopted_.size() >= kMaxAdopted) return;
    if (foreign_.contains(pid) || adopted_.contains(pid) || owner_.is_ours(pid)) continue;
    auto process = ipc::AdoptChild(pid);
    if (!process.ok()) continue;  // out of descriptors: later
    Adopted& adopted = adopted_[pid];
    adopted.generation = GenerationOf(pid);
    adopted.process = *std::move(process);
    loop_.Watch(adopted.process.pidfd(), [this, pid] { Reap(pid); }).IgnoreError();
  }
}

void Orphans::Kill(Adopted& adopted) {
  adopted.killed = true;
  adopted.process.Kill(SIGKILL).IgnoreError();
}

void Orphans::Reap(pid_t pid) {
  const auto found = adopted_.find(pid);
  if (found == adopted_.end()) return;
  const auto status = found->second.process.TryReap();
  if (status.ok() && !*status) return;
  loop_.Forget(found->second.process.pidfd());
  adopted_.erase(found);
  Look();  // what it has started itself is ours from now on
}

}  // namespace baton::runtime
