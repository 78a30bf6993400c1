#include "tools/gpu_check/gap_client.h"

#include <algorithm>
#include <span>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

#include "tools/gpu_check/samples.h"

namespace baton::gpu_check {
namespace {

constexpr uint32_t kAnswerBytes = 64;
// Longer than any reload: a request that waits for one is answered, not failed.
constexpr absl::Duration kCallLimit = absl::Minutes(2);

}  // namespace

GapClient::GapClient(Channel channel) : channel_(std::move(channel)), thread_([this] { Run(); }) {}

GapClient::~GapClient() {
  stop_.store(true);
  thread_.join();
}

absl::Status GapClient::CallOnce() {
  absl::StatusOr<Request> request = channel_.NewRequest();
  if (!request.ok()) return request.status();
  request->input<uint32_t>(0)[0] = kAnswerBytes;
  const absl::StatusOr<Response> response =
      channel_.Call(*std::move(request), {.timeout = kCallLimit});
  if (!response.ok()) return response.status();
  const std::span<const uint8_t> data = response->output<uint8_t>(0);
  if (data.size() != kAnswerBytes || data.back() != kAnswerBytes - 1) {
    return absl::DataLossError("an answer was not what the model gives");
  }
  generation_.store(response->generation());
  return absl::OkStatus();
}

void GapClient::Run() {
  auto last = Stopwatch::Clock::now();
  while (!stop_.load()) {
    if (absl::Status status = CallOnce(); !status.ok()) {
      const std::lock_guard lock(mutex_);
      status_ = std::move(status);
      return;
    }
    const auto now = Stopwatch::Clock::now();
    // Written here alone, but for Reset between two reloads.
    longest_ns_.store(
        std::max(longest_ns_.load(), std::chrono::duration<double, std::nano>(now - last).count()));
    last = now;
    answered_.fetch_add(1);
  }
}

absl::Status GapClient::status() const {
  const std::lock_guard lock(mutex_);
  return status_;
}

absl::Status GapClient::AwaitGeneration(uint64_t generation, absl::Duration timeout) const {
  const absl::Time deadline = absl::Now() + timeout;
  while (generation_.load() != generation) {
    if (absl::Status failed = status(); !failed.ok()) return failed;
    if (absl::Now() > deadline) {
      return absl::DeadlineExceededError(absl::StrCat("no answer of generation ", generation,
                                                      " within ", absl::FormatDuration(timeout),
                                                      " after the reload to it"));
    }
    absl::SleepFor(absl::Microseconds(100));
  }
  return absl::OkStatus();
}

}  // namespace baton::gpu_check
