// Segments: who may write them, what is left of them, and what happens where
// there is no room (R7, R12).
#include "ipc/segment.h"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "ipc/process.h"

namespace baton::ipc {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kPage = 4096;

// Names in /dev/shm that this process made: other tests run beside this one.
std::set<std::string> OwnNames() {
  std::set<std::string> names;
  const std::unique_ptr<DIR, int (*)(DIR*)> directory(::opendir("/dev/shm"), &::closedir);
  const std::string mine = absl::StrCat(".", ::getpid(), ".");
  while (const dirent* entry = ::readdir(directory.get())) {
    const std::string name = entry->d_name;
    if (name.starts_with("baton.") && name.find(mine) != std::string::npos) names.insert(name);
  }
  return names;
}

// Runs `body` in a forked child; its value is the child's exit code.
int InChild(const std::function<int()>& body) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(body());
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  if (WIFSIGNALED(status)) {
    ADD_FAILURE() << "the child was killed by signal " << WTERMSIG(status);
    return -1;
  }
  return WEXITSTATUS(status);
}

class SegmentOf : public ::testing::TestWithParam<SegmentBacking> {
 protected:
  SegmentHandles Create(uint64_t bytes) {
    absl::StatusOr<SegmentHandles> handles = CreateSegment({.bytes = bytes, .backing = GetParam()});
    EXPECT_TRUE(handles.ok()) << handles.status();
    return handles.ok() ? *std::move(handles) : SegmentHandles{};
  }
  bool memfd() const { return GetParam() == SegmentBacking::kMemfd; }
};

TEST_P(SegmentOf, IsWholePagesReservedAndZero) {
  const SegmentHandles handles = Create(3 * kPage + 1);
  EXPECT_EQ(handles.bytes, 4 * kPage);
  struct stat info {};
  ASSERT_EQ(::fstat(handles.read_write.get(), &info), 0);
  EXPECT_EQ(static_cast<uint64_t>(info.st_size), handles.bytes);
  // Reserved before anybody touched it.
  EXPECT_EQ(static_cast<uint64_t>(info.st_blocks) * 512, handles.bytes);
  const absl::StatusOr<Segment> segment =
      Segment::Map(handles.read_write.get(), handles.bytes, SegmentAccess::kReadWrite);
  ASSERT_TRUE(segment.ok()) << segment.status();
  EXPECT_EQ(segment->bytes(), handles.bytes);
  EXPECT_TRUE(std::all_of(segment->data(), segment->data() + segment->bytes(),
                          [](std::byte b) { return b == std::byte{0}; }));
}

TEST_P(SegmentOf, OneWritesAndTheOtherReads) {
  SegmentHandles handles = Create(kPage);
  absl::StatusOr<Segment> writer =
      Segment::Map(handles.read_write.get(), kPage, SegmentAccess::kReadWrite);
  absl::StatusOr<Segment> reader =
      Segment::Map(handles.read_only.get(), kPage, SegmentAccess::kReadOnly);
  ASSERT_TRUE(writer.ok() && reader.ok());
  // The mappings need no descriptors.
  handles = SegmentHandles{};
  writer->data()[17] = std::byte{42};
  EXPECT_EQ(reader->data()[17], std::byte{42});
}

TEST_P(SegmentOf, TheReadOnlyDescriptorStaysReadOnly) {
  const SegmentHandles handles = Create(kPage);
  const int fd = handles.read_only.get();
  EXPECT_FALSE(Segment::Map(fd, kPage, SegmentAccess::kReadWrite).ok());
  EXPECT_EQ(::mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), MAP_FAILED);
  EXPECT_EQ(errno, EACCES);
  // Nor can a mapping be widened afterwards.
  void* mapped = ::mmap(nullptr, kPage, PROT_READ, MAP_SHARED, fd, 0);
  ASSERT_NE(mapped, MAP_FAILED);
  EXPECT_NE(::mprotect(mapped, kPage, PROT_READ | PROT_WRITE), 0);
  EXPECT_EQ(errno, EACCES);
  ::munmap(mapped, kPage);
  const char byte = 1;
  EXPECT_LT(::pwrite(fd, &byte, 1, 0), 0);
  EXPECT_NE(::ftruncate(fd, 0), 0);
  EXPECT_EQ(::fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
}

TEST_P(SegmentOf, LeavesNoNameAndNoDescriptorToOthers) {
  const SegmentHandles handles = Create(kPage);
  EXPECT_THAT(OwnNames(), ::testing::IsEmpty());
  struct stat info {};
  ASSERT_EQ(::fstat(handles.read_write.get(), &info), 0);
  EXPECT_EQ(info.st_nlink, 0u);
  if (!memfd()) {
    EXPECT_EQ(info.st_mode & 0777, 0600u);
  }
  // R12: exec passes none on.
  EXPECT_NE(::fcntl(handles.read_write.get(), F_GETFD) & FD_CLOEXEC, 0);
  EXPECT_NE(::fcntl(handles.read_only.get(), F_GETFD) & FD_CLOEXEC, 0);
}

// R12: a child that the user's process forks keeps no segment alive.
TEST_P(SegmentOf, IsNotInheritedByFork) {
  const SegmentHandles handles = Create(4 * kPage);
  for (const SegmentAccess access : {SegmentAccess::kReadWrite, SegmentAccess::kReadOnly}) {
    const absl::StatusOr<Segment> segment = Segment::Map(
        access == SegmentAccess::kReadWrite ? handles.read_write.get() : handles.read_only.get(),
        4 * kPage, access);
    ASSERT_TRUE(segment.ok());
    std::byte* data = segment->data();
    unsigned char pages[4];
    ASSERT_EQ(::mincore(data, 4 * kPage, pages), 0) << "the question itself works";
    EXPECT_EQ(InChild([&] {
                for (int i = 0; i < 4; ++i) {
                  if (::mincore(data + i * kPage, kPage, pages) == 0) return 1;
                  if (errno != ENOMEM) return 2;
                }
                return 0;
              }),
              0);
  }
}

TEST_P(SegmentOf, RefusesImpossibleSizes) {
  for (const uint64_t bytes : {uint64_t{0}, (uint64_t{1} << 46) + 1, ~uint64_t{0}}) {
    EXPECT_TRUE(
        absl::IsInvalidArgument(CreateSegment({.bytes = bytes, .backing = GetParam()}).status()))
        << bytes;
  }
}

// Asking for more than there is must not wake the kernel's OOM killer.
TEST_P(SegmentOf, MoreThanThereIsMemoryIsAStatus) {
  const absl::Status status =
      CreateSegment({.bytes = uint64_t{1} << 45, .backing = GetParam()}).status();
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(absl::StrCat(uint64_t{1} << 45)));
  EXPECT_THAT(OwnNames(), ::testing::IsEmpty());
}

TEST_P(SegmentOf, MapRefusesWhatIsTooSmallOrNoFile) {
  const SegmentHandles handles = Create(kPage);
  EXPECT_TRUE(absl::IsInvalidArgument(
      Segment::Map(handles.read_write.get(), kPage + 1, SegmentAccess::kReadWrite).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(
      Segment::Map(handles.read_write.get(), 0, SegmentAccess::kReadWrite).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(Segment::Map(-1, kPage, SegmentAccess::kReadOnly).status()));
}

INSTANTIATE_TEST_SUITE_P(Backings, SegmentOf,
                         ::testing::Values(SegmentBacking::kPosixShm, SegmentBacking::kMemfd),
                         [](const auto& info) {
                           return info.param == SegmentBacking::kMemfd ? "Memfd" : "PosixShm";
                         });

// R7: nobody, its writer included, can cut a memfd short under a reader.
TEST(SegmentMemfd, CannotBeTruncatedGrownOrUnsealed) {
  const absl::StatusOr<SegmentHandles> handles =
      CreateSegment({.bytes = 4 * kPage, .backing = SegmentBacking::kMemfd});
  ASSERT_TRUE(handles.ok());
  const int fd = handles->read_write.get();
  EXPECT_NE(::ftruncate(fd, 0), 0);
  EXPECT_EQ(errno, EPERM);
  EXPECT_NE(::ftruncate(fd, 8 * kPage), 0);
  EXPECT_EQ(errno, EPERM);
  EXPECT_NE(::fallocate(fd, 0, 0, 8 * kPage), 0);
  EXPECT_EQ(::fcntl(fd, F_GET_SEALS) & (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL),
            F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
  // Nor can it be made unwritable under its writer.
  EXPECT_NE(::fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), 0);
}

// ---- A /dev/shm that is too small ---------------------------------------------------------------

// Exit codes of a child with 1 MiB of /dev/shm, all its own.
enum SmallShm : int { kFine = 0, kCannotMount = 77 };

int WithSmallShm(const std::function<int()>& body) {
  return InChild([&] {
    if (::unshare(CLONE_NEWNS) != 0 ||
        ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        ::mount("tmpfs", "/dev/shm", "tmpfs", 0, "size=1m") != 0) {
      return static_cast<int>(kCannotMount);
    }
    return body();
  });
}

// R7: it is an error at open, before a byte is touched, and never a SIGBUS.
TEST(SegmentSmallShm, FailsAtOpenWithWordsThatHelp) {
  const int code = WithSmallShm([] {
    const absl::Status status = CreateSegment({.bytes = 8 << 20}).status();
    if (!absl::IsResourceExhausted(status)) return 1;
    const std::string text(status.message());
    if (text.find("/dev/shm") == std::string::npos || text.find("memfd") == std::string::npos) {
      return 2;
    }
    if (!OwnNames().empty()) return 3;
    // What was reserved for the one that failed is there again: this fits.
    absl::StatusOr<SegmentHandles> fits = CreateSegment({.bytes = 768 << 10});
    if (!fits.ok()) return 4;
    absl::StatusOr<Segment> segment =
        Segment::Map(fits->read_write.get(), fits->bytes, SegmentAccess::kReadWrite);
    if (!segment.ok()) return 5;
    // The file system is full now, and every byte can be written all the same.
    if (!absl::IsResourceExhausted(CreateSegment({.bytes = 512 << 10}).status())) return 6;
    std::fill(segment->data(), segment->data() + segment->bytes(), std::byte{1});
    return static_cast<int>(kFine);
  });
  if (code == kCannotMount) GTEST_SKIP() << "this needs the right to mount";
  EXPECT_EQ(code, kFine);
}

TEST(SegmentSmallShm, AMemfdDoesNotCountAgainstIt) {
  const int code = WithSmallShm([] {
    return CreateSegment({.bytes = 8 << 20, .backing = SegmentBacking::kMemfd}).ok()
               ? static_cast<int>(kFine)
               : 1;
  });
  if (code == kCannotMount) GTEST_SKIP() << "this needs the right to mount";
  EXPECT_EQ(code, kFine);
}

// ---- Names that the dead left ------------------------------------------------------------------

class SegmentSweep : public ::testing::Test {
 protected:
  ~SegmentSweep() override {
    for (const std::string& path : made_) ::unlink(path.c_str());
  }
  // A name as a maker would have chosen it, were it killed before it took it away.
  std::string Leave(unsigned uid, uint64_t pid_namespace, pid_t pid, uint64_t start_time) {
    std::string path = absl::StrFormat("/dev/shm/baton.%u.%u.%d.%u.0123456789abcdef%016x", uid,
                                       pid_namespace, pid, start_time, made_.size());
    const UniqueFd fd(::open(path.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600));
    EXPECT_TRUE(fd.valid());
    made_.push_back(path);
    return path;
  }
  static bool Exists(const std::string& path) { return ::access(path.c_str(), F_OK) == 0; }
  static uint64_t PidNamespace() {
    struct stat info {};
    EXPECT_EQ(::stat("/proc/self/ns/pid", &info), 0);
    return info.st_ino;
  }
  // A process that was, and is no more.
  static ProcessIdentity DeadProcess() {
    const pid_t child = ::fork();
    if (child == 0) {
      ::pause();
      ::_exit(0);
    }
    const absl::StatusOr<ProcessIdentity> identity = ProcessIdentity::Of(child);
    EXPECT_TRUE(identity.ok());
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    return identity.value_or(ProcessIdentity{});
  }

  std::vector<std::string> made_;
};

TEST_F(SegmentSweep, TakesTheNamesOfTheDeadAndNoOther) {
  const ProcessIdentity dead = DeadProcess();
  const ProcessIdentity self = *ProcessIdentity::Of(::getpid());
  const uint64_t here = PidNamespace();
  const std::string stale = Leave(::getuid(), here, dead.pid, dead.start_time);
  const std::string live = Leave(::getuid(), here, self.pid, self.start_time);
  // R5: a pid alone says nothing. This one is in use again, by us.
  const std::string reused = Leave(::getuid(), here, self.pid, self.start_time - 1);
  const std::string another_user = Leave(::getuid() + 1, here, dead.pid, dead.start_time);
  const std::string another_namespace = Leave(::getuid(), here + 1, dead.pid, dead.start_time);
  const std::string foreign = "/dev/shm/baton-is-a-word";
  const UniqueFd fd(::open(foreign.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600));
  made_.push_back(foreign);

  SweepStaleSegments();
  EXPECT_FALSE(Exists(stale));
  EXPECT_FALSE(Exists(reused));
  EXPECT_TRUE(Exists(live));
  EXPECT_TRUE(Exists(another_user));
  EXPECT_TRUE(Exists(another_namespace));
  EXPECT_TRUE(Exists(foreign));
}

// The name that Create uses is one that a sweep would understand: kill a maker
// inside Create, and see it swept.
TEST_F(SegmentSweep, KnowsTheNamesThatCreateMakes) {
  // The name is there for microseconds: caught in the act, in a child that makes
  // segments until it is killed.
  const pid_t child = ::fork();
  if (child == 0) {
    for (;;) static_cast<void>(CreateSegment({.bytes = kPage}));
  }
  const absl::StatusOr<ProcessIdentity> identity = ProcessIdentity::Of(child);
  ASSERT_TRUE(identity.ok());
  const std::string start = absl::StrFormat("baton.%u.%u.%d.%u.", ::getuid(), PidNamespace(), child,
                                            identity->start_time);
  bool seen = false;
  while (!seen) {
    const std::unique_ptr<DIR, int (*)(DIR*)> directory(::opendir("/dev/shm"), &::closedir);
    while (const dirent* entry = ::readdir(directory.get())) {
      seen = seen || std::string(entry->d_name).starts_with(start);
    }
  }
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  SweepStaleSegments();
  const std::unique_ptr<DIR, int (*)(DIR*)> directory(::opendir("/dev/shm"), &::closedir);
  while (const dirent* entry = ::readdir(directory.get())) {
    EXPECT_FALSE(std::string(entry->d_name).starts_with(start)) << entry->d_name;
  }
}

}  // namespace
}  // namespace baton::ipc
