// FaultCell: what has to hold afterwards, whatever the cell.
#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "tests/crash/fault_cell.h"

namespace baton::testing {

namespace {

absl::Status Wrong(const std::string& what) { return absl::InternalError(what); }

}  // namespace

// Where the machine is busy a timeout may pass that is short for the cell's sake. No other failure
// is excused: it would be of the cell's making.
bool FaultCell::IsExcused(const ControlClient::Reloaded& reloaded) const {
  return std::any_of(plan_.timeouts.begin(), plan_.timeouts.end(), [&](const std::string& name) {
    return absl::StrContains(reloaded.reason, name) ||
           absl::StrContains(reloaded.status.message(), name);
  });
}

absl::Status FaultCell::CheckOneGeneration() {
  if (observer_ == nullptr) return absl::OkStatus();
  observer_->Stop();
  const uint64_t bytes = observer_->peak_bytes();
  const size_t arenas = observer_->peak_arenas();
  const uint64_t samples = observer_->samples();
  observer_.reset();
  if (arenas == 1 && bytes >= kWeightsBytes && samples > looks_at_deed_) {
    return absl::OkStatus();
  }
  return Wrong(absl::StrCat(arenas, " arenas with ", bytes, " bytes at one time, ", samples,
                            " looks, ", looks_at_deed_, " of them before the deed"));
}

// With the same fronts attached as before.
absl::Status FaultCell::CheckNothingGrew() {
  const auto alive = [&] {
    return std::count_if(fronts_.begin(), fronts_.end(), [](const Load& f) { return !f.dead; });
  };
  while (alive() < 2) {
    if (absl::Status status = StartFront(); !status.ok()) return status;
  }
  if (!WaitFor([&] { return OpenDescriptors(server_->pid()) <= server_descriptors_; })) {
    return Wrong(absl::StrCat("the supervisor has ", OpenDescriptors(server_->pid()),
                              " descriptors, and had ", server_descriptors_));
  }
  for (const Load& front : fronts_) {
    const pid_t pid = front.process->pid();
    if (front.dead || front.descriptors == 0) continue;
    if (!WaitFor([&] { return OpenDescriptors(pid) <= front.descriptors; })) {
      return Wrong(absl::StrCat("a front has ", OpenDescriptors(pid), " descriptors, and had ",
                                front.descriptors));
    }
  }
  if (!WaitFor([&] { return MarkedProcesses(mark_).size() <= processes_; })) {
    return Wrong(
        absl::StrCat(MarkedProcesses(mark_).size(), " processes run, and ", processes_, " ran"));
  }
  for (const pid_t pid : pids_) {
    if (!WaitFor([&] { return ZombiesOf(pid).empty(); })) {
      return Wrong(absl::StrCat("process ", pid, " has a zombie"));
    }
  }
  return absl::OkStatus();
}

absl::Status FaultCell::EndFronts() {
  for (Load& front : fronts_) {
    if (front.dead) continue;
    front.process->tally().stop.store(1);
    if (absl::Status status = CheckTally(front); !status.ok()) return status;
    front.dead = true;
  }
  const auto most = static_cast<uint64_t>(plan_.workers_lost);
  if (aborted_ <= most) return absl::OkStatus();
  return Wrong(absl::StrCat(aborted_, " requests were aborted, and ", most, " may be"));
}

// R2: of a front that ends now.
absl::Status FaultCell::CheckTally(Load& front) {
  const auto ended = front.process->process().Reap(absl::Minutes(2));
  if (!ended.ok()) return ended.status();
  if (!ended->clean()) return Wrong(absl::StrCat("a front ended: ", ipc::ToString(*ended)));
  const FrontTally& tally = front.process->tally();
  const std::string counts =
      absl::StrCat(tally.submitted.load(), " submitted: ", tally.answered.load(), " answered, ",
                   tally.aborted.load(), " aborted, ", tally.unavailable.load(), " unavailable, ",
                   tally.expired.load(), " expired, ", tally.other.load(), " with other errors, ",
                   tally.wrong.load(), " wrong, ", tally.leaked_blocks.load(), " leaked");
  const bool hangs = cell_.target == Target::kSupervisor && cell_.fault == Fault::kHang;
  if (tally.submitted.load() != tally.ended() || tally.wrong.load() != 0 ||
      tally.other.load() != 0 || tally.leaked_blocks.load() != 0 || tally.finished.load() != 1 ||
      (tally.unavailable.load() != 0 && !front.cut_off && !hangs) ||
      (tally.expired.load() != 0 && !hangs)) {
    return Wrong(counts);
  }
  if (!front.cut_off) aborted_ += tally.aborted.load();
  expired_ += tally.expired.load();
  return absl::OkStatus();
}

absl::Status FaultCell::CheckNothingLeft() {
  if (server_ != nullptr) {
    const auto stopped = server_->Stop();
    if (!stopped.ok()) return stopped.status();
    if (!stopped->clean()) return Wrong(absl::StrCat("the server ", ipc::ToString(*stopped)));
  }
  if (!WaitFor([&] { return MarkedProcesses(mark_).empty(); })) {
    return Wrong(absl::StrCat(MarkedProcesses(mark_).size(), " processes are left"));
  }
  if (Zombies() != 0) return Wrong("a zombie is left");
  const std::vector<std::string> names = SharedMemoryNamesOf(pids_);
  if (names.empty()) return absl::OkStatus();
  return Wrong(absl::StrCat(names.front(), " is left in /dev/shm"));
}

}  // namespace baton::testing
