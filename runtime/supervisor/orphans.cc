#include "runtime/supervisor/orphans.h"

#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <fstream>
#include <iterator>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"

namespace baton::runtime {

namespace {

constexpr char kTag[] = "BATON_WORKER=";
// Descriptors for so many at a time; more are found when these have gone.
constexpr size_t kMaxAdopted = 256;
constexpr absl::Duration kDying = absl::Seconds(1);
// A tree of processes comes to us a generation of it at a time.
constexpr int kRounds = 64;

// The generation that a process is of, by the environment that it was started with; 0: it does not
// say.
uint64_t GenerationOf(pid_t pid) {
  std::ifstream file(absl::StrCat("/proc/", pid, "/environ"), std::ios::binary);
  const std::string environ{std::istreambuf_iterator<char>(file), {}};
  const std::string tag = absl::StrCat(kTag, ::getpid(), "/");
  for (size_t at = 0; at < environ.size();) {
    const size_t end = std::min(environ.find('\0', at), environ.size());
    const std::string_view variable(environ.data() + at, end - at);
    uint64_t generation = 0;
    if (variable.starts_with(tag) &&
        absl::SimpleAtoi(std::string(variable.substr(tag.size())), &generation)) {
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
    if (adopted_.empty()) return;
    for (auto& [pid, adopted] : adopted_) Kill(adopted);
    for (auto& [pid, adopted] : adopted_) {
      loop_.Forget(adopted.process.pidfd());
      if (adopted.process.Reap(kDying).ok()) continue;
      adopted.process.Release();  // it hangs in the kernel
      foreign_.insert(pid);
    }
    adopted_.clear();
  }
}

void Orphans::Look(bool a_worker_ended) {
  if (!begun_) return;
  Find();
  for (auto& [pid, adopted] : adopted_) {
    if (adopted.killed) continue;
    if (adopted.generation == 0 ? !a_worker_ended : owner_.lives(adopted.generation)) continue;
    log_->info(
        "killing process {}, which {} has left behind", pid,
        adopted.generation == 0 ? "a worker" : absl::StrCat("generation ", adopted.generation));
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
  const bool killed = found->second.killed;
  loop_.Forget(found->second.process.pidfd());
  adopted_.erase(found);
  Look(killed);  // what it has started itself is ours from now on
}

}  // namespace baton::runtime
