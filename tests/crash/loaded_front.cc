// A service under load, for the crash tests: keeps requests in flight against an echo model, checks
// that each ends exactly once and with its own payload, and keeps a tally where the test sees it.
//
//   loaded_front RUN_DIRECTORY SERVER TALLY_FILE [IN_FLIGHT [TIMEOUT_MS]]
//
// With TIMEOUT_MS requests may expire, and one that is not accepted is tried again.
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

#include "absl/time/clock.h"

#include "baton/front.h"

namespace baton::testing {
namespace {

constexpr int64_t kWords = 8;

struct LoadOptions {
  size_t in_flight = 8;
  absl::Duration timeout = absl::Minutes(2);
  bool may_expire = false;
};

class LoadedFront {
 public:
  LoadedFront(const Front& front, Channel channel, FrontTally& tally, const LoadOptions& options)
      : front_(front), channel_(std::move(channel)), tally_(tally), options_(options) {}

  int Run() {
    const uint64_t request_bytes = channel_.free_request_bytes();
    const uint64_t response_bytes = channel_.free_response_bytes();
    while ((tally_.stop.load() == 0 && !server_gone_) || !expected_.empty()) {
      bool accepted = tally_.stop.load() == 0 && !server_gone_;
      while (accepted && expected_.size() < options_.in_flight) accepted = SubmitOne();
      std::optional<Outcome> outcome =
          channel_.Wait(options_.may_expire ? absl::Milliseconds(10) : absl::Seconds(1));
      if (outcome) Check(*outcome);
    }
    const auto whole = [&] {
      return channel_.free_request_bytes() == request_bytes &&
             channel_.free_response_bytes() == response_bytes;
    };
    // What has expired gives its blocks back when the worker says that it is done with them.
    const absl::Time patience = absl::Now() + absl::Minutes(1);
    while (options_.may_expire && !server_gone_ && !whole() && absl::Now() < patience) {
      if (channel_.Wait(absl::Milliseconds(10))) tally_.wrong.fetch_add(1);
      server_gone_ = front_.state() == "GONE";
    }
    // A server that is gone gives nothing back, and need not: the memory goes with the channel.
    if (!whole() && !server_gone_) tally_.leaked_blocks.store(1);
    tally_.finished.store(1);
    return 0;
  }

 private:
  bool SubmitOne() {
    absl::StatusOr<Request> request = channel_.NewRequest({{"data", DType::kUInt8, {kWords * 8}}});
    if (!request.ok()) return NotAccepted(request.status());
    // No two requests of all fronts are alike.
    const uint64_t value = static_cast<uint64_t>(::getpid()) << 32 | next_++;
    for (int64_t i = 0; i < kWords; ++i) {
      std::memcpy(request->input_bytes(0).data() + i * 8, &value, 8);
    }
    absl::StatusOr<Ticket> ticket =
        channel_.Submit(*std::move(request), {.timeout = options_.timeout});
    if (!ticket.ok()) return NotAccepted(ticket.status());
    if (!expected_.emplace(ticket->id, value).second) tally_.wrong.fetch_add(1);
    tally_.submitted.fetch_add(1);
    return true;
  }

  bool NotAccepted(const absl::Status& status) {
    // What has expired lies in the ring until a worker takes it.
    if (options_.may_expire && absl::IsResourceExhausted(status)) return false;
    if (absl::IsUnavailable(status)) {
      // Nothing says so before it shows in the state.
      server_gone_ = front_.state() == "GONE";
      if (server_gone_ || options_.may_expire) return false;
    }
    std::fprintf(stderr, "loaded_front: %s\n", status.ToString().c_str());
    tally_.other.fetch_add(1);
    server_gone_ = true;
    return false;
  }

  void Check(const Outcome& outcome) {
    const auto found = expected_.find(outcome.ticket.id);
    if (found == expected_.end()) {
      tally_.wrong.fetch_add(1);
      return;
    }
    const uint64_t value = found->second;
    expected_.erase(found);
    if (!outcome.response.ok()) {
      CountError(outcome.response.status());
      return;
    }
    const std::span<const uint8_t> answer = outcome.response->output<uint8_t>(0);
    const uint64_t generation = outcome.response->generation();
    bool right = answer.size() == kWords * 8 && generation >= tally_.last_generation.load();
    for (int64_t i = 0; right && i < kWords; ++i) {
      right = std::memcmp(answer.data() + i * 8, &value, 8) == 0;
    }
    tally_.last_generation.store(generation);
    (right ? tally_.answered : tally_.wrong).fetch_add(1);
  }

  void CountError(const absl::Status& status) {
    if (absl::IsAborted(status)) {
      tally_.aborted.fetch_add(1);
    } else if (absl::IsUnavailable(status)) {
      tally_.unavailable.fetch_add(1);
    } else if (absl::IsDeadlineExceeded(status)) {
      tally_.expired.fetch_add(1);
    } else {
      std::fprintf(stderr, "loaded_front: %s\n", status.ToString().c_str());
      tally_.other.fetch_add(1);
    }
  }

  const Front& front_;
  Channel channel_;
  FrontTally& tally_;
  const LoadOptions options_;
  std::map<uint64_t, uint64_t> expected_;  // payload by ticket
  uint32_t next_ = 1;
  bool server_gone_ = false;
};

int Main(int argc, char** argv) {
  if (argc < 4) return 2;
  const int file = ::open(argv[3], O_RDWR | O_CLOEXEC);
  void* memory = ::mmap(nullptr, sizeof(FrontTally), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (memory == MAP_FAILED) return 2;
  ::close(file);
  auto& tally = *static_cast<FrontTally*>(memory);
  absl::StatusOr<std::unique_ptr<Front>> front =
      Front::Attach(argv[2], {.run_directory = argv[1], .import_device = true});
  if (!front.ok()) {
    std::fprintf(stderr, "loaded_front: %s\n", front.status().ToString().c_str());
    return absl::IsUnavailable(front.status()) ? 0 : 1;
  }
  absl::StatusOr<Channel> channel = (*front)->OpenChannel(
      {.ring_entries = 64, .request_arena_bytes = 1 << 20, .response_arena_bytes = 1 << 22});
  if (!channel.ok()) {
    std::fprintf(stderr, "loaded_front: %s\n", channel.status().ToString().c_str());
    return absl::IsUnavailable(channel.status()) ? 0 : 1;
  }
  LoadOptions options;
  if (argc > 4) options.in_flight = static_cast<size_t>(std::atoi(argv[4]));
  if (argc > 5) {
    options.timeout = absl::Milliseconds(std::atoi(argv[5]));
    options.may_expire = true;
  }
  tally.attached.store(1);
  return LoadedFront(**front, *std::move(channel), tally, options).Run();
}

}  // namespace
}  // namespace baton::testing

int main(int argc, char** argv) { return baton::testing::Main(argc, argv); }
