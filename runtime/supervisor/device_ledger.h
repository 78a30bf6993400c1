// What every generation holds on the device, as the kernel counts it, and the
// proof that one of them holds nothing any more.
//
// Thread safety: belongs to the supervisor's one thread. Maps no arena and
// creates no device context.
#ifndef BATON_RUNTIME_SUPERVISOR_DEVICE_LEDGER_H_
#define BATON_RUNTIME_SUPERVISOR_DEVICE_LEDGER_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "absl/status/status.h"

#include "ipc/device.h"

namespace baton::runtime {

// Every way of not knowing has its own verdict; "freed" is never one of them.
struct DeviceVerdict {
  bool freed = false;
  std::string text;    // "freed", "pinned-by <pid>", "pinned", "unknown"
  std::string source;  // how it is known
};

class DeviceLedger {
 public:
  // The generation has exported its arena: it is watched from now on. With no
  // bytes there is nothing to watch.
  absl::Status Add(ipc::ArenaExport arena);

  // Device bytes of all generations together, now.
  uint64_t BytesInUse() const;
  uint64_t BytesInUse(uint64_t generation) const;

  // Looks, and remembers the most that was ever seen since ResetPeak.
  void Sample();
  void ResetPeak();
  uint64_t peak_bytes() const { return peak_bytes_; }

  // Asks the kernel about a generation whose worker has been reaped. A
  // generation that never exported an arena had its memory to itself: it went
  // with the worker. `name_holder` looks for the process that pins it, which
  // reads all of /proc.
  DeviceVerdict Confirm(uint64_t generation, bool name_holder);
  // It is confirmed gone: count it no more.
  void Forget(uint64_t generation) { entries_.erase(generation); }

  // Who counts: "st_blocks of the arena's memfd".
  static std::string source();

 private:
  struct Entry {
    std::unique_ptr<ipc::ArenaWitness> witness;
    uint64_t bytes = 0;  // as exported: what counts where the kernel does not say
  };
  std::map<uint64_t, Entry> entries_;
  uint64_t peak_bytes_ = 0;
};

}  // namespace baton::runtime

#endif  // BATON_RUNTIME_SUPERVISOR_DEVICE_LEDGER_H_
