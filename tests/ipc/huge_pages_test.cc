// Segments and arenas on huge pages. What a machine has of them is its own matter: whatever it has,
// what is said is what the kernel says, and where there are none, all else is as ever.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

#include "ipc/device.h"
#include "ipc/memory_file.h"
#include "ipc/open_device.h"
#include "ipc/segment.h"
#include "tests/ipc/mapping_pages.h"

namespace baton::ipc {
namespace {

using ::baton::testing::AllMappingPages;
using ::baton::testing::MappingPages;
using ::baton::testing::MeminfoValue;
using ::baton::testing::PagesAt;

constexpr uint64_t kPage = 4096;
constexpr uint64_t kMiB = 1 << 20;

uint64_t RoundUp(uint64_t bytes, uint64_t step) { return (bytes + step - 1) / step * step; }
uint64_t FreeHugetlbBytes() { return MeminfoValue("HugePages_Free") * HugePageBytes(); }

// More than the machine may ever have of them.
uint64_t MoreThanAllHugetlbBytes() {
  uint64_t overcommit = 0;
  std::ifstream("/proc/sys/vm/nr_overcommit_hugepages") >> overcommit;
  return (MeminfoValue("HugePages_Total") + overcommit + 1) * HugePageBytes();
}

// A file of such pages, as long as it is said to be, without one.
UniqueFd HugetlbFileWithoutPages(uint64_t bytes) {
  UniqueFd fd(::memfd_create("baton-test", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB));
  EXPECT_TRUE(fd.valid()) << "this kernel has no hugetlb files: " << std::strerror(errno);
  EXPECT_EQ(::ftruncate(fd.get(), static_cast<off_t>(bytes)), 0);
  return fd;
}

std::vector<std::byte> Pattern(size_t bytes) {
  std::vector<std::byte> pattern(bytes);
  for (size_t i = 0; i < bytes; ++i) pattern[i] = static_cast<std::byte>(i * 131 >> 3);
  return pattern;
}

// Runs `body` in a forked child to which the kernel gives no transparent huge page; its value is
// the child's exit code.
int WithoutTransparentHugePages(const std::function<int()>& body) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(::prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) == 0 ? body() : 100);
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

// ---- Segments ----------------------------------------------------------------------------------

class SegmentOnHugePages : public ::testing::TestWithParam<uint64_t> {
 protected:
  const uint64_t asked_ = GetParam();
  const uint64_t free_before_ = FreeHugetlbBytes();
  absl::StatusOr<SegmentHandles> handles_ =
      CreateSegment({.bytes = asked_, .backing = SegmentBacking::kMemfd, .huge_pages = true});
};

TEST_P(SegmentOnHugePages, SaysWhatTheKernelSays) {
  ASSERT_TRUE(handles_.ok()) << handles_.status();
  const absl::StatusOr<Segment> segment =
      Segment::Map(handles_->read_write.get(), asked_, SegmentAccess::kReadWrite);
  ASSERT_TRUE(segment.ok()) << segment.status();
  const std::optional<MappingPages> pages = PagesAt(segment->data());
  ASSERT_TRUE(pages);
  EXPECT_EQ(pages->kind(HugePageBytes()), handles_->pages)
      << pages->kernel_page_bytes << " bytes, " << pages->huge_mapped_bytes << " transparently";
  if (free_before_ >= RoundUp(asked_, HugePageBytes())) {
    EXPECT_EQ(handles_->pages, PageKind::kHugetlb);
  }
}

TEST_P(SegmentOnHugePages, IsReservedZeroSealedAndReadOnlyForTheOther) {
  ASSERT_TRUE(handles_.ok()) << handles_.status();
  const uint64_t page = handles_->pages == PageKind::kHugetlb ? HugePageBytes() : kPage;
  EXPECT_EQ(handles_->bytes, RoundUp(asked_, page));
  struct stat info {};
  ASSERT_EQ(::fstat(handles_->read_write.get(), &info), 0);
  EXPECT_EQ(static_cast<uint64_t>(info.st_size), handles_->bytes);
  EXPECT_GE(static_cast<uint64_t>(info.st_blocks) * 512,
            handles_->bytes);  // nothing to be had later
  EXPECT_NE(::ftruncate(handles_->read_write.get(), 0), 0);
  EXPECT_EQ(errno, EPERM);
  EXPECT_FALSE(Segment::Map(handles_->read_only.get(), asked_, SegmentAccess::kReadWrite).ok());
  const absl::StatusOr<Segment> writer =
      Segment::Map(handles_->read_write.get(), asked_, SegmentAccess::kReadWrite);
  const absl::StatusOr<Segment> reader =
      Segment::Map(handles_->read_only.get(), asked_, SegmentAccess::kReadOnly);
  ASSERT_TRUE(writer.ok() && reader.ok());
  const auto zeros = std::count(writer->data(), writer->data() + asked_, std::byte{0});
  EXPECT_EQ(static_cast<uint64_t>(zeros), asked_);
  const std::vector<std::byte> pattern = Pattern(asked_);
  std::copy(pattern.begin(), pattern.end(), writer->data());
  EXPECT_TRUE(std::equal(pattern.begin(), pattern.end(), reader->data()));
}

// The kernel refuses to unmap a part of a huge page.
TEST_P(SegmentOnHugePages, LeavesNoMappingBehind) {
  ASSERT_TRUE(handles_.ok()) << handles_.status();
  for (const SegmentAccess access : {SegmentAccess::kReadWrite, SegmentAccess::kReadOnly}) {
    const int fd = access == SegmentAccess::kReadWrite ? handles_->read_write.get()
                                                       : handles_->read_only.get();
    static_cast<void>(Segment::Map(fd, asked_, access));
  }
  for (const MappingPages& mapping : AllMappingPages()) {
    EXPECT_EQ(mapping.name.find("baton-segment"), std::string::npos) << mapping.name;
  }
}

INSTANTIATE_TEST_SUITE_P(Sizes, SegmentOnHugePages,
                         ::testing::Values(100 * 1024, 4 * kMiB, 5 * kMiB + 1));

TEST(HugePages, WithoutAnySegmentsAreOnNormalOnes) {
  const uint64_t bytes = MoreThanAllHugetlbBytes();
  const uint64_t total = MeminfoValue("HugePages_Total");
  const uint64_t free = MeminfoValue("HugePages_Free");
  EXPECT_EQ(WithoutTransparentHugePages([bytes] {
              const absl::StatusOr<SegmentHandles> handles = CreateSegment(
                  {.bytes = bytes, .backing = SegmentBacking::kMemfd, .huge_pages = true});
              if (!handles.ok()) return 1;
              if (handles->pages != PageKind::kNormal || handles->bytes != bytes) return 2;
              const absl::StatusOr<Segment> segment =
                  Segment::Map(handles->read_write.get(), bytes, SegmentAccess::kReadWrite);
              if (!segment.ok()) return 3;
              std::fill(segment->data(), segment->data() + bytes, std::byte{1});
              const std::optional<MappingPages> pages = PagesAt(segment->data());
              return pages && pages->kind(HugePageBytes()) == PageKind::kNormal ? 0 : 4;
            }),
            0);
  // What was taken of the few before they did not suffice was given back.
  EXPECT_EQ(MeminfoValue("HugePages_Total"), total);
  EXPECT_EQ(MeminfoValue("HugePages_Free"), free);
}

TEST(HugePages, AreNotOfDevShm) {
  EXPECT_TRUE(absl::IsInvalidArgument(
      CreateSegment({.bytes = kMiB, .backing = SegmentBacking::kPosixShm, .huge_pages = true})
          .status()));
}

// A peer may send what nothing was reserved for: that is an error, and no SIGBUS later.
TEST(HugePages, AFileThatHasNoneIsNotMapped) {
  const uint64_t bytes = MoreThanAllHugetlbBytes();
  const UniqueFd fd = HugetlbFileWithoutPages(bytes);
  const absl::Status status = Segment::Map(fd.get(), bytes, SegmentAccess::kReadWrite).status();
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  EXPECT_TRUE(absl::IsInvalidArgument(
      Segment::Map(fd.get(), bytes + 1, SegmentAccess::kReadWrite).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(
      Segment::Map(fd.get(), ~uint64_t{0}, SegmentAccess::kReadWrite).status()));
}

// ---- Arenas of the host device -----------------------------------------------------------------

class ArenaOnHugePages : public ::testing::Test {
 protected:
  void Create(uint64_t bytes) {
    free_before_ = FreeHugetlbBytes();
    absl::StatusOr<std::unique_ptr<Device>> device =
        OpenDevice({.name = "host", .huge_pages = true}, 64 * kMiB);
    ASSERT_TRUE(device.ok()) << device.status();
    device_ = *std::move(device);
    absl::StatusOr<std::unique_ptr<DeviceArena>> arena = device_->CreateArena(bytes, 7);
    ASSERT_TRUE(arena.ok()) << arena.status();
    arena_ = *std::move(arena);
  }
  std::unique_ptr<ArenaWitness> Witness() {
    auto witness = WitnessHostArena(*arena_->Export());
    EXPECT_TRUE(witness.ok()) << witness.status();
    return *std::move(witness);
  }

  const uint64_t huge_ = HugePageBytes();
  uint64_t free_before_ = 0;
  std::unique_ptr<Device> device_;
  std::unique_ptr<DeviceArena> arena_;
};

TEST_F(ArenaOnHugePages, SaysWhatTheKernelSays) {
  const absl::StatusOr<DeviceProfile> profile = ProbeDevice({.name = "host", .huge_pages = true});
  ASSERT_TRUE(profile.ok()) << profile.status();
  EXPECT_EQ(profile->granularity_bytes, huge_);
  Create(3 * huge_);
  auto* const data = reinterpret_cast<std::byte*>(arena_->address());
  std::fill_n(data, arena_->bytes(), std::byte{1});
  const std::optional<MappingPages> pages = PagesAt(data);
  ASSERT_TRUE(pages);
  EXPECT_EQ(pages->kind(huge_), arena_->page_kind());
  if (free_before_ >= 3 * huge_) {
    EXPECT_EQ(arena_->page_kind(), PageKind::kHugetlb);
  }
}

TEST_F(ArenaOnHugePages, WithoutThemAllIsAsEver) {
  const uint64_t odd = huge_ + kPage;  // a mapping of hugetlb pages could not have this size
  Create(odd);
  EXPECT_NE(arena_->page_kind(), PageKind::kHugetlb);
  EXPECT_EQ(arena_->bytes(), odd);
  EXPECT_EQ(WithoutTransparentHugePages([odd] {
              auto arena = CreateHostDevice(odd, /*huge_pages=*/true)->CreateArena(odd, 1);
              return arena.ok() && (*arena)->page_kind() == PageKind::kNormal ? 0 : 1;
            }),
            0);
}

TEST_F(ArenaOnHugePages, IsCopiedToReadAndImported) {
  Create(3 * huge_);
  const uint64_t address = arena_->address();
  auto imported = ImportHostArena(*arena_->Export());
  ASSERT_TRUE(imported.ok()) << imported.status();
  const std::span<const std::byte> seen = (*imported)->bytes();
  ASSERT_EQ(seen.size(), 3 * huge_);

  const std::vector<std::byte> large = Pattern(huge_ + 4097);
  ASSERT_TRUE(device_->CopyToDevice(address + 333, large).ok());
  EXPECT_TRUE(std::equal(large.begin(), large.end(), seen.begin() + 333));
  const UniqueFd file(::memfd_create("weights", MFD_CLOEXEC));
  ASSERT_EQ(::write(file.get(), large.data(), large.size()), static_cast<ssize_t>(large.size()));
  ASSERT_TRUE(device_->CopyFileToDevice(address + huge_ + 77, file.get(), 5, huge_).ok());
  EXPECT_TRUE(std::equal(large.begin() + 5, large.begin() + 5 + static_cast<long>(huge_),
                         seen.begin() + static_cast<long>(huge_) + 77));
  std::vector<std::byte> back(large.size());
  ASSERT_TRUE(device_->CopyFromDevice(back, address + huge_ + 77).ok());
  EXPECT_TRUE(std::equal(back.begin(), back.begin() + static_cast<long>(huge_), large.begin() + 5));
  EXPECT_EQ(device_->CopyFileToDevice(address, file.get(), 0, large.size() + 1).code(),
            absl::StatusCode::kDataLoss);

  ASSERT_TRUE((*imported)->AllowWrites(2 * huge_ + kPage, kPage).ok());
  ASSERT_TRUE((*imported)->CopyIn(2 * huge_ + kPage, std::span(large).first(kPage)).ok());
  EXPECT_EQ(std::memcmp(reinterpret_cast<void*>(address + 2 * huge_ + kPage), large.data(), kPage),
            0);
}

TEST_F(ArenaOnHugePages, IsConfirmedFreedOnceNothingMapsIt) {
  Create(2 * huge_);
  const uint64_t free = FreeHugetlbBytes();
  const uint64_t hugetlb_bytes = arena_->page_kind() == PageKind::kHugetlb ? 2 * huge_ : 0;
  const std::unique_ptr<ArenaWitness> witness = Witness();
  EXPECT_EQ(*witness->BytesInUse(), 2 * huge_);
  auto imported = ImportHostArena(*arena_->Export());
  ASSERT_TRUE(imported.ok()) << imported.status();
  arena_.reset();
  EXPECT_EQ(witness->Confirm(), ArenaWitness::Verdict::kStillMapped);
  EXPECT_EQ(witness->Holders(), std::vector<pid_t>{::getpid()});
  imported->reset();
  EXPECT_EQ(witness->Confirm(), ArenaWitness::Verdict::kFreed);
  EXPECT_EQ(*witness->BytesInUse(), 0u);
  EXPECT_EQ(FreeHugetlbBytes(), free + hugetlb_bytes);
}

TEST_F(ArenaOnHugePages, AnExportThatCouldNotBeUnmappedIsRefused) {
  for (const uint64_t bytes : {huge_ - kPage, huge_ + kPage}) {
    UniqueFd fd = HugetlbFileWithoutPages(2 * huge_);
    ASSERT_EQ(::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_GROW), 0);
    const absl::Status status =
        ImportHostArena({.fd = std::move(fd), .token = {}, .bytes = bytes, .generation = 1})
            .status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  }
}

}  // namespace
}  // namespace baton::ipc
