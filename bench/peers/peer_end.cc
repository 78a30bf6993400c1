#include "bench/peers/peer_end.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <new>
#include <string_view>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"

#include "bench/peers/peer_kinds.h"
#include "bench/ping_pong.h"
#include "ipc/futex.h"

namespace baton::bench {
namespace {

constexpr std::string_view kEndFlag = "--peer_end=";
constexpr int kPageFd = 3;
constexpr int kHandedFd = 4;
constexpr absl::Duration kStartTimeout = absl::Seconds(60);
constexpr absl::Duration kStopTimeout = absl::Seconds(10);

// The arguments after kEndFlag, in this order.
enum Argument { kKind = 1, kCpu, kBytes, kMode, kRendezvous, kShared, kHasFd, kParent, kCount };

void WaitOn(const std::atomic<uint32_t>& word, uint32_t expected) {
  const ipc::FutexWord one{.word = &word, .expected = expected};
  ipc::FutexWaitAny({&one, 1}, ipc::MonotonicNs() + 100'000'000);
}

absl::Status Serve(char** argv) {
  if (absl::Status status = ipc::DieWithParent(std::atoi(argv[kParent])); !status.ok()) {
    return status;
  }
  const PeerKind* const kind = FindPeerKind(argv[kKind] + kEndFlag.size());
  if (kind == nullptr) return absl::NotFoundError(absl::StrCat("no peer: ", argv[kKind]));
  // Before any library starts threads: they inherit it.
  if (!PinThisThread(std::atoi(argv[kCpu]))) std::fputs("cannot pin the other end\n", stderr);
  absl::StatusOr<ipc::Segment> segment = ipc::Segment::Map(
      kPageFd, std::strtoull(argv[kShared], nullptr, 10), ipc::SegmentAccess::kReadWrite);
  if (!segment.ok()) return segment.status();
  const PeerSetup setup{.bytes = std::strtoull(argv[kBytes], nullptr, 10),
                        .mode = argv[kMode] == ToString(PayloadMode::kProduced)
                                    ? PayloadMode::kProduced
                                    : PayloadMode::kInPlace,
                        .rendezvous = argv[kRendezvous]};
  EndSide side(setup, *std::move(segment), std::atoi(argv[kHasFd]) != 0 ? kHandedFd : -1);
  return kind->serve(side);
}

}  // namespace

absl::StatusOr<std::unique_ptr<PeerEnd>> PeerEnd::Start(const Options& options) {
  std::unique_ptr<PeerEnd> end(new PeerEnd());
  end->kind_ = options.kind;
  const uint64_t shared = sizeof(EndPage) + options.payload_bytes;
  absl::StatusOr<ipc::SegmentHandles> handles =
      ipc::CreateSegment({.bytes = shared, .backing = ipc::SegmentBacking::kMemfd});
  if (!handles.ok()) return handles.status();
  absl::StatusOr<ipc::Segment> segment =
      ipc::Segment::Map(handles->read_write.get(), shared, ipc::SegmentAccess::kReadWrite);
  if (!segment.ok()) return segment.status();
  end->segment_ = *std::move(segment);
  new (end->segment_.data()) EndPage{};

  std::error_code error;
  ipc::SpawnOptions spawn;
  spawn.executable = std::filesystem::read_symlink("/proc/self/exe", error).string();
  spawn.args = {absl::StrCat(std::string(kEndFlag), options.kind),
                absl::StrCat(options.cpu),
                absl::StrCat(options.setup.bytes),
                ToString(options.setup.mode),
                options.setup.rendezvous,
                absl::StrCat(shared),
                options.fd >= 0 ? "1" : "0",
                absl::StrCat(::getpid())};
  // What it prints is not for who reads this program's JSON.
  const ipc::UniqueFd nowhere(::open("/dev/null", O_WRONLY | O_CLOEXEC));
  spawn.fds = {{handles->read_write.get(), kPageFd}, {nowhere.get(), 1}};
  if (options.fd >= 0) spawn.fds.emplace_back(options.fd, kHandedFd);
  absl::StatusOr<ipc::ChildProcess> process = ipc::SpawnProcess(spawn);
  if (!process.ok()) return process.status();
  end->process_ = *std::move(process);
  end->stops_itself_ = options.stops_itself;
  if (absl::Status status = end->AwaitReady(); !status.ok()) return status;
  return end;
}

absl::Status PeerEnd::AwaitReady() {
  const int64_t deadline = ipc::MonotonicNs() + absl::ToInt64Nanoseconds(kStartTimeout);
  // SYNC: end_ready
  while (page().ready.load(std::memory_order_acquire) == 0) {
    if (!alive()) return Gone();
    if (ipc::MonotonicNs() > deadline) {
      return absl::DeadlineExceededError(absl::StrCat(
          "the other end of ", kind_, " is not ready after ", absl::FormatDuration(kStartTimeout)));
    }
    WaitOn(page().ready, 0);
  }
  return absl::OkStatus();
}

PeerEnd::~PeerEnd() {
  if (!segment_.mapped() || !stops_itself_) return;  // ~ChildProcess kills it
  page().stop.store(1, std::memory_order_release);
  ipc::FutexWakeAll(&page().stop);
  Resume();
  static_cast<void>(process_.Reap(kStopTimeout));
}

bool PeerEnd::alive() {
  const auto end = process_.TryReap();
  return end.ok() && !end->has_value();
}

absl::Status PeerEnd::Gone() {
  const auto end = process_.TryReap();
  return absl::UnavailableError(absl::StrCat("the other end of ", kind_, " ",
                                             end.ok() && *end ? ToString(**end) : "is lost",
                                             "; what it says is above"));
}

void PeerEnd::Resume() {
  page().running.store(1, std::memory_order_release);
  ipc::FutexWakeAll(&page().running);
}

void PeerEnd::Pause() { page().running.store(0, std::memory_order_release); }

void EndSide::Ready() {
  // SYNC: end_ready
  page().ready.store(1, std::memory_order_release);
  ipc::FutexWakeAll(&page().ready);
}

void EndSide::SleepWhilePaused() {
  while (page().running.load(std::memory_order_acquire) == 0) WaitOn(page().running, 0);
}

bool RanAsPeerEnd(int argc, char** argv, int* exit_code) {
  if (argc != kCount || !std::string_view(argv[kKind]).starts_with(kEndFlag)) return false;
  const absl::Status status = Serve(argv);
  if (!status.ok()) std::fprintf(stderr, "%s: %s\n", argv[kKind], status.ToString().c_str());
  *exit_code = status.ok() ? 0 : 1;
  return true;
}

}  // namespace baton::bench
