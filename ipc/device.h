// A device: the memory that a worker owns, fronts import, and the supervisor
// must see gone before the next worker may have it.
//
// Three implementations stand behind these interfaces: `host` (here, always
// there), `cuda`, and in tests a simulated GPU. Roles are split by process,
// so that no process can do what is not its part:
//   worker      Device            allocates one arena a generation, exports it
//   front       ImportedArena     opens an export once a generation, closes it
//   supervisor  ArenaWitness      confirms with the kernel that it is gone
//
// Thread safety: none of these classes locks; each object belongs to one
// thread at a time, but for Device::MakeCurrent.
#ifndef BATON_IPC_DEVICE_H_
#define BATON_IPC_DEVICE_H_

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "baton/page_kind.h"
#include "ipc/unique_fd.h"

namespace baton::ipc {

// What an owner hands out so that another process can open its arena. On the
// host device the fd is a memfd; `token` is empty. On cuda the token says all
// (ipc/cuda/arena_token.h), and there is an fd only where memory is exported as
// one.
struct ArenaExport {
  UniqueFd fd = {};
  std::string token = {};
  uint64_t bytes = 0;
  uint64_t generation = 0;
};

// Owner side: device memory of one generation. Freed by the destructor, as
// far as no importer still maps it.
class DeviceArena {
 public:
  virtual ~DeviceArena() = default;
  // Address on the device. On the host device it can be read and written.
  virtual uint64_t address() const = 0;
  virtual uint64_t bytes() const = 0;
  // On the host device: what its pages are, where huge ones were asked for.
  virtual PageKind page_kind() const { return PageKind::kNormal; }
  // May be called more than once; each call gives a descriptor of its own.
  virtual absl::StatusOr<ArenaExport> Export() = 0;
  // Overwrites it with zeros, so that whoever gets the memory next finds
  // nothing there. On the host device the kernel does that by itself.
  virtual absl::Status Scrub() { return absl::OkStatus(); }
};

// Host memory that a device copies from and to directly, while it lives.
class HostRegistration {
 public:
  virtual ~HostRegistration() = default;
};

class Device {
 public:
  virtual ~Device() = default;
  // "host", "cuda:0".
  virtual std::string_view name() const = 0;
  // Allocates and zeroes `bytes` of device memory for `generation`.
  // RESOURCE_EXHAUSTED when `bytes` exceeds what the supervisor admitted.
  virtual absl::StatusOr<std::unique_ptr<DeviceArena>> CreateArena(uint64_t bytes,
                                                                   uint64_t generation) = 0;
  // Copies host bytes to a device address inside an arena of this device.
  // Returns when `from` may be reused.
  virtual absl::Status CopyToDevice(uint64_t to_address, std::span<const std::byte> from) = 0;
  // The same of a file's bytes, which should be in the page cache. DATA_LOSS
  // when it ends too early.
  virtual absl::Status CopyFileToDevice(uint64_t to_address, int fd, uint64_t offset,
                                        uint64_t bytes) = 0;
  // And back. Returns when the bytes are there.
  virtual absl::Status CopyFromDevice(std::span<std::byte> to, uint64_t from_address) = 0;
  // The large copies are over: whatever was set aside for them may go.
  virtual void UploadDone() {}
  // Any thread: lets this one work with the device as frameworks do that do not ask
  // which context is theirs. For each thread that runs a model's code.
  virtual absl::Status MakeCurrent() const { return absl::OkStatus(); }
  // Lets later copies from and (where `writable`) to this memory go without a
  // bounce. nullptr where the device has no use for that. Cost on a GPU: about
  // 0.1 s a GiB.
  virtual absl::StatusOr<std::unique_ptr<HostRegistration>> RegisterHostMemory(
      std::span<const std::byte> memory, bool writable) {
    static_cast<void>(memory), static_cast<void>(writable);
    return nullptr;
  }
};

// Front side: another process's arena, mapped for reading; a front may have
// itself allowed to write where it was given a slice.
class ImportedArena {
 public:
  virtual ~ImportedArena() = default;
  // Bytes as this process sees them; empty where the device is not readable
  // by the CPU.
  virtual std::span<const std::byte> bytes() const = 0;
  // The same on the device, for a framework in this process; 0 on the host device.
  virtual uint64_t device_address() const { return 0; }
  virtual int device_ordinal() const { return -1; }  // as this process counts GPUs
  virtual uint64_t size_bytes() const { return bytes().size(); }
  // The destructor calls a driver, which may take its time or hang: it is not
  // to run on a thread that anybody waits for. Neither are AllowWrites and the
  // copies then.
  virtual bool closing_may_hang() const { return false; }
  // Makes these bytes writable here, as far as the device can keep apart what
  // is: pages on the host; all of the arena on a GPU (cuda/DESIGN.md). Others
  // may read meanwhile. Never undone.
  virtual absl::Status AllowWrites(uint64_t offset, uint64_t bytes) = 0;
  // What was allowed to be written, in place; empty where the CPU cannot.
  virtual std::span<std::byte> Writable(uint64_t offset, uint64_t bytes) {
    static_cast<void>(offset), static_cast<void>(bytes);
    return {};
  }
  // Copies from and to the arena; they are over, for every process, on return.
  // INVALID_ARGUMENT for what is outside of it. CopyIn only where it was allowed.
  virtual absl::Status CopyOut(std::span<std::byte> to, uint64_t offset) = 0;
  virtual absl::Status CopyIn(uint64_t offset, std::span<const std::byte> from) = 0;
  virtual uint64_t generation() const = 0;
};

// Supervisor side: knows one generation's arena without mapping it. The
// supervisor itself only counts; it has a process of its own ask Confirm and
// Holders, which may wait in the kernel.
class ArenaWitness {
 public:
  enum class Verdict {
    kFreed,
    kStillMapped,
    kDriverHeld,  // nobody maps it, and the device does not give it back
    kUnknown,
  };
  virtual ~ArenaWitness() = default;
  // To hand to whoever is to confirm; -1: it is confirmed, or needs none.
  virtual int fd() const = 0;
  // Device bytes in use by this arena now, as the kernel counts them. Cheap,
  // and never waits.
  virtual absl::StatusOr<uint64_t> BytesInUse() const = 0;
  // Asks the kernel whether any process still maps the arena. kFreed is final:
  // nothing maps it, nothing can map it again for writing, and its pages have
  // been returned. Call only after the owner was reaped.
  virtual Verdict Confirm() = 0;
  // Processes that map the arena, for the verdict "pinned-by <pid>". Best
  // effort: an empty answer proves nothing (see ipc/mapping_holders.h).
  virtual std::vector<pid_t> Holders() const { return {}; }
  // How Confirm knows, for the receipt: "F_SEAL_WRITE + st_blocks".
  virtual std::string_view source() const = 0;
};

// The host device. `capacity_bytes` is what the supervisor admitted. `huge_pages`:
// its arenas lie on huge pages where there are any (as SegmentOptions::huge_pages),
// but on reserved ones only where they fill whole ones (HugePageBytes).
std::unique_ptr<Device> CreateHostDevice(uint64_t capacity_bytes, bool huge_pages = false);
absl::StatusOr<std::unique_ptr<ImportedArena>> ImportHostArena(ArenaExport arena);
// `asked_before`: somebody, who may have died over it, was asked to confirm it.
absl::StatusOr<std::unique_ptr<ArenaWitness>> WitnessHostArena(ArenaExport arena,
                                                               bool asked_before = false);

}  // namespace baton::ipc

#endif  // BATON_IPC_DEVICE_H_
