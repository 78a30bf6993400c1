#include "runtime/supervisor/receipts.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "capnp/compat/json.h"

#include "ipc/crash_point.h"

namespace baton::runtime {

std::string CapReason(const std::string& reason) {
  if (reason.size() <= kMaxReasonBytes) return reason;
  size_t end = kMaxReasonBytes;
  for (int i = 0; i < 3 && (static_cast<unsigned char>(reason[end]) & 0xc0) == 0x80; ++i) --end;
  return reason.substr(0, end);
}

ReceiptDraft::ReceiptDraft(uint64_t generation, std::string trigger, int64_t now_ns)
    : generation(generation),
      trigger(std::move(trigger)),
      started_unix_ms(static_cast<uint64_t>(absl::ToUnixMillis(absl::Now()))),
      entered_ns_(now_ns) {}

void ReceiptDraft::Enter(ipc::ServerState step, int64_t now_ns) {
  Close(now_ns);
  if (steps_.size() >= kMaxReceiptStates) steps_.erase(steps_.begin() + kMaxReceiptStates / 2);
  steps_.push_back({step, 0});
}

void ReceiptDraft::Close(int64_t now_ns) {
  if (!steps_.empty()) steps_.back().ns += now_ns - entered_ns_;
  entered_ns_ = now_ns;
}

void ReceiptDraft::Know(const std::string& fact, const std::string& value,
                        const std::string& source) {
  const auto known = std::find_if(evidence_.begin(), evidence_.end(),
                                  [&](const Evidence& one) { return one.fact == fact; });
  if (known == evidence_.end()) {
    evidence_.push_back({fact, value, source});
  } else {
    *known = {fact, value, source};
  }
}

void ReceiptDraft::WriteTo(ipc::schema::Receipt::Builder to) const {
  to.setGeneration(generation);
  to.setSuccessor(successor);
  to.setTrigger(trigger);
  to.setStrategyReason(strategy_reason);
  to.setOverridden(overridden);
  to.setStrategy(strategy);
  to.setOutcome(outcome);
  to.setReason(CapReason(reason));
  to.setVerdict(verdict);
  to.setVerdictSource(verdict_source);
  to.setStartedUnixMs(started_unix_ms);
  auto states = to.initStates(static_cast<uint32_t>(steps_.size()));
  for (uint32_t i = 0; i < states.size(); ++i) {
    const std::string_view name = ipc::ServerStateName(steps_[i].state);
    states[i].setState(capnp::Text::Reader(name.data(), name.size()));
    states[i].setNs(static_cast<uint64_t>(steps_[i].ns));
  }
  to.setGapNs(gap_ns);
  to.setExitKind(exit_kind);
  to.setExitCode(exit_code);
  to.setImportsClosed(imports_closed);
  to.setImportsCutOff(imports_cut_off);
  to.setDeviceBytesBefore(device_bytes_before);
  to.setDeviceBytesAfter(device_bytes_after);
  to.setDeviceBytesPeak(device_bytes_peak);
  to.setDeviceBytesModel(device_bytes_model);
  to.setDeviceSource(device_source);
  to.setRequestsHeld(requests_held);
  to.setRequestsExpired(requests_expired);
  to.setRequestsFailed(requests_failed);
  to.setWorkerPid(worker_pid);
  to.setSuccessorPid(successor_pid);
  to.setHolders(CapReason(holders));
  auto evidence = to.initEvidence(static_cast<uint32_t>(evidence_.size()));
  for (uint32_t i = 0; i < evidence.size(); ++i) {
    evidence[i].setFact(evidence_[i].fact);
    evidence[i].setValue(CapReason(evidence_[i].value));
    evidence[i].setSource(evidence_[i].source);
  }
}

std::string ReceiptJson(ipc::schema::Receipt::Reader receipt) {
  capnp::JsonCodec codec;
  const kj::String json = codec.encode(receipt);
  return std::string(json.begin(), json.size());
}

absl::StatusOr<ReceiptLog> ReceiptLog::Open(const std::string& path) {
  ReceiptLog log;
  log.path_ = path;
  log.fd_.reset(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!log.fd_) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot open ", path, " for receipts"));
  }
  return log;
}

absl::Status ReceiptLog::Append(const ReceiptDraft& draft) {
  latest_ = std::make_unique<capnp::MallocMessageBuilder>();
  draft.WriteTo(latest_->initRoot<ipc::schema::Receipt>());
  if (!fd_) return absl::OkStatus();
  if (BATON_FAIL_POINT("supervisor.write_receipt")) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "cannot write to ", path_, ": it fails at the point supervisor.write_receipt"));
  }
  const std::string line = ReceiptJson(latest()) + "\n";
  ssize_t n;
  do {
    n = ::write(fd_.get(), line.data(), line.size());
  } while (n < 0 && errno == EINTR);
  if (n < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot write to ", path_));
  if (static_cast<size_t>(n) != line.size()) {
    return absl::ResourceExhaustedError(
        absl::StrCat(path_, " has room for half a receipt only; make room on its file system"));
  }
  return absl::OkStatus();
}

ipc::schema::Receipt::Reader ReceiptLog::latest() const {
  return latest_->getRoot<ipc::schema::Receipt>().asReader();
}

}  // namespace baton::runtime
