// Options of the front: every limit and every time has a name and a unit.
#ifndef BATON_OPTIONS_H_
#define BATON_OPTIONS_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/time/time.h"

namespace baton {

// What becomes of a generation. Each kClosing is followed by one kKept or one
// kClosed, unless the server ends.
enum class GenerationEvent {
  // A reload is about to replace it; no new lease of its device memory is
  // given, return those that there are. Also where its worker has died, but
  // only to a front that maps its device memory: others are not asked.
  kClosing,
  // The reload was called off: it serves on, leases are given again.
  kKept,
  // It is gone, and nothing of it is mapped here any more.
  kClosed,
};

struct FrontOptions {
  // Where servers are looked up; empty: $XDG_RUNTIME_DIR/baton, or
  // /tmp/baton-$UID without one.
  std::string run_directory = {};
  // Bound on connecting, and on each answer of the supervisor.
  absl::Duration connect_timeout = absl::Seconds(5);
  // Map each generation's device arena into this process, for reading, and the
  // channels' slices for inputs for writing. A service whose tensors all lie on
  // the host has no use for it.
  bool import_device = false;
  // Called with what becomes of each generation, in order. Front::
  // closing_generation says the same to who rather polls.
  // Runs on the front's own thread, which answers the server: it must not
  // block, and must not destroy the Front or its last handle of a launched
  // server (that waits for the server, which waits for this thread). It may
  // return leases. What it throws is swallowed.
  // Elsewhere the end of the last handle (of Front, channels, leases) waits for
  // a call that is under way: let none go under a lock that the callback takes.
  std::function<void(GenerationEvent event, uint64_t generation)> on_generation = {};
};

struct LaunchOptions {
  std::string directory = {};          // model directory (with config.yaml)
  std::string name = {};               // empty: one that nobody else has
  std::string secrets_directory = {};  // empty: none
  std::string device = {};             // empty: as config.yaml says
  bool disable_secrets_reload = false;
  // Bound on the first generation's start, loading included.
  absl::Duration start_timeout = absl::Minutes(10);
  // Empty: looked up beside this program, then where Baton was installed.
  std::string supervisor_executable = {};
  FrontOptions front = {};
};

struct ChannelOptions {
  // Most requests outstanding at once; a power of two, 2 to 65536.
  uint32_t ring_entries = 256;
  // Shared memory for requests and for responses, reserved at open.
  uint64_t request_arena_bytes = 16 << 20;
  uint64_t response_arena_bytes = 16 << 20;
  // Device memory for results that stay on the device, of what the model sets
  // aside for that (limits.device_results); with FrontOptions::import_device.
  // See Channel::PlanOnDevice.
  uint64_t device_result_bytes = 0;
  // The same for inputs that the caller writes there (limits.device_inputs; one
  // pool with that of the results). See PlanOptions::inputs_on_device.
  uint64_t device_input_bytes = 0;
  // Most Requests, requests on their way and Responses alive at once.
  uint32_t max_handles = 1024;
  enum class Backing { kPosixShm, kMemfd };
  // kMemfd does not count against the size of /dev/shm (64 MiB in many
  // containers) and is sealed against truncation.
  Backing backing = Backing::kPosixShm;
  // Huge pages for both segments, which makes them memfds whatever `backing` says:
  // of the reserved ones (vm.nr_hugepages) where enough are free, each segment in
  // whole ones; else transparent ones where the system gives them to who asks
  // (shmem_enabled of /sys/kernel/mm/transparent_hugepage is advise, or more); else
  // normal ones. Not an error: Channel::page_kind says which. For arenas of tens of
  // MiB and more, whose tensors are walked end to end.
  bool huge_pages = false;
  // The memory node (of /sys/devices/system/node) that both segments are taken from,
  // as long as it has memory left: the one of the CPUs that the worker runs on, and
  // this channel's thread. -1: as the opening thread's memory. INVALID_ARGUMENT, with
  // those there are, for one that this process may not use.
  int numa_node = -1;
  // The longest that a waiting call spins before it sleeps; what it does in
  // fact is learned from recent waits. Zero where only one CPU may be used.
  absl::Duration max_spin = absl::Microseconds(50);
  // Calls and waits of this channel never sleep: they spin until something comes
  // or their time is over. For a thread that owns its CPU (isolated, or pinned
  // and alone): no wake-up is ever waited for, and none has to be sent. On a CPU
  // that others want, the worker's included, it costs them their time. `max_spin`
  // says nothing then. Arm still arms.
  bool busy_poll = false;
  // Give this channel an eventfd for an epoll loop: see Channel::event_fd.
  bool event_fd = false;
  // For tests: where the rings' sequences start.
  uint64_t first_sequence = 0;
};

// What a request is for, where its tensors lie, and what is loaned for its results.
struct PlanOptions {
  // Which of the model's methods: see Channel::methods, FindMethod.
  uint32_t method = 0;
  // 0: as the signature says where its shapes are fixed, else 64 KiB, on the
  // device half of the channel's room there. A result that does not fit is asked
  // for again with a block that does.
  uint64_t response_bytes = 0;
  // The caller writes the inputs where the model reads them: in a block of
  // device_input_bytes. On a GPU Request::input_view has a `device_address`; on
  // the host device Request::input_bytes is the worker's own memory.
  //
  // Until it is submitted such a Request is a lease of its generation's device
  // memory, as a DeviceLease is: a reload waits for its end (drain_timeout) and
  // names its holder, so submit or drop it soon. While a reload is under way
  // Loan says UNAVAILABLE (see RetryAfter). Submitted ones survive a reload and
  // a worker's death as any other: the front carries their bytes over.
  //
  // What was written with a GPU must be complete (synchronize your stream)
  // before the request is submitted.
  bool inputs_on_device = false;
  // See Channel::PlanOnDevice.
  bool results_on_device = false;
};

struct CallOptions {
  // Bound on the whole call, waiting for a reload included. At most 24 h.
  absl::Duration timeout = absl::Seconds(30);
  // Retry once where a worker died after it had started. (A result that does
  // not fit the loaned block is always asked for again, in a larger one.)
  bool idempotent = false;
};

}  // namespace baton

#endif  // BATON_OPTIONS_H_
