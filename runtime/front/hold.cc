#include "runtime/front/hold.h"

#include <algorithm>
#include <string>

#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

#include "baton/retry_after.h"

namespace baton {

std::optional<absl::Duration> RetryAfter(const absl::Status& status) {
  const auto payload = status.GetPayload(kRetryAfterPayload);
  int64_t ms = 0;
  if (!payload || !absl::SimpleAtoi(std::string(*payload), &ms) || ms < 0) return std::nullopt;
  return absl::Milliseconds(ms);
}

namespace internal {
namespace {

constexpr int64_t kNsPerMs = 1'000'000;

}  // namespace

std::optional<Hold> ReadHold(const ipc::StatusPage& page, int64_t now) {
  const auto state = static_cast<ipc::ServerState>(page.state.load(std::memory_order_acquire));
  if (state < ipc::ServerState::kHolding || state > ipc::ServerState::kRemapping) {
    return std::nullopt;
  }
  const int64_t started = page.hold_started_ns.load(std::memory_order_acquire);
  const int64_t gap = page.expected_gap_ns.load(std::memory_order_acquire);
  int64_t until;
  if (started <= 0 || gap <= 0 || __builtin_add_overflow(started, gap, &until) || until <= now) {
    return std::nullopt;
  }
  return Hold{.state = state, .until_ns = until};
}

void SetRetryAfter(absl::Status& status, int64_t ns) {
  const int64_t ms = std::max<int64_t>(ns, 0) / kNsPerMs + 1;
  status.SetPayload(kRetryAfterPayload, absl::Cord(absl::StrCat(ms)));
}

absl::Status NotBeforeTheHoldEnds(std::string_view server, const Hold& hold, int64_t now) {
  const int64_t left = hold.until_ns - now;
  absl::Status status = absl::UnavailableError(absl::StrCat(
      "server '", std::string(server), "' is reloading (",
      std::string(ipc::ServerStateName(hold.state)), "), expected to serve again in ",
      left / kNsPerMs + 1, " ms, after this request's deadline; it was not started: retry then"));
  SetRetryAfter(status, left);
  return status;
}

}  // namespace internal
}  // namespace baton
