// Device addresses of one process. Each range of them is reserved without
// access, so that code that takes one for a pointer crashes; the memory itself is
// mapped elsewhere, at the same distances, so that a range of device addresses is
// one range there.
//
// Thread safety: none; the caller has the process's lock.
#ifndef BATON_TESTS_SIMGPU_ADDRESS_SPACE_H_
#define BATON_TESTS_SIMGPU_ADDRESS_SPACE_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "ipc/cuda/driver_abi.h"

namespace baton::ipc::cuda::sim {

enum class Access { kNone, kRead, kReadWrite };

struct Mapping {
  DevicePtr base = 0;
  size_t bytes = 0;  // that may be used; less than what is mapped for cuMemAlloc(5)
  Access access = Access::kNone;
  uint64_t record_id = 0;
};

// Host memory that the device may use: by UVA at the address that it has anyway.
struct HostRange {
  size_t bytes = 0;
  bool read_only = false;  // for the device
  bool allocated = false;  // by cuMemHostAlloc
};

class AddressSpace {
 public:
  // `bytes` is a multiple of the granularity. `hint`: where it is to be, if that
  // is free; 0: anywhere. nullopt: no such range.
  std::optional<DevicePtr> Reserve(size_t bytes, size_t alignment, DevicePtr hint);
  // Exactly what was reserved, with nothing mapped; else false.
  bool Free(DevicePtr base, size_t bytes);
  // Of a reservation, not mapped yet. `content_bytes` of `content` are mapped
  // there, and access starts as given.
  bool Map(const Mapping& mapping, size_t content_bytes, int content);
  // Whole mappings, one or more, without gaps: their records' ids; empty: they
  // are none.
  std::vector<uint64_t> Unmap(DevicePtr base, size_t bytes);
  bool SetAccess(DevicePtr base, size_t bytes, Access access);
  const Mapping* Find(DevicePtr address) const;
  // Whether it lies in any reservation.
  bool Reserved(uint64_t address) const;

  // Where the memory is; nullptr: not all of it may be used so.
  void* Translate(DevicePtr address, size_t bytes, bool to_write) const;

  std::map<uint64_t, HostRange>& host_ranges() { return host_ranges_; }
  // The range that has all of it; nullptr: none.
  const HostRange* FindHost(uint64_t address, size_t bytes) const;
  // Whether a range shares a byte with it.
  bool OverlapsHost(uint64_t address, size_t bytes) const;

 private:
  struct Reservation {
    size_t bytes = 0;
    char* memory = nullptr;  // where it is mapped
  };
  const std::pair<const DevicePtr, Reservation>* ReservationOf(DevicePtr address,
                                                               size_t bytes) const;
  // The mappings that make up exactly that range; empty: none do.
  std::vector<Mapping*> Whole(DevicePtr base, size_t bytes);

  std::map<DevicePtr, Reservation> reservations_;
  std::map<DevicePtr, Mapping> mappings_;
  std::map<uint64_t, HostRange> host_ranges_;
};

}  // namespace baton::ipc::cuda::sim

#endif  // BATON_TESTS_SIMGPU_ADDRESS_SPACE_H_
