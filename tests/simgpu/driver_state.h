// One process's half of the simulated driver: what its handles mean. (What it
// holds of the machine is in the Books.)
//
// Thread safety: DriverState is used under its mutex; a Call takes it.
#ifndef BATON_TESTS_SIMGPU_DRIVER_STATE_H_
#define BATON_TESTS_SIMGPU_DRIVER_STATE_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "ipc/cuda/driver_abi.h"
#include "tests/simgpu/address_space.h"
#include "tests/simgpu/kernel_registry.h"
#include "tests/simgpu/machine.h"

namespace baton::ipc::cuda {

// A primary context, while it is retained.
struct ContextRep {
  DeviceOrdinal device = 0;
  int retains = 0;
  sim::Record record;
  // What the first failed work has left: every later call gives it.
  Result sticky = kSuccess;
};

struct StreamRep {
  Context context = nullptr;
  bool non_blocking = false;
  std::deque<std::function<Result()>> queue;
  uint64_t enqueued = 0;
  uint64_t done = 0;
};

struct EventRep {
  Context context = nullptr;
  Stream stream = nullptr;  // nullptr: nothing to wait for
  uint64_t sequence = 0;    // done when the stream has done as many
};

struct FunctionRep {
  sim::KernelEntry kernel;
};

struct ModuleRep {
  Context context = nullptr;
  std::vector<std::unique_ptr<FunctionRep>> functions;
};

}  // namespace baton::ipc::cuda

namespace baton::ipc::cuda::sim {

// Memory at an address of its own: of cuMemAlloc or cuIpcOpenMemHandle.
struct Allocation {
  Context context = nullptr;
  Record record;
  bool imported = false;
  int opens = 1;
};

struct VmmHandle {
  Record record;
  int references = 1;
};

class DriverState {
 public:
  static DriverState& Get();

  std::mutex mutex;
  Machine* machine = nullptr;  // since cuInit
  std::map<DeviceOrdinal, std::unique_ptr<ContextRep>> contexts;
  AddressSpace space;
  std::map<DevicePtr, Allocation> allocations;
  std::map<AllocationHandle, VmmHandle> vmm_handles;
  AllocationHandle last_vmm_handle = 0x5157'0000;
  std::map<Stream, std::unique_ptr<StreamRep>> streams;
  std::map<Event, std::unique_ptr<EventRep>> events;
  std::map<Module, std::unique_ptr<ModuleRep>> modules;

  bool IsContext(Context context) const;

  // ---- Holds: counted in this process, in the books once.
  // A new record, held once. kOutOfMemory.
  Result Create(RecordKind kind, DeviceOrdinal device, uint64_t bytes, Record* record);
  // One more reference to what is held already; false: it is not.
  bool Reference(const Record& record);
  // What the books have just given this process.
  void Hold(const Record& record) { held_[record.id] = {record, 1}; }
  void Release(uint64_t record_id);
  const Record* FindHeld(uint64_t record_id) const;

  // Reserves addresses and maps all of the record there.
  std::optional<DevicePtr> MapWhole(const Record& record);
  void UnmapWhole(DevicePtr base, uint64_t bytes);

  // ---- Work. These give the context's sticky result.
  // Runs what was queued; up to `sequence`, if given.
  Result Run(StreamRep* stream, uint64_t sequence = ~uint64_t{0});
  // What the NULL stream waits for: the streams that were not created as
  // non-blocking; or all.
  Result RunAll(Context context, bool non_blocking_too);
  // Queues it; on the NULL stream runs it now.
  Result Submit(Context context, Stream stream, std::function<Result()> work);
  // nullptr is the NULL stream and fine.
  bool IsStream(Stream stream) const { return stream == nullptr || streams.contains(stream); }

  // Ends with its last retain: its memory, imports, streams, events, modules go.
  void DestroyContext(Context context);

 private:
  struct Held {
    Record record;
    int references = 0;
  };
  TeardownRule Teardown() const { return machine->Now()->teardown(); }

  std::map<uint64_t, Held> held_;
};

enum class Needs { kNothing, kInit, kContext };

// What every exported function begins with: the knobs hang.<symbol> and
// fail.<symbol>, then whether the process may make the call at all. While it
// lives it has the state's mutex.
class Call {
 public:
  Call(const char* symbol, Needs needs);

  bool refused() const { return result_ != kSuccess; }
  Result result() const { return result_; }
  DriverState* operator->() { return &state_; }
  DriverState& state() { return state_; }
  Books& books() { return state_.machine->books(); }
  const Knobs& knobs() const { return *knobs_; }
  // Needs::kContext only.
  Context context() const { return context_; }

 private:
  DriverState& state_;
  std::unique_lock<std::mutex> lock_;
  std::shared_ptr<const Knobs> knobs_;
  Context context_ = nullptr;
  Result result_ = kSuccess;
};

// This thread's current context.
Context& CurrentContext();

}  // namespace baton::ipc::cuda::sim

#endif  // BATON_TESTS_SIMGPU_DRIVER_STATE_H_
