#include "tests/simgpu/address_space.h"

#include <sys/mman.h>

#include <algorithm>

#include "tests/simgpu/books.h"

namespace baton::ipc::cuda::sim {
namespace {

constexpr int kReserveFlags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;

char* AsPointer(DevicePtr address) { return reinterpret_cast<char*>(address); }

// The last range that begins at or before `address`; end() if none does.
template <typename Map>
auto AtOrBefore(Map& ranges, uint64_t address) {
  auto it = ranges.upper_bound(address);
  return it == ranges.begin() ? ranges.end() : std::prev(it);
}

size_t MappedBytes(const Mapping& mapping) { return RoundUp(mapping.bytes); }

int Protection(Access access) {
  switch (access) {
    case Access::kNone:
      return PROT_NONE;
    case Access::kRead:
      return PROT_READ;
    case Access::kReadWrite:
      return PROT_READ | PROT_WRITE;
  }
  return PROT_NONE;
}

}  // namespace

std::optional<DevicePtr> AddressSpace::Reserve(size_t bytes, size_t alignment, DevicePtr hint) {
  alignment = std::max<size_t>(alignment, kGranularityBytes);
  char* base = nullptr;
  if (hint != 0 && hint % alignment == 0) {
    void* const got =
        ::mmap(AsPointer(hint), bytes, PROT_NONE, kReserveFlags | MAP_FIXED_NOREPLACE, -1, 0);
    if (got == AsPointer(hint)) {
      base = AsPointer(hint);
    } else if (got != MAP_FAILED) {
      ::munmap(got, bytes);
    }
  }
  if (base == nullptr) {
    void* const got = ::mmap(nullptr, bytes + alignment, PROT_NONE, kReserveFlags, -1, 0);
    if (got == MAP_FAILED) return std::nullopt;
    char* const start = static_cast<char*>(got);
    const size_t skip = (alignment - reinterpret_cast<uintptr_t>(start) % alignment) % alignment;
    if (skip > 0) ::munmap(start, skip);
    base = start + skip;
    if (alignment - skip > 0) ::munmap(base + bytes, alignment - skip);
  }
  void* const memory = ::mmap(nullptr, bytes, PROT_NONE, kReserveFlags, -1, 0);
  if (memory == MAP_FAILED) {
    ::munmap(base, bytes);
    return std::nullopt;
  }
  const auto address = reinterpret_cast<DevicePtr>(base);
  reservations_[address] = {.bytes = bytes, .memory = static_cast<char*>(memory)};
  return address;
}

bool AddressSpace::Free(DevicePtr base, size_t bytes) {
  const auto it = reservations_.find(base);
  if (it == reservations_.end() || it->second.bytes != bytes) return false;
  const auto mapping = mappings_.lower_bound(base);
  if (mapping != mappings_.end() && mapping->first < base + bytes) return false;
  ::munmap(AsPointer(base), bytes);
  ::munmap(it->second.memory, bytes);
  reservations_.erase(it);
  return true;
}

const std::pair<const DevicePtr, AddressSpace::Reservation>* AddressSpace::ReservationOf(
    DevicePtr address, size_t bytes) const {
  const auto it = AtOrBefore(reservations_, address);
  if (it == reservations_.end()) return nullptr;
  const uint64_t offset = address - it->first;
  if (offset >= it->second.bytes || bytes > it->second.bytes - offset) return nullptr;
  return &*it;
}

bool AddressSpace::Reserved(uint64_t address) const { return ReservationOf(address, 1) != nullptr; }

bool AddressSpace::Map(const Mapping& mapping, size_t content_bytes, int content) {
  const auto* const reservation = ReservationOf(mapping.base, content_bytes);
  if (reservation == nullptr) return false;
  const auto before = AtOrBefore(mappings_, mapping.base + content_bytes - 1);
  if (before != mappings_.end() && before->first + MappedBytes(before->second) > mapping.base) {
    return false;
  }
  char* const at = reservation->second.memory + (mapping.base - reservation->first);
  if (::mmap(at, content_bytes, Protection(mapping.access), MAP_SHARED | MAP_FIXED, content, 0) ==
      MAP_FAILED) {
    return false;
  }
  mappings_[mapping.base] = mapping;
  return true;
}

std::vector<Mapping*> AddressSpace::Whole(DevicePtr base, size_t bytes) {
  std::vector<Mapping*> whole;
  DevicePtr next = base;
  while (next < base + bytes) {
    const auto it = mappings_.find(next);
    if (it == mappings_.end()) return {};
    whole.push_back(&it->second);
    next += MappedBytes(it->second);
  }
  if (next != base + bytes || ReservationOf(base, bytes) == nullptr) return {};
  return whole;
}

std::vector<uint64_t> AddressSpace::Unmap(DevicePtr base, size_t bytes) {
  const std::vector<Mapping*> whole = Whole(base, bytes);
  if (whole.empty()) return {};
  const auto* const reservation = ReservationOf(base, bytes);
  char* const at = reservation->second.memory + (base - reservation->first);
  if (::mmap(at, bytes, PROT_NONE, kReserveFlags | MAP_FIXED, -1, 0) == MAP_FAILED) return {};
  std::vector<uint64_t> ids;
  for (const Mapping* const mapping : whole) {
    ids.push_back(mapping->record_id);
    mappings_.erase(mapping->base);
  }
  return ids;
}

bool AddressSpace::SetAccess(DevicePtr base, size_t bytes, Access access) {
  const std::vector<Mapping*> whole = Whole(base, bytes);
  if (whole.empty()) return false;
  const auto* const reservation = ReservationOf(base, bytes);
  char* const at = reservation->second.memory + (base - reservation->first);
  if (::mprotect(at, bytes, Protection(access)) != 0) return false;
  for (Mapping* const mapping : whole) mapping->access = access;
  return true;
}

const Mapping* AddressSpace::Find(DevicePtr address) const {
  const auto it = AtOrBefore(mappings_, address);
  if (it == mappings_.end() || address - it->first >= it->second.bytes) return nullptr;
  return &it->second;
}

void* AddressSpace::Translate(DevicePtr address, size_t bytes, bool to_write) const {
  if (const HostRange* const host = FindHost(address, bytes)) {
    return to_write && host->read_only ? nullptr : AsPointer(address);
  }
  const auto* const reservation = ReservationOf(address, bytes);
  if (reservation == nullptr) return nullptr;
  for (DevicePtr next = address; next < address + bytes;) {
    const Mapping* const mapping = Find(next);
    if (mapping == nullptr || mapping->access == Access::kNone) return nullptr;
    if (to_write && mapping->access != Access::kReadWrite) return nullptr;
    next = mapping->base + mapping->bytes;
  }
  return reservation->second.memory + (address - reservation->first);
}

const HostRange* AddressSpace::FindHost(uint64_t address, size_t bytes) const {
  const auto it = AtOrBefore(host_ranges_, address);
  if (it == host_ranges_.end()) return nullptr;
  const uint64_t offset = address - it->first;
  if (offset >= it->second.bytes || bytes > it->second.bytes - offset) return nullptr;
  return &it->second;
}

bool AddressSpace::OverlapsHost(uint64_t address, size_t bytes) const {
  const auto it = AtOrBefore(host_ranges_, address + bytes - 1);
  return it != host_ranges_.end() && it->first + it->second.bytes > address;
}

}  // namespace baton::ipc::cuda::sim
