// A service under load, for the crash tests: keeps requests in flight against an echo model, checks
// that each ends exactly once and with its own payload, and keeps a tally where the test sees it.
//
//   loaded_front RUN_DIRECTORY SERVER TALLY_FILE [IN_FLIGHT]
#include "tests/crash/loaded_front.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <optional>
#include <string>

#include "baton/front.h"

namespace baton::testing {
namespace {

constexpr int64_t kBytes = 64;

class LoadedFront {
 public:
  LoadedFront(Channel channel, FrontTally& tally, size_t in_flight)
      : channel_(std::move(channel)), tally_(tally), in_flight_(in_flight) {}

  int Run() {
    const uint64_t request_bytes = channel_.free_request_bytes();
    const uint64_t response_bytes = channel_.free_response_bytes();
    bool submitting = true;
    while (submitting || !expected_.empty()) {
      submitting = submitting && tally_.stop.load() == 0;
      while (submitting && expected_.size() < in_flight_) submitting = SubmitOne();
      std::optional<Outcome> outcome = channel_.Wait(absl::Seconds(1));
      if (outcome) Check(*outcome);
    }
    const bool whole = channel_.free_request_bytes() == request_bytes &&
                       channel_.free_response_bytes() == response_bytes;
    // A server that is gone gives nothing back, and need not: the memory goes with the channel.
    if (!whole && !server_gone_) tally_.leaked_blocks.store(1);
    tally_.finished.store(1);
    return 0;
  }

 private:
  bool SubmitOne() {
    absl::StatusOr<Request> request = channel_.NewRequest({{"data", DType::kUInt8, {kBytes}}});
    if (!request.ok()) return GiveUp(request.status());
    const uint8_t value = next_++;
    std::memset(request->input_bytes(0).data(), value, kBytes);
    absl::StatusOr<Ticket> ticket =
        channel_.Submit(*std::move(request), {.timeout = absl::Minutes(2)});
    if (!ticket.ok()) return GiveUp(ticket.status());
    if (!expected_.emplace(ticket->id, value).second) tally_.wrong.fetch_add(1);
    tally_.submitted.fetch_add(1);
    return true;
  }

  bool GiveUp(const absl::Status& status) {
    if (!absl::IsUnavailable(status)) {
      std::fprintf(stderr, "loaded_front: %s\n", status.ToString().c_str());
      tally_.other.fetch_add(1);
    }
    server_gone_ = true;
    return false;
  }

  void Check(const Outcome& outcome) {
    const auto found = expected_.find(outcome.ticket.id);
    if (found == expected_.end()) {
      tally_.wrong.fetch_add(1);
      return;
    }
    const uint8_t value = found->second;
    expected_.erase(found);
    if (!outcome.response.ok()) {
      CountError(outcome.response.status());
      return;
    }
    const std::span<const uint8_t> answer = outcome.response->output<uint8_t>(0);
    const uint64_t generation = outcome.response->generation();
    bool right = answer.size() == kBytes && generation >= tally_.last_generation.load();
    for (const uint8_t byte : answer) right = right && byte == value;
    tally_.last_generation.store(generation);
    (right ? tally_.answered : tally_.wrong).fetch_add(1);
  }

  void CountError(const absl::Status& status) {
    if (absl::IsAborted(status)) {
      tally_.aborted.fetch_add(1);
    } else if (absl::IsUnavailable(status)) {
      tally_.unavailable.fetch_add(1);
    } else {
      std::fprintf(stderr, "loaded_front: %s\n", status.ToString().c_str());
      tally_.other.fetch_add(1);
    }
  }

  Channel channel_;
  FrontTally& tally_;
  const size_t in_flight_;
  std::map<uint64_t, uint8_t> expected_;
  uint8_t next_ = 1;
  bool server_gone_ = false;
};

int Main(int argc, char** argv) {
  if (argc < 4) return 2;
  const int file = ::open(argv[3], O_RDWR | O_CLOEXEC);
  void* memory = ::mmap(nullptr, sizeof(FrontTally), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (memory == MAP_FAILED) return 2;
  auto& tally = *static_cast<FrontTally*>(memory);
  absl::StatusOr<std::unique_ptr<Front>> front =
      Front::Attach(argv[2], {.run_directory = argv[1], .import_device = true});
  if (!front.ok()) {
    std::fprintf(stderr, "loaded_front: %s\n", front.status().ToString().c_str());
    return absl::IsUnavailable(front.status()) ? 0 : 1;
  }
  absl::StatusOr<Channel> channel = (*front)->OpenChannel(
      {.ring_entries = 64, .request_arena_bytes = 1 << 20, .response_arena_bytes = 1 << 20});
  if (!channel.ok()) {
    std::fprintf(stderr, "loaded_front: %s\n", channel.status().ToString().c_str());
    return absl::IsUnavailable(channel.status()) ? 0 : 1;
  }
  tally.attached.store(1);
  return LoadedFront(*std::move(channel), tally, argc > 4 ? std::atoi(argv[4]) : 8).Run();
}

}  // namespace
}  // namespace baton::testing

int main(int argc, char** argv) { return baton::testing::Main(argc, argv); }
