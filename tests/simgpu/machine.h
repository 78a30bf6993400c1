// The simulated machine that this process is on, as one library of it sees it.
//
// Thread safety: any thread.
#ifndef BATON_TESTS_SIMGPU_MACHINE_H_
#define BATON_TESTS_SIMGPU_MACHINE_H_

#include <sys/types.h>
#include <unistd.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tests/simgpu/books.h"
#include "tests/simgpu/knobs.h"

namespace baton::ipc::cuda::sim {

class Machine {
 public:
  // The one that the environment variable BATON_SIMGPU names when this is first
  // called, for the life of the process; nullptr: there is none.
  static Machine* Get();

  std::shared_ptr<const Knobs> Now() { return knobs_.Now(); }
  Books& books() { return *books_; }
  // This process was forked off the one that opened the machine: no driver
  // works in such a one.
  bool forked_away() const { return pid_ != ::getpid(); }

  // Waits while the knob hang.<symbol> (or `also`, if not empty) is set.
  // Then the knob fail.<symbol>; 0: not set.
  int HangOrFail(std::string_view symbol, std::string_view also);

 private:
  Machine(const std::string& folder, std::unique_ptr<Books> books);

  const pid_t pid_;
  KnobFile knobs_;
  std::unique_ptr<Books> books_;
};

// What is in use of a device: allocations, contexts, what is being torn down,
// and the foreign tenant's.
uint64_t BytesInUse(const std::vector<Entry>& entries, const Knobs& knobs, DeviceOrdinal device);

}  // namespace baton::ipc::cuda::sim

#endif  // BATON_TESTS_SIMGPU_MACHINE_H_
