// What every generation holds on the device, as the kernel counts it, and what
// has to be asked to prove that one of them holds nothing any more.
//
// Thread safety: belongs to the supervisor's one thread. Maps no arena and
// creates no device context.
#ifndef BATON_RUNTIME_SUPERVISOR_DEVICE_LEDGER_H_
#define BATON_RUNTIME_SUPERVISOR_DEVICE_LEDGER_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"

#include "ipc/device.h"
#include "runtime/supervisor/confirm_helper.h"

namespace baton::runtime {

class DeviceLedger {
 public:
  // The generation has exported its arena: it is watched from now on. With no
  // bytes there is nothing to watch.
  absl::Status Add(ipc::ArenaExport arena);

  // It has one that cannot be watched: nothing will ever say that it is gone.
  void AddUnwatched(uint64_t generation, const std::string& why);

  // Device bytes of all generations together, now.
  uint64_t BytesInUse() const;
  uint64_t BytesInUse(uint64_t generation) const;

  // Looks, and remembers the most that was ever seen since ResetPeak.
  void Sample();
  void ResetPeak();
  uint64_t peak_bytes() const { return peak_bytes_; }

  // Whether that generation has exported an arena that is not confirmed gone.
  bool Watches(uint64_t generation) const { return entries_.contains(generation); }
  // Why nobody can be asked about it, ever; empty: somebody can.
  std::string Unwatched(uint64_t generation) const;
  // What to ask the confirmation helper about a generation whose worker has
  // been reaped. nullopt: it never exported an arena, so what memory it had was
  // its own and went with it.
  std::optional<ConfirmQuestion> Question(uint64_t generation, bool name_holders);
  // What came of it. An answer that is neither of those that follow a seal says
  // that no helper has sealed it; no answer leaves that open.
  void Answered(uint64_t generation, const DeviceVerdict& verdict);
  // It is confirmed gone: count it no more.
  void Forget(uint64_t generation) { entries_.erase(generation); }

  // Who counts: "st_blocks of the arena's memfd".
  static std::string source();

 private:
  struct Entry {
    std::unique_ptr<ipc::ArenaWitness> witness;  // null: unwatched
    uint64_t bytes = 0;  // as exported: what counts where the kernel does not say
    std::string token;
    std::string unwatched;
    bool may_be_sealed = false;  // by a helper
  };
  std::map<uint64_t, Entry> entries_;
  uint64_t peak_bytes_ = 0;
};

}  // namespace baton::runtime

#endif  // BATON_RUNTIME_SUPERVISOR_DEVICE_LEDGER_H_
