// What every generation holds on the device, and what has to be asked to prove
// that one of them holds nothing any more.
//
// Of the host device the kernel counts what an arena holds. On a GPU no object
// of the kernel's does, and the driver is asked by nobody but the confirmation
// helper: there an arena counts in full from when it was exported until it is
// confirmed freed.
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
#include <vector>

#include "absl/status/status.h"

#include "ipc/cuda/arena_description.h"
#include "ipc/cuda/gpu_survey.h"
#include "ipc/device.h"
#include "ipc/process.h"
#include "runtime/supervisor/confirm_helper.h"

namespace baton::runtime {

class DeviceLedger {
 public:
  // The generation has exported its arena: it is watched from now on. With no
  // bytes there is nothing to watch. `what` is ipc::cuda::DescribeArena's,
  // `owner` its worker.
  absl::Status Add(ipc::ArenaExport arena, const ipc::cuda::ArenaDescription& what,
                   const ipc::ProcessIdentity& owner);

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
  // its own and went with it. Of an arena on a GPU it lacks what the owner of
  // this ledger knows: importers, the needed bytes and the successor.
  std::optional<ConfirmQuestion> Question(uint64_t generation, bool name_holders);
  // What came of it. An answer that is neither of those that follow a seal says
  // that no helper has sealed it; no answer leaves that open.
  void Answered(uint64_t generation, const DeviceVerdict& verdict);
  // It is confirmed gone: count it no more.
  void Forget(uint64_t generation) { entries_.erase(generation); }

  // Who counts, for the kind of arena that was added last: "st_blocks of the
  // arena's memfd".
  std::string source() const;

  // The GPU that the generation's arena is on; nullopt: on none.
  std::optional<ipc::cuda::Uuid> Gpu(uint64_t generation) const;
  // Generations whose arenas are on it.
  std::vector<uint64_t> OnGpu(const ipc::cuda::Uuid& device) const;
  // What NVML said while that generation's worker lived. One that does not know
  // the processes does not replace one that does, nor one without the worker one
  // with it: it may have let go of its memory already, on its way out, and what
  // was asked then would never be seen to come back.
  bool HasBaseline(uint64_t generation) const;
  void TakeBaseline(uint64_t generation, const ipc::cuda::GpuSurvey& survey);
  // Its worker was told to exit: from now on a baseline is taken only where there is
  // none of its own, and NVML still names it.
  void Leaving(uint64_t generation);

 private:
  struct GpuArena {
    ipc::cuda::Uuid device{};
    ipc::ProcessIdentity owner;
    std::optional<ipc::cuda::GpuSurvey> baseline;
    bool inherited = false;  // the baseline is of the generation before
    bool leaving = false;
  };
  struct Entry {
    std::unique_ptr<ipc::ArenaWitness> witness;  // null: on a GPU, or unwatched
    std::optional<GpuArena> gpu;
    uint64_t bytes = 0;  // as exported: what counts where the kernel does not say
    std::string token;
    std::string unwatched;
    bool may_be_sealed = false;  // by a helper
  };
  static ipc::cuda::GpuSurvey Inherited(const ipc::cuda::GpuSurvey& survey, pid_t from, pid_t to);

  std::map<uint64_t, Entry> entries_;
  // The last survey that showed a worker of this server, and whose.
  std::optional<GpuArena> last_seen_;
  ipc::cuda::ArenaDescription::Kind kind_ = ipc::cuda::ArenaDescription::Kind::kHost;
  uint64_t peak_bytes_ = 0;
};

}  // namespace baton::runtime

#endif  // BATON_RUNTIME_SUPERVISOR_DEVICE_LEDGER_H_
