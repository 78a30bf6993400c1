// SupervisorCore: whether a generation's device memory is gone. The helper is
// asked, and nobody waits for it.
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/time.h"

#include "ipc/futex.h"
#include "runtime/supervisor/supervisor_core.h"

namespace baton::runtime {

namespace {

constexpr int64_t kNsPerMs = 1'000'000;
// Twice in a row; first every millisecond, later less often.
constexpr int kFreedInARow = 2;
constexpr int kEagerAsks = 100;
constexpr int64_t kEagerAskNs = kNsPerMs;
constexpr int64_t kPatientAskNs = 20 * kNsPerMs;
// How often a generation that was overridden is asked about: its memory may still come back.
constexpr int64_t kOverriddenAskNs = 1000 * kNsPerMs;
// When, and how often, /proc is searched for the process that pins an arena; and how long not
// after a search that was not answered.
constexpr int64_t kFirstNameNs = 100 * kNsPerMs;
constexpr int64_t kNameHolderNs = 500 * kNsPerMs;
constexpr int64_t kNameLostNs = 10'000 * kNsPerMs;

}  // namespace

void SupervisorCore::Confirm(uint64_t generation) {
  helper_.Forget();  // what was asked before this is no answer to it
  confirming_ = generation;
  freed_in_a_row_ = asks_ = 0;
  verdict_ = {};
  next_name_ns_ = ipc::MonotonicNs() + kFirstNameNs;
  next_ask_ns_ = 1;  // now
}

void SupervisorCore::AskForConfirmation(int64_t now_ns) {
  const bool name_holders = now_ns >= next_name_ns_;
  const bool busy = helper_.state() != ConfirmHelper::State::kIdle;
  if (!ledger_.Watches(confirming_)) {
    next_ask_ns_ = now_ns + kEagerAskNs;
    Answered({.generation = confirming_, .token = ""},
             {.freed = true,
              .text = "freed",
              .source = "no arena was exported; its owner was reaped",
              .detail = "",
              .holders = {}});
    return;
  }
  if (const std::string why = ledger_.Unwatched(confirming_); !why.empty()) {
    next_ask_ns_ = now_ns + kPatientAskNs;
    NotFreed({.generation = confirming_, .token = ""},
             {.source = "", .detail = "its arena cannot be watched: " + why, .holders = {}});
    return;
  }
  if (busy) {
    next_ask_ns_ = now_ns + kPatientAskNs;
    if (!helper_.why_absent().empty()) {
      NotFreed({.generation = confirming_, .token = ""},
               {.source = "", .detail = helper_.why_absent(), .holders = {}});
    }
    return;  // else it has another question; it will be asked after that
  }
  // Counted from the question: the answer takes nothing off the pace.
  next_ask_ns_ = now_ns + (++asks_ < kEagerAsks ? kEagerAskNs : kPatientAskNs);
  if (name_holders) next_name_ns_ = now_ns + kNameHolderNs;
  helper_.Ask(*Question(confirming_, name_holders), config_.reload.helper_timeout, now_ns);
}

// One at a time, in turn.
void SupervisorCore::AskForOverridden(int64_t now_ns) {
  next_overridden_ask_ns_ = now_ns + kOverriddenAskNs;  // a deadline that stays past spins
  if (helper_.state() != ConfirmHelper::State::kIdle) return;
  auto next = overridden_.upper_bound(overridden_asked_);
  if (next == overridden_.end()) next = overridden_.begin();
  overridden_asked_ = *next;
  const auto question = Question(*next, /*name_holders=*/false);
  if (question) helper_.Ask(*question, config_.reload.helper_timeout, now_ns);
}

void SupervisorCore::Answered(const ConfirmQuestion& question, const DeviceVerdict& verdict) {
  const uint64_t generation = question.generation;
  ledger_.Answered(generation, verdict);
  if (generation == confirming_) {
    if (!verdict.freed) {
      NotFreed(question, verdict);
    } else if (++freed_in_a_row_ >= kFreedInARow) {
      Confirmed(generation, verdict);
    }
  } else if (overridden_.contains(generation) && verdict.freed) {
    log_->info("generation {}, whose memory was not confirmed freed, is now", generation);
    Freed(generation);
    overridden_.erase(generation);
  }
}

void SupervisorCore::NotFreed(const ConfirmQuestion& question, const DeviceVerdict& verdict) {
  freed_in_a_row_ = 0;
  orphans_.Look();  // those of orphans, too
  if (question.name_holders && !verdict.mapped) {
    next_name_ns_ = ipc::MonotonicNs() + kNameLostNs;  // the search may be what hangs
  }
  // A name stays until somebody looked for names again.
  const bool keep = verdict.mapped && !question.name_holders && !verdict_.holders.empty();
  if (!keep) verdict_ = verdict;
  if (machine_.unconfirmed()) last_verdict_ = verdict_.text;
  if (draft_ && !verdict_.holders.empty()) {
    draft_->holders = absl::StrCat("generation ", confirming_, "'s memory was mapped by pid ",
                                   absl::StrJoin(verdict_.holders, ", "));
  }
  Push(
      ReloadEvent::Kind::kNotConfirmed, confirming_,
      verdict_.detail.empty() ? verdict_.text : absl::StrCat(verdict_.text, ": ", verdict_.detail));
}

void SupervisorCore::Freed(uint64_t generation) {
  ledger_.Forget(generation);
  fronts_.ForgetImporters(generation);
}

void SupervisorCore::FillVerdict(const DeviceVerdict& verdict, ReceiptDraft& draft) {
  draft.verdict = verdict.text.empty() ? "unknown" : verdict.text;
  draft.verdict_source = verdict.source;
  draft.verdict_detail = verdict.detail;
  draft.verdict_answered = verdict.answered;
}

void SupervisorCore::Confirmed(uint64_t generation, const DeviceVerdict& verdict) {
  confirming_ = 0;
  verdict_ = verdict;
  last_verdict_ = verdict.text;
  Freed(generation);
  if (draft_ && draft_->generation == generation) {
    FillVerdict(verdict, *draft_);
    draft_->device_bytes_after = ledger_.BytesInUse();
  }
  Push(ReloadEvent::Kind::kConfirmed, generation);
}

void SupervisorCore::Overridden(uint64_t generation) {
  confirming_ = 0;
  overridden_.insert(generation);
  next_overridden_ask_ns_ = 1;  // now
  last_verdict_ = verdict_.text;
  log_->warn(
      "generation {} is not confirmed freed ({}); the next one is admitted all the same, as was "
      "asked for",
      generation, verdict_.text);
  if (draft_) draft_->overridden = true;  // whichever generation it was
  if (draft_ && draft_->generation == generation) {
    FillVerdict(verdict_, *draft_);
    draft_->device_bytes_after = ledger_.BytesInUse(generation);
  }
}

}  // namespace baton::runtime
