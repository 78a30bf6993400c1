// A simulated machine with a GPU, for tests: processes that are started with
// its Environment() find its libcuda.so.1 and libnvidia-ml.so.1, and share its
// device memory. DESIGN.md says what is simulated and lists the knobs.
//
// Thread safety: any thread, but for the constructor and destructor.
#ifndef BATON_TESTS_SIMGPU_SIM_GPU_H_
#define BATON_TESTS_SIMGPU_SIM_GPU_H_

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "ipc/cuda/driver_abi.h"
#include "tests/simgpu/books.h"

namespace baton::testing {

struct SimGpuOptions {
  uint64_t capacity_bytes = uint64_t{16} << 30;
  uint64_t context_bytes = uint64_t{256} << 20;
};

class SimGpu {
 public:
  // A folder under /dev/shm, gone with the object. Memory that nobody writes
  // costs nothing, so the capacity may be any GPU's. Aborts where there is no
  // such folder to be had.
  explicit SimGpu(const SimGpuOptions& options = {});
  ~SimGpu();
  SimGpu(const SimGpu&) = delete;
  SimGpu& operator=(const SimGpu&) = delete;

  const std::string& folder() const { return folder_; }
  ipc::cuda::Uuid uuid() const;

  // Seen by every process with its next call.
  void SetKnob(const std::string& name, const std::string& value);
  void SetKnob(const std::string& name, uint64_t value);
  void ClearKnob(const std::string& name);

  // What a process that is to be on this machine needs in its environment,
  // LD_LIBRARY_PATH prepended to this process's own.
  std::map<std::string, std::string> Variables() const;
  // The same as "NAME=value".
  std::vector<std::string> Environment() const;
  // Puts this process, and what it starts from now on, on the machine: once in
  // its life, and before it looks for a driver.
  void UseInThisProcess() const;

  // ---- What an observer sees: read from the machine's folder, not through the
  // libraries. What was noticed to have no holder and is being torn down is in
  // use.
  struct Allocation {
    uint64_t id = 0;
    pid_t owner = 0;
    uint64_t bytes = 0;          // as accounted
    std::vector<pid_t> holders;  // ascending; empty: only descriptors, or torn down
    bool descriptors = false;    // an exported descriptor is open somewhere
    bool tearing_down = false;
  };
  // Allocations, without contexts, all devices.
  uint64_t BytesInUse() const;
  uint64_t ContextBytes() const;
  // Bytes charged to each process, contexts included.
  std::map<pid_t, uint64_t> Holders() const;
  // In the order of their creation.
  std::vector<Allocation> Allocations() const;
  // The most that BytesInUse could ever have given: kept by whoever allocates,
  // so no peak is too short to be seen.
  uint64_t PeakBytes() const;

 private:
  std::vector<ipc::cuda::sim::Entry> Look() const;
  void WriteKnobs();

  std::string folder_;
  std::unique_ptr<ipc::cuda::sim::Books> books_;
  mutable std::mutex mutex_;
  std::map<std::string, std::string> knobs_;
};

}  // namespace baton::testing

#endif  // BATON_TESTS_SIMGPU_SIM_GPU_H_
