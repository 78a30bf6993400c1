// SupervisorCore: receipts, and those who wait for them.
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"

#include "ipc/futex.h"
#include "ipc/schema_convert.h"
#include "runtime/supervisor/supervisor_core.h"

namespace baton::runtime {

namespace schema = ipc::schema;

void SupervisorCore::FillExit(const Ended& ended, ReceiptDraft& draft) {
  draft.Know("worker-exited", ipc::ToString(ended.status), "pidfd and waitid");
  draft.worker_pid = ended.pid;
  draft.exit_code = ended.status.value;
  switch (ended.status.kind) {
    case ipc::ExitStatus::Kind::kExited:
      draft.exit_kind = "exited";
      break;
    case ipc::ExitStatus::Kind::kSignalled:
      draft.exit_kind = "signalled";
      break;
    case ipc::ExitStatus::Kind::kUnknown:
      draft.exit_kind = "unknown";
      break;
  }
}

// What is known by the time that it is written. What is not known has no line.
void SupervisorCore::FillEvidence(ReceiptDraft& draft) const {
  if (draft.verdict != "none") {
    std::string value = draft.verdict;
    if (!draft.verdict_detail.empty()) absl::StrAppend(&value, ": ", draft.verdict_detail);
    draft.Know("device-freed", value,
               draft.verdict_source.empty() ? "nobody could tell"
               : draft.verdict_answered
                   ? absl::StrCat("confirmation helper: ", draft.verdict_source)
                   : draft.verdict_source);
  }
  draft.Know("device-peak", absl::StrCat(draft.device_bytes_peak, " bytes"),
             absl::StrCat(draft.device_source, ", sampled every millisecond from CLOSING on"));
  if (draft.gap_ns != 0) {
    draft.Know("requests-not-started",
               absl::StrCat(draft.requests_held, " waited for the successor"),
               "ring positions when it was told to serve");
    draft.Know("requests-ended-meanwhile",
               absl::StrCat(draft.requests_failed, " failed, ", draft.requests_expired, " expired"),
               "the workers' own counts");
  }
  if (const auto serving = workers_.find(draft.successor); serving != workers_.end()) {
    draft.successor_pid = serving->second->pid();
    draft.Know(
        "secrets-applied",
        absl::StrCat(serving->second->secrets()->values.size(), " to generation ", draft.successor),
        "sealed memfd that it was started with");
  }
}

void SupervisorCore::BeginReceipt(uint64_t generation, const std::string& trigger) {
  if (trigger == "secrets") {
    log_->info("Detected secrets change, initiating subprocess-based model reload...");
  } else if (trigger != "stop") {
    log_->info("Reload ({}), initiating subprocess-based model reload...", trigger);
  }
  const int64_t now = ipc::MonotonicNs();
  draft_.emplace(generation, trigger, now);
  ledger_.ResetPeak();
  survey_.ReloadBegan();  // before the worker goes: the later it is, the less has changed since
  draft_->device_bytes_before = draft_->device_bytes_after = ledger_.BytesInUse();
  draft_->device_bytes_model = ledger_.BytesInUse(generation);
  draft_->device_source = ledger_.source();
  if (const WorkerHandle* worker = Worker(generation)) draft_->worker_pid = worker->pid();
  if (const auto ended = ended_.find(generation); ended != ended_.end()) {
    FillExit(ended->second, *draft_);
  }
  std::move(waiting_next_.begin(), waiting_next_.end(), std::back_inserter(waiting_now_));
  waiting_next_.clear();
}

void SupervisorCore::FinishReceipt(const std::string& outcome, const std::string& reason) {
  if (!draft_) return;
  ledger_.Sample();
  ReceiptDraft draft = *std::exchange(draft_, std::nullopt);
  draft.Close(ipc::MonotonicNs());
  draft.outcome = outcome;
  draft.reason = reason;
  draft.device_bytes_peak = ledger_.peak_bytes();
  if (outcome == "swapped") {
    draft.successor = machine_.serving_generation();
    if (draft.device_bytes_model == 0) {
      draft.device_bytes_model = ledger_.BytesInUse(draft.successor);
    }
    ++reloads_;
  } else if (outcome == "kept-old") {
    draft.successor = draft.generation;
    draft.exit_kind = "none";
    draft.exit_code = 0;
  } else if (draft.verdict == "none") {
    FillVerdict(verdict_, draft);
    draft.device_bytes_after = ledger_.BytesInUse();
  }
  // Relaxed: counters.
  if (hold_started_ns_ != 0 || draft.gap_ns != 0) {
    draft.requests_failed = pages_.worker().failed.load(std::memory_order_relaxed) - failed_before_;
    draft.requests_expired =
        pages_.worker().expired.load(std::memory_order_relaxed) - expired_before_;
  }
  FillEvidence(draft);
  Append(draft);
  ended_.clear();
  if (outcome == "swapped") {
    log_->info("Subprocess-based model reload sequence completed successfully");
    AnswerWaiters(absl::OkStatus(), /*with_receipt=*/true);
  } else if (outcome == "kept-old") {
    log_->error("generation {} serves on: {}", draft.generation, reason);
    AnswerWaiters(
        absl::AbortedError(absl::StrCat("generation ", draft.generation, " serves on: ", reason)),
        /*with_receipt=*/true);
  }
}

// A generation that never served is gone: its memory too needs a proof.
void SupervisorCore::WriteFailedReceipt(uint64_t generation, const std::string& why) {
  ReceiptDraft draft(generation, draft_ ? draft_->trigger : "worker-death", ipc::MonotonicNs());
  draft.outcome = "failed";
  draft.reason = why;
  draft.overridden = overridden_.contains(generation);
  FillVerdict(verdict_, draft);
  draft.device_source = ledger_.source();
  draft.device_bytes_after = ledger_.BytesInUse();
  draft.device_bytes_peak = ledger_.peak_bytes();
  if (const auto ended = ended_.find(generation); ended != ended_.end()) {
    FillExit(ended->second, draft);
    draft.Know("imports-closed", fronts_.ClosedImports(),
               "importsClosed, or the end of a connection");
    ended_.erase(ended);
  }
  FillEvidence(draft);
  Append(draft);
  if (machine_.step() == ipc::ServerState::kStopped) return;  // Stopped() answers
  if (machine_.serves()) return;  // kept-old: that receipt is the answer
  AnswerWaiters(absl::UnavailableError(absl::StrCat("generation ", generation,
                                                    " failed, and is being retried: ", why)),
                /*with_receipt=*/true);
}

void SupervisorCore::Append(const ReceiptDraft& draft) {
  if (absl::Status status = receipts_.Append(draft); !status.ok()) {
    log_->error("a receipt was not written: {}", std::string(status.message()));
  }
}

void SupervisorCore::AnswerAllWaiters(const absl::Status& status) {
  std::move(waiting_next_.begin(), waiting_next_.end(), std::back_inserter(waiting_now_));
  waiting_next_.clear();
  AnswerWaiters(status);
}

void SupervisorCore::AnswerWaiters(const absl::Status& status, bool with_receipt) {
  std::vector<Waiter> waiters = std::exchange(waiting_now_, {});
  if (stopped_) {
    waiters.insert(waiters.end(), waiting_next_.begin(), waiting_next_.end());
    waiting_next_.clear();
  }
  for (const Waiter& waiter : waiters) {
    capnp::MallocMessageBuilder message;
    auto envelope = message.initRoot<schema::Envelope>();
    envelope.setCall(waiter.call);
    auto reply = envelope.initReloadReply();
    ipc::WriteStatus(status, reply.initError());
    if (with_receipt && receipts_.has_latest()) reply.setReceipt(receipts_.latest());
    fronts_.Reply(waiter.session, message);
  }
}

}  // namespace baton::runtime
