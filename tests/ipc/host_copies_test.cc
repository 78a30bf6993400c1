// Copies of files to the host device, and back.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <memory>
#include <vector>

#include "ipc/device.h"
#include "ipc/unique_fd.h"

namespace baton::ipc {
namespace {

constexpr uint64_t kMiB = 1 << 20;

std::vector<std::byte> Pattern(size_t bytes) {
  std::vector<std::byte> pattern(bytes);
  for (size_t i = 0; i < bytes; ++i) pattern[i] = static_cast<std::byte>(i * 131 + (i >> 12));
  return pattern;
}

UniqueFd FileOf(const std::vector<std::byte>& bytes) {
  UniqueFd file(::memfd_create("weights", MFD_CLOEXEC));
  EXPECT_EQ(::write(file.get(), bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
  return file;
}

TEST(HostCopies, APartOfAFileLandsWhereItWasAskedForAndComesBack) {
  const std::unique_ptr<Device> device = CreateHostDevice(16 * kMiB);
  const auto arena = device->CreateArena(8 * kMiB, 1);
  ASSERT_TRUE(arena.ok());
  const std::vector<std::byte> bytes = Pattern(5 * kMiB + 77);
  const UniqueFd file = FileOf(bytes);
  const uint64_t to = (*arena)->address() + 4099;
  ASSERT_TRUE(device->CopyFileToDevice(to, file.get(), 1001, 5 * kMiB - 1001).ok());
  std::vector<std::byte> expected(8 * kMiB);
  std::copy(bytes.begin() + 1001, bytes.begin() + 5 * kMiB, expected.begin() + 4099);
  EXPECT_EQ(std::memcmp(reinterpret_cast<void*>((*arena)->address()), expected.data(), 8 * kMiB),
            0);
  std::vector<std::byte> back(5 * kMiB - 1001);
  ASSERT_TRUE(device->CopyFromDevice(back, to).ok());
  EXPECT_EQ(std::memcmp(back.data(), bytes.data() + 1001, back.size()), 0);
  EXPECT_EQ(::lseek(file.get(), 0, SEEK_CUR), static_cast<off_t>(bytes.size()))
      << "the file's own position is nobody's business";
}

TEST(HostCopies, NothingGoesOverAnArenasEnd) {
  const std::unique_ptr<Device> device = CreateHostDevice(16 * kMiB);
  const auto arena = device->CreateArena(kMiB, 1);
  ASSERT_TRUE(arena.ok());
  const UniqueFd file = FileOf(Pattern(kMiB));
  std::vector<std::byte> back(4096);
  const uint64_t late = (*arena)->address() + kMiB - 4095;
  EXPECT_TRUE(absl::IsInvalidArgument(device->CopyFileToDevice(late, file.get(), 0, 4096)));
  EXPECT_TRUE(absl::IsInvalidArgument(device->CopyFromDevice(back, late)));
  EXPECT_TRUE(absl::IsInvalidArgument(device->CopyFromDevice(back, 0)));
}

TEST(HostCopies, AFileThatEndsTooEarlyIsDataLoss) {
  const std::unique_ptr<Device> device = CreateHostDevice(16 * kMiB);
  const auto arena = device->CreateArena(4 * kMiB, 1);
  ASSERT_TRUE(arena.ok());
  const UniqueFd file = FileOf(Pattern(kMiB));
  EXPECT_TRUE(
      absl::IsDataLoss(device->CopyFileToDevice((*arena)->address(), file.get(), 0, 2 * kMiB)));
}

}  // namespace
}  // namespace baton::ipc
