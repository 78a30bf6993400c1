// A service in a soak: two channels with several requests in flight each, every one with a payload
// of its own, and a check of all that comes back.
//
//   soak_front RUN_DIRECTORY SERVER TALLY_FILE NUMBER
#include "tests/stress/soak_front.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "absl/time/clock.h"

#include "baton/front.h"

namespace baton::testing {
namespace {

constexpr size_t kWords = 64;  // of 8 bytes: one payload
constexpr size_t kInFlight = 4;
constexpr absl::Duration kDeadline = absl::Minutes(2);
using Payload = std::array<uint64_t, kWords>;

// No two requests of a soak have a word in common, but by chance.
Payload PayloadOf(uint64_t channel, uint64_t number) {
  Payload payload;
  uint64_t state = channel << 48 | number;
  payload[0] = state;
  for (size_t i = 1; i < kWords; ++i) {
    state += 0x9e3779b97f4a7c15;  // splitmix64
    uint64_t mixed = (state ^ (state >> 30)) * 0xbf58476d1ce4e5b9;
    mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111eb;
    payload[i] = mixed ^ (mixed >> 31);
  }
  return payload;
}

class SoakChannel {
 public:
  SoakChannel(Channel channel, SoakTally& tally, size_t index, uint64_t id)
      : channel_(std::move(channel)), all_(tally), tally_(tally.channels[index]), id_(id) {}

  void Run() {
    const uint64_t request_bytes = channel_.free_request_bytes();
    const uint64_t response_bytes = channel_.free_response_bytes();
    absl::Time give_up = absl::InfiniteFuture();
    bool accepted = true;
    while (absl::Now() < give_up) {
      // Each request is to be accepted: one that is not fails the soak, and none comes after it.
      while (accepted && all_.stop.load() == 0 && pending_.size() < kInFlight) {
        accepted = SubmitOne();
      }
      if (const bool ends = !accepted || all_.stop.load() != 0; ends) {
        if (pending_.empty()) break;
        give_up = std::min(give_up, absl::Now() + 2 * kDeadline);
      }
      if (std::optional<Outcome> outcome = channel_.Wait(absl::Seconds(1))) Check(*outcome);
      while (std::optional<Outcome> outcome = channel_.Poll()) Check(*outcome);
      // A service does something with its answers; and the machine has other work.
      ::poll(nullptr, 0, 1);
    }
    tally_.lost.fetch_add(pending_.size());
    if (channel_.free_request_bytes() != request_bytes ||
        channel_.free_response_bytes() != response_bytes) {
      all_.leaked_blocks.fetch_add(1);
    }
  }

 private:
  struct Pending {
    Ticket ticket;
    uint64_t number;
  };

  void Fail(const absl::Status& status) {
    tally_.failed.fetch_add(1);
    if (all_.has_error.exchange(1) != 0) return;
    std::snprintf(all_.first_error, sizeof(all_.first_error), "%s", status.ToString().c_str());
  }

  bool SubmitOne() {
    tally_.submitted.fetch_add(1);
    absl::StatusOr<Request> request =
        channel_.NewRequest({{"data", DType::kUInt8, {sizeof(Payload)}}});
    if (!request.ok()) {
      Fail(request.status());
      return false;
    }
    const Payload payload = PayloadOf(id_, next_);
    std::memcpy(request->input_bytes(0).data(), payload.data(), sizeof(payload));
    absl::StatusOr<Ticket> ticket = channel_.Submit(*std::move(request), {.timeout = kDeadline});
    if (!ticket.ok()) {
      Fail(ticket.status());
      return false;
    }
    pending_.push_back({*ticket, next_++});
    return true;
  }

  void Check(const Outcome& outcome) {
    const auto found = std::find_if(pending_.begin(), pending_.end(), [&](const Pending& pending) {
      return pending.ticket == outcome.ticket;
    });
    if (found == pending_.end()) {
      tally_.duplicated.fetch_add(1);
      return;
    }
    if (found != pending_.begin()) tally_.reordered.fetch_add(1);
    const uint64_t number = found->number;
    pending_.erase(found);
    if (!outcome.response.ok()) return Fail(outcome.response.status());
    const Response& response = *outcome.response;
    NoteGeneration(response.generation());
    const Payload expected = PayloadOf(id_, number);
    const std::span<const uint8_t> answer = response.output<uint8_t>(0);
    const bool right = answer.size() == sizeof(expected) &&
                       std::memcmp(answer.data(), expected.data(), sizeof(expected)) == 0;
    (right && ValueFits(response) ? tally_.answered : tally_.wrong).fetch_add(1);
  }

  void NoteGeneration(uint64_t generation) {
    const absl::Time now = absl::Now();
    const uint64_t last = tally_.last_generation.load();
    if (generation < last) tally_.went_back.fetch_add(1);
    if (generation > last && generation < kMaxSoakGenerations) {
      if (last != 0) {
        const int64_t gap = std::max<int64_t>(absl::ToInt64Nanoseconds(now - last_answer_), 1);
        tally_.gap_ns[generation].store(static_cast<uint64_t>(gap));
      }
      tally_.last_generation.store(generation);
    }
    last_answer_ = now;
  }

  // A generation has one secret, and every answer of it says so.
  bool ValueFits(const Response& response) {
    const std::span<const uint8_t> bytes = response.output<uint8_t>(1);
    const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    uint32_t number = 0;
    if (!text.starts_with(kSoakValue)) return false;
    const std::string_view digits = text.substr(sizeof(kSoakValue) - 1);
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
    if (error != std::errc() || end != digits.data() + digits.size() || number == 0) return false;
    if (response.generation() >= kMaxSoakGenerations) return false;
    const uint32_t before = tally_.value[response.generation()].exchange(number);
    return before == 0 || before == number;
  }

  Channel channel_;
  SoakTally& all_;
  SoakChannelTally& tally_;
  const uint64_t id_;
  std::deque<Pending> pending_;
  uint64_t next_ = 1;
  absl::Time last_answer_;
};

int Main(int argc, char** argv) {
  if (argc < 5) return 2;
  const int file = ::open(argv[3], O_RDWR | O_CLOEXEC);
  void* memory = ::mmap(nullptr, sizeof(SoakTally), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (memory == MAP_FAILED) return 2;
  auto& tally = *static_cast<SoakTally*>(memory);
  absl::StatusOr<std::unique_ptr<Front>> front =
      Front::Attach(argv[2], {.run_directory = argv[1], .import_device = true});
  if (!front.ok()) {
    std::fprintf(stderr, "soak_front: %s\n", front.status().ToString().c_str());
    return 1;
  }
  std::vector<std::thread> threads;
  const auto number = static_cast<uint64_t>(std::atoi(argv[4]));
  for (size_t i = 0; i < kSoakChannels; ++i) {
    absl::StatusOr<Channel> channel = (*front)->OpenChannel(
        {.ring_entries = 16, .request_arena_bytes = 1 << 20, .response_arena_bytes = 1 << 20});
    if (!channel.ok()) {
      std::fprintf(stderr, "soak_front: %s\n", channel.status().ToString().c_str());
      tally.stop.store(1);
      break;
    }
    threads.emplace_back(
        [&tally, i, id = number * kSoakChannels + i + 1, opened = *std::move(channel)]() mutable {
          SoakChannel(std::move(opened), tally, i, id).Run();
        });
    tally.attached.fetch_add(1);
  }
  for (std::thread& thread : threads) thread.join();
  return threads.size() == kSoakChannels ? 0 : 1;
}

}  // namespace
}  // namespace baton::testing

int main(int argc, char** argv) { return baton::testing::Main(argc, argv); }
