// The host device: an arena is a memfd, and the kernel's own count of its
// writable mappings is what confirms that it is gone. See "Host device and its
// confirmation" in DESIGN.md.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <iterator>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "boost/interprocess/exceptions.hpp"
#include "boost/interprocess/mapped_region.hpp"

#include "ipc/device.h"
#include "ipc/fd_mapping.h"
#include "ipc/mapping_holders.h"
#include "ipc/memory_file.h"

namespace baton::ipc {
namespace {

namespace bip = boost::interprocess;

// st_blocks counts in these, whatever the file system.
constexpr uint64_t kStatBlockBytes = 512;
constexpr uint64_t kMaxArenaBytes = uint64_t{1} << 46;

// The arenas that a device has given out. Shared with them, so that one may
// outlive the device.
struct Ledger {
  struct Entry {
    uint64_t bytes = 0;
    int fd = -1;           // the arena's own
    bool through = false;  // large copies go through the mapping: hugetlb files cannot be written
  };
  uint64_t capacity = 0;
  uint64_t used = 0;
  std::map<uint64_t, Entry> arena_by_address;
};

// From here on a copy goes through the file: the kernel fills pages that exist without a fault for
// each, which takes half the time of a memcpy through a mapping that was never touched.
constexpr size_t kCopyThroughFileBytes = 256 * 1024;

absl::Status WriteAt(int fd, uint64_t offset, std::span<const std::byte> from) {
  // Pieces, so that a signal finds an end.
  constexpr size_t kPieceBytes = 8 << 20;
  while (!from.empty()) {
    const ssize_t done =
        ::pwrite(fd, from.data(), std::min(from.size(), kPieceBytes), static_cast<off_t>(offset));
    if (done < 0 && errno == EINTR) continue;
    if (done <= 0) return absl::ErrnoToStatus(errno, "cannot copy to device host");
    offset += static_cast<uint64_t>(done);
    from = from.subspan(static_cast<size_t>(done));
  }
  return absl::OkStatus();
}

// The kernel copies from page cache to page cache: no mapping is touched.
absl::Status CopyFile(int from, uint64_t from_offset, int to, uint64_t to_offset, uint64_t bytes) {
  auto in = static_cast<off_t>(from_offset);
  if (::lseek(to, static_cast<off_t>(to_offset), SEEK_SET) < 0) {
    return absl::ErrnoToStatus(errno, "cannot copy to device host");
  }
  while (bytes > 0) {
    constexpr uint64_t kPieceBytes = 64 << 20;
    const ssize_t done = ::sendfile(to, from, &in, std::min(bytes, kPieceBytes));
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) return absl::ErrnoToStatus(errno, "cannot copy a file to device host");
    if (done == 0) return absl::DataLossError("the file ended while it was copied to device host");
    bytes -= static_cast<uint64_t>(done);
  }
  return absl::OkStatus();
}

// The same where the arena's file cannot be written: through its mapping.
absl::Status ReadFileTo(int from, uint64_t from_offset, std::span<std::byte> to) {
  while (!to.empty()) {
    const ssize_t done = ::pread(from, to.data(), to.size(), static_cast<off_t>(from_offset));
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) return absl::ErrnoToStatus(errno, "cannot copy a file to device host");
    if (done == 0) return absl::DataLossError("the file ended while it was copied to device host");
    from_offset += static_cast<uint64_t>(done);
    to = to.subspan(static_cast<size_t>(done));
  }
  return absl::OkStatus();
}

absl::Status CannotReserve(uint64_t bytes, int error) {
  const absl::Status status = absl::ErrnoToStatus(
      error, absl::StrCat("cannot reserve a device arena of ", bytes, " bytes in host memory"));
  if (error != ENOSPC && error != ENOMEM && error != EFBIG) return status;
  return absl::ResourceExhaustedError(
      absl::StrCat(status.message(), ". Free memory, or serve a smaller model"));
}

struct ArenaFile {
  UniqueFd fd;
  PageKind pages = PageKind::kNormal;
};

absl::StatusOr<UniqueFd> CreateMemfd(const std::string& name, uint64_t bytes, PageKind* pages) {
  // Reserving more than there is would call the out-of-memory killer rather
  // than fail.
  if (const uint64_t available = AvailableMemoryBytes(/*with_swap=*/false); bytes > available) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "cannot reserve a device arena of ", bytes, " bytes in host memory: ", available,
        " are available. Free memory, or serve a smaller model"));
  }
  UniqueFd fd(::memfd_create(name.c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd) return absl::ErrnoToStatus(errno, "cannot create a memfd for a device arena");
  if (::ftruncate(fd.get(), static_cast<off_t>(bytes)) != 0) return CannotReserve(bytes, errno);
  if (pages != nullptr && FillWithTransparentHugePages(fd.get(), bytes)) {
    *pages = PageKind::kTransparentHuge;
  }
  if (const int error = ReserveSpace(fd.get(), bytes); error != 0) {
    return CannotReserve(bytes, error);
  }
  return fd;
}

absl::StatusOr<ArenaFile> CreateArenaFile(uint64_t bytes, uint64_t generation, bool huge_pages) {
  const std::string name = absl::StrCat("baton-device-g", generation);
  ArenaFile file;
  if (huge_pages && bytes % HugePageBytes() == 0) {
    if (std::optional<HugetlbFile> hugetlb = CreateHugetlbFile(name, bytes)) {
      file = {.fd = std::move(hugetlb->fd), .pages = PageKind::kHugetlb};
    }
  }
  if (!file.fd) {
    absl::StatusOr<UniqueFd> fd = CreateMemfd(name, bytes, huge_pages ? &file.pages : nullptr);
    if (!fd.ok()) return fd.status();
    file.fd = *std::move(fd);
  }
  // So that it stays empty once the witness has emptied it. Not F_SEAL_SHRINK:
  // emptying it is how the pages go although stray descriptors exist.
  if (::fcntl(file.fd.get(), F_ADD_SEALS, F_SEAL_GROW) != 0) {
    return absl::ErrnoToStatus(errno, "cannot seal a device arena against growing");
  }
  return file;
}

absl::StatusOr<bip::mapped_region> Map(int fd, uint64_t bytes, bip::mode_t mode) {
  try {
    bip::mapped_region region(FdMapping(fd, mode), mode, 0, bytes);
    // A child of a fork must not count as a holder.
    if (::madvise(region.get_address(), region.get_size(), MADV_DONTFORK) != 0) {
      return absl::ErrnoToStatus(errno, "cannot keep a device arena out of forked children");
    }
    return region;
  } catch (const bip::interprocess_exception& error) {
    return absl::ResourceExhaustedError(
        absl::StrCat("cannot map a device arena of ", bytes, " bytes: ", error.what()));
  }
}

// What an importer and a witness rely on; `arena` comes from another process.
// `confirming`: it may be sealed and empty by now.
absl::Status CheckExport(const ArenaExport& arena, bool confirming = false) {
  const std::string what = absl::StrCat("the device arena of generation ", arena.generation);
  struct stat info;
  if (::fstat(arena.fd.get(), &info) != 0) {
    return absl::InvalidArgumentError(absl::StrCat(what, " came without a descriptor"));
  }
  if (arena.bytes == 0 || (!confirming && static_cast<uint64_t>(info.st_size) < arena.bytes)) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, " is said to have ", arena.bytes, " bytes, but has ", info.st_size));
  }
  const uint64_t page = MappingPageBytes(arena.fd.get());
  if (page > static_cast<uint64_t>(::sysconf(_SC_PAGESIZE)) && arena.bytes % page != 0) {
    // Could be mapped, but not unmapped again.
    return absl::InvalidArgumentError(
        absl::StrCat(what, " is said to have ", arena.bytes, " bytes, but its pages have ", page));
  }
  // Only mappings through a writable description are counted by the kernel.
  const int flags = ::fcntl(arena.fd.get(), F_GETFL);
  if (flags < 0 || (flags & O_ACCMODE) != O_RDWR) {
    return absl::InvalidArgumentError(absl::StrCat(
        what, " came with a read-only descriptor, whose mappings cannot be confirmed"));
  }
  // F_SEAL_FUTURE_WRITE would hide later mappings from the count, too. Others
  // (F_SEAL_EXEC, which some systems add) do no harm.
  const int unwanted =
      F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_FUTURE_WRITE | (confirming ? 0 : F_SEAL_WRITE);
  const int seals = ::fcntl(arena.fd.get(), F_GET_SEALS);
  if (seals < 0 || (seals & F_SEAL_GROW) == 0 || (seals & unwanted) != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, " is no memfd sealed as the host device seals it (seals: ", seals, ")"));
  }
  return absl::OkStatus();
}

class HostArena final : public DeviceArena {
 public:
  HostArena(std::shared_ptr<Ledger> ledger, ArenaFile file, bip::mapped_region region,
            uint64_t bytes, uint64_t generation)
      : ledger_(std::move(ledger)),
        fd_(std::move(file.fd)),
        pages_(file.pages),
        region_(std::move(region)),
        bytes_(bytes),
        generation_(generation) {
    ledger_->used += bytes_;
    ledger_->arena_by_address[address()] = {
        .bytes = bytes_, .fd = fd_.get(), .through = pages_ == PageKind::kHugetlb};
  }
  ~HostArena() override {
    ledger_->used -= bytes_;
    ledger_->arena_by_address.erase(address());
  }

  uint64_t address() const override { return reinterpret_cast<uint64_t>(region_.get_address()); }
  uint64_t bytes() const override { return bytes_; }
  PageKind page_kind() const override { return pages_; }

  absl::StatusOr<ArenaExport> Export() override {
    ArenaExport arena{.fd = UniqueFd(::fcntl(fd_.get(), F_DUPFD_CLOEXEC, 0)),
                      .token = {},
                      .bytes = bytes_,
                      .generation = generation_};
    if (!arena.fd) return absl::ErrnoToStatus(errno, "cannot export a device arena");
    return arena;
  }

 private:
  std::shared_ptr<Ledger> ledger_;
  UniqueFd fd_;
  PageKind pages_;
  bip::mapped_region region_;
  uint64_t bytes_;
  uint64_t generation_;
};

class HostDevice final : public Device {
 public:
  HostDevice(uint64_t capacity_bytes, bool huge_pages) : huge_pages_(huge_pages) {
    ledger_->capacity = capacity_bytes;
  }

  std::string_view name() const override { return "host"; }

  absl::StatusOr<std::unique_ptr<DeviceArena>> CreateArena(uint64_t bytes,
                                                           uint64_t generation) override {
    if (bytes == 0 || bytes > kMaxArenaBytes) {
      return absl::InvalidArgumentError(
          absl::StrCat("a device arena of ", bytes, " bytes: must be 1 byte to 64 TiB"));
    }
    const uint64_t left = ledger_->capacity - ledger_->used;
    if (bytes > left) {
      return absl::ResourceExhaustedError(absl::StrCat(
          "a device arena of ", bytes, " bytes does not fit: ", left, " of the ", ledger_->capacity,
          " bytes admitted on device host are left. Raise the device capacity, or serve a smaller "
          "model"));
    }
    absl::StatusOr<ArenaFile> file = CreateArenaFile(bytes, generation, huge_pages_);
    if (!file.ok()) return file.status();
    absl::StatusOr<bip::mapped_region> region = Map(file->fd.get(), bytes, bip::read_write);
    if (!region.ok()) return region.status();
    return std::make_unique<HostArena>(ledger_, *std::move(file), *std::move(region), bytes,
                                       generation);
  }

  absl::Status CopyToDevice(uint64_t to_address, std::span<const std::byte> from) override {
    const absl::StatusOr<Place> place = Find(to_address, from.size());
    if (!place.ok()) return place.status();
    if (from.size() >= kCopyThroughFileBytes && !place->through)
      return WriteAt(place->fd, place->offset, from);
    if (!from.empty()) {
      std::memcpy(reinterpret_cast<void*>(to_address), from.data(), from.size());
    }
    return absl::OkStatus();
  }

  absl::Status CopyFileToDevice(uint64_t to_address, int fd, uint64_t offset,
                                uint64_t bytes) override {
    const absl::StatusOr<Place> place = Find(to_address, bytes);
    if (!place.ok()) return place.status();
    if (place->through) return ReadFileTo(fd, offset, AsBytes(to_address, bytes));
    return CopyFile(fd, offset, place->fd, place->offset, bytes);
  }

  absl::Status CopyFromDevice(std::span<std::byte> to, uint64_t from_address) override {
    const absl::StatusOr<Place> place = Find(from_address, to.size());
    if (!place.ok()) return place.status();
    if (!to.empty()) {
      std::memcpy(to.data(), reinterpret_cast<const void*>(from_address), to.size());
    }
    return absl::OkStatus();
  }

 private:
  struct Place {
    int fd = -1;
    uint64_t offset = 0;
    bool through = false;
  };

  static std::span<std::byte> AsBytes(uint64_t address, uint64_t bytes) {
    return {reinterpret_cast<std::byte*>(address), bytes};
  }

  absl::StatusOr<Place> Find(uint64_t address, uint64_t bytes) const {
    const auto after = ledger_->arena_by_address.upper_bound(address);
    if (after != ledger_->arena_by_address.begin()) {
      const auto& [base, arena] = *std::prev(after);
      const uint64_t offset = address - base;
      if (offset <= arena.bytes && bytes <= arena.bytes - offset) {
        return Place{.fd = arena.fd, .offset = offset, .through = arena.through};
      }
    }
    return absl::InvalidArgumentError(
        absl::StrCat("a copy of ", bytes, " bytes to device host does not end up inside an arena"));
  }

  const bool huge_pages_;
  std::shared_ptr<Ledger> ledger_ = std::make_shared<Ledger>();
};

class ImportedHostArena final : public ImportedArena {
 public:
  // `page_bytes`: what can be made writable by itself.
  ImportedHostArena(bip::mapped_region region, uint64_t generation, uint64_t page_bytes)
      : region_(std::move(region)), generation_(generation), page_bytes_(page_bytes) {}

  std::span<const std::byte> bytes() const override {
    return {static_cast<const std::byte*>(region_.get_address()), region_.get_size()};
  }
  uint64_t generation() const override { return generation_; }

  absl::Status AllowWrites(uint64_t offset, uint64_t bytes) override {
    if (absl::Status inside = CheckInside(offset, bytes); !inside.ok()) return inside;
    // The descriptor was writable, so the mapping may be. The arena is whole pages.
    const uint64_t first = offset / page_bytes_ * page_bytes_;
    const uint64_t end = (offset + bytes + page_bytes_ - 1) / page_bytes_ * page_bytes_;
    if (::mprotect(At(first), end - first, PROT_READ | PROT_WRITE) != 0) {
      return absl::ErrnoToStatus(
          errno, absl::StrCat("cannot make ", bytes, " bytes at ", offset,
                              " of the device arena of generation ", generation_, " writable"));
    }
    return absl::OkStatus();
  }
  std::span<std::byte> Writable(uint64_t offset, uint64_t bytes) override {
    if (!CheckInside(offset, bytes).ok()) return {};
    return {At(offset), bytes};
  }
  absl::Status CopyOut(std::span<std::byte> to, uint64_t offset) override {
    if (absl::Status inside = CheckInside(offset, to.size()); !inside.ok()) return inside;
    if (!to.empty()) std::memcpy(to.data(), At(offset), to.size());
    return absl::OkStatus();
  }
  absl::Status CopyIn(uint64_t offset, std::span<const std::byte> from) override {
    if (absl::Status inside = CheckInside(offset, from.size()); !inside.ok()) return inside;
    if (!from.empty()) std::memcpy(At(offset), from.data(), from.size());
    return absl::OkStatus();
  }

 private:
  std::byte* At(uint64_t offset) const {
    return static_cast<std::byte*>(region_.get_address()) + offset;
  }
  absl::Status CheckInside(uint64_t offset, uint64_t bytes) const {
    if (offset <= region_.get_size() && bytes <= region_.get_size() - offset) {
      return absl::OkStatus();
    }
    return absl::InvalidArgumentError(
        absl::StrCat(bytes, " bytes at ", offset, " are outside the device arena of generation ",
                     generation_, ", which has ", region_.get_size()));
  }

  bip::mapped_region region_;
  uint64_t generation_;
  uint64_t page_bytes_;
};

class HostArenaWitness final : public ArenaWitness {
 public:
  HostArenaWitness(UniqueFd fd, bool sealed) : fd_(std::move(fd)), sealed_(sealed) {}

  int fd() const override { return fd_.get(); }

  absl::StatusOr<uint64_t> BytesInUse() const override {
    if (freed_) return 0;
    struct stat info;
    if (::fstat(fd_.get(), &info) != 0) {
      return absl::ErrnoToStatus(errno, "cannot tell how much of a device arena is in use");
    }
    return static_cast<uint64_t>(info.st_blocks) * kStatBlockBytes;
  }

  Verdict Confirm() override {
    if (freed_) return Verdict::kFreed;
    if (!sealed_) {
      // Where somebody else has sealed it already, the kernel would not look
      // at the mappings again: its yes would mean nothing.
      const int seals = ::fcntl(fd_.get(), F_GET_SEALS);
      if (seals < 0 || (seals & F_SEAL_WRITE) != 0) return Verdict::kUnknown;
      if (::fcntl(fd_.get(), F_ADD_SEALS, F_SEAL_WRITE) != 0) {
        return errno == EBUSY ? Verdict::kStillMapped : Verdict::kUnknown;
      }
      sealed_ = true;
    }
    // Nothing maps it now. A stray descriptor would keep the pages all the
    // same, so they are taken from the file.
    if (::ftruncate(fd_.get(), 0) != 0) return Verdict::kUnknown;
    const absl::StatusOr<uint64_t> left = BytesInUse();
    if (!left.ok()) return Verdict::kUnknown;
    if (*left != 0) return Verdict::kDriverHeld;
    freed_ = true;
    fd_.reset();
    return Verdict::kFreed;
  }

  std::vector<pid_t> Holders() const override {
    return freed_ ? std::vector<pid_t>() : FindMappingHolders(fd_.get());
  }

  std::string_view source() const override { return "F_SEAL_WRITE + st_blocks"; }

 private:
  UniqueFd fd_;
  bool sealed_;
  bool freed_ = false;
};

}  // namespace

std::unique_ptr<Device> CreateHostDevice(uint64_t capacity_bytes, bool huge_pages) {
  return std::make_unique<HostDevice>(capacity_bytes, huge_pages);
}

absl::StatusOr<std::unique_ptr<ImportedArena>> ImportHostArena(ArenaExport arena) {
  if (absl::Status status = CheckExport(arena); !status.ok()) return status;
  // The descriptor is writable, the mapping is not; both on purpose.
  absl::StatusOr<bip::mapped_region> region = Map(arena.fd.get(), arena.bytes, bip::read_only);
  if (!region.ok()) return region.status();
  return std::make_unique<ImportedHostArena>(*std::move(region), arena.generation,
                                             MappingPageBytes(arena.fd.get()));
}

absl::StatusOr<std::unique_ptr<ArenaWitness>> WitnessHostArena(ArenaExport arena,
                                                               bool asked_before) {
  if (absl::Status status = CheckExport(arena, asked_before); !status.ok()) return status;
  const int seals = ::fcntl(arena.fd.get(), F_GET_SEALS);
  const bool sealed = asked_before && seals >= 0 && (seals & F_SEAL_WRITE) != 0;
  return std::make_unique<HostArenaWitness>(std::move(arena.fd), sealed);
}

}  // namespace baton::ipc
