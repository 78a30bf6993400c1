// Receipts: what a reload did, and the proof that the memory of the worker
// before was freed, as one JSON line each.
//
// Thread safety: belongs to one thread.
#ifndef BATON_RUNTIME_SUPERVISOR_RECEIPTS_H_
#define BATON_RUNTIME_SUPERVISOR_RECEIPTS_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "capnp/message.h"

#include "ipc/pages.h"
#include "ipc/schema/receipt.capnp.h"
#include "ipc/unique_fd.h"

namespace baton::runtime {

// Of a reason, and of the steps of one reload, a receipt has this much: it is
// to fit into one control packet, whatever a model says or how often it fails.
inline constexpr size_t kMaxReasonBytes = 4096;
inline constexpr size_t kMaxReceiptStates = 64;

// The first kMaxReasonBytes of it at most, and no half of a UTF-8 character.
std::string CapReason(const std::string& reason);

// A receipt being written. The members are those of ipc/schema/receipt.capnp.
class ReceiptDraft {
 public:
  ReceiptDraft() = default;
  ReceiptDraft(uint64_t generation, std::string trigger, int64_t now_ns);

  // The step is now `step`: the time since the one before is that one's. A
  // step that is entered twice has two entries. Past kMaxReceiptStates, the
  // first and the latest are kept.
  void Enter(ipc::ServerState step, int64_t now_ns);
  // The last step has ended.
  void Close(int64_t now_ns);

  void WriteTo(ipc::schema::Receipt::Builder to) const;

  uint64_t generation = 0;
  uint64_t successor = 0;
  std::string trigger;
  std::string strategy = "exclusive";
  std::string strategy_reason;
  bool overridden = false;
  std::string outcome;
  std::string reason;
  std::string verdict = "none";
  std::string verdict_source;
  std::string verdict_detail;
  bool verdict_answered = false;  // by the confirmation helper
  uint64_t started_unix_ms = 0;
  uint64_t gap_ns = 0;
  std::string exit_kind = "none";
  int32_t exit_code = 0;
  uint32_t imports_closed = 0;
  uint32_t imports_cut_off = 0;
  uint64_t device_bytes_before = 0;
  uint64_t device_bytes_after = 0;
  uint64_t device_bytes_peak = 0;
  uint64_t device_bytes_model = 0;
  std::string device_source;
  uint64_t requests_held = 0;
  uint64_t requests_expired = 0;
  uint64_t requests_failed = 0;
  int32_t worker_pid = 0;
  int32_t successor_pid = 0;
  std::string holders;  // who kept it from draining or from being freed

  // How a fact is known. One that is told again takes the place of the first.
  void Know(const std::string& fact, const std::string& value, const std::string& source);

 private:
  struct Evidence {
    std::string fact;
    std::string value;
    std::string source;
  };
  struct Step {
    ipc::ServerState state;
    int64_t ns = 0;
  };
  std::vector<Step> steps_;
  std::vector<Evidence> evidence_;
  int64_t entered_ns_ = 0;
};

// The receipt as one line of JSON, without the line end. Numbers of 64 bits
// are strings, as Cap'n Proto's JSON has them.
std::string ReceiptJson(ipc::schema::Receipt::Reader receipt);

// A server's receipts, oldest first.
class ReceiptLog {
 public:
  // Nowhere: Append keeps the latest one and writes nothing.
  ReceiptLog() = default;
  // Appends to `path`, which is made (0600) when it is not there.
  static absl::StatusOr<ReceiptLog> Open(const std::string& path);

  // One write, so that a reader never sees half a line from a living writer.
  // The receipt counts as the latest even if it could not be written.
  absl::Status Append(const ReceiptDraft& draft);

  // Null before the first one.
  bool has_latest() const { return latest_ != nullptr; }
  ipc::schema::Receipt::Reader latest() const;

 private:
  std::string path_;
  ipc::UniqueFd fd_;
  std::unique_ptr<capnp::MallocMessageBuilder> latest_;
};

}  // namespace baton::runtime

#endif  // BATON_RUNTIME_SUPERVISOR_RECEIPTS_H_
