// What generations hold, on the host device and on a GPU that nobody has.
#include "runtime/supervisor/device_ledger.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace baton::runtime {
namespace {

using ipc::cuda::ArenaDescription;
using ipc::cuda::GpuSurvey;
using ::testing::ElementsAre;

constexpr uint64_t kBytes = 1 << 20;
const ipc::ProcessIdentity kOwner{.pid = 11, .start_time = 12};

ipc::cuda::Uuid Device(unsigned char first) {
  ipc::cuda::Uuid uuid{};
  uuid.bytes[0] = first;
  return uuid;
}

ipc::ArenaExport CudaArena(uint64_t generation) {
  return {.fd = {}, .token = "a handle", .bytes = kBytes, .generation = generation};
}
ArenaDescription OnCuda(unsigned char device, uint64_t bytes = kBytes) {
  return {
      .kind = ArenaDescription::Kind::kCuda, .device = Device(device), .owner = 1, .bytes = bytes};
}

GpuSurvey Survey(pid_t pid) {
  GpuSurvey survey = ipc::cuda::UnknownSurvey(absl::UnknownError("?"));
  survey.processes = std::vector<GpuSurvey::Process>{{pid, 1}};
  return survey;
}

TEST(DeviceLedgerTest, OfTheHostDeviceTheKernelCounts) {
  const auto device = ipc::CreateHostDevice(kBytes);
  auto arena = *device->CreateArena(kBytes, 1);
  ipc::ArenaExport exported = *arena->Export();
  const auto what = ipc::cuda::DescribeArena(exported);
  ASSERT_TRUE(what.ok()) << what.status();
  EXPECT_EQ(what->kind, ArenaDescription::Kind::kHost);
  EXPECT_EQ(what->bytes, kBytes);
  DeviceLedger ledger;
  ASSERT_TRUE(ledger.Add(std::move(exported), *what, kOwner).ok());
  EXPECT_EQ(ledger.BytesInUse(1), kBytes);
  EXPECT_EQ(ledger.source(), "st_blocks of the arena's memfd");
  EXPECT_FALSE(ledger.Gpu(1).has_value());
  const auto question = ledger.Question(1, false);
  ASSERT_TRUE(question.has_value());
  EXPECT_GE(question->fd, 0);
  EXPECT_FALSE(question->gpu.has_value());
}

TEST(DeviceLedgerTest, OnAGpuAnArenaCountsUntilItIsConfirmedFreed) {
  DeviceLedger ledger;
  ASSERT_TRUE(ledger.Add(CudaArena(1), OnCuda(5), kOwner).ok());
  ASSERT_TRUE(ledger.Add(CudaArena(2), OnCuda(5), kOwner).ok());
  EXPECT_EQ(ledger.BytesInUse(1), kBytes);
  EXPECT_EQ(ledger.BytesInUse(), 2 * kBytes);
  EXPECT_EQ(ledger.peak_bytes(), 2 * kBytes);
  EXPECT_EQ(ledger.source(), "bytes of the exported arenas that are not confirmed freed");
  EXPECT_TRUE(ledger.Watches(1));
  EXPECT_EQ(ledger.Unwatched(1), "");
  ledger.Forget(1);
  EXPECT_EQ(ledger.BytesInUse(), kBytes);
  EXPECT_FALSE(ledger.Question(1, false).has_value());
  ledger.ResetPeak();
  EXPECT_EQ(ledger.peak_bytes(), kBytes);
}

TEST(DeviceLedgerTest, AGpuQuestionCarriesOwnerDeviceAndBaseline) {
  DeviceLedger ledger;
  ASSERT_TRUE(ledger.Add(CudaArena(1), OnCuda(5), kOwner).ok());
  auto question = ledger.Question(1, true);
  ASSERT_TRUE(question && question->gpu);
  EXPECT_EQ(question->bytes, kBytes);
  EXPECT_EQ(question->fd, -1);
  EXPECT_EQ(question->gpu->owner, kOwner);
  EXPECT_EQ(question->gpu->device.bytes[0], 5);
  EXPECT_FALSE(question->gpu->baseline.has_value());
  ledger.TakeBaseline(1, ipc::cuda::UnknownSurvey(absl::UnknownError("?")));
  EXPECT_FALSE(ledger.Question(1, true)->gpu->baseline->processes.ok());
  ledger.TakeBaseline(1, Survey(21));
  ledger.TakeBaseline(1, Survey(22));
  ledger.TakeBaseline(1, ipc::cuda::UnknownSurvey(absl::UnknownError("?")));
  ledger.TakeBaseline(2, Survey(23));
  question = ledger.Question(1, true);
  ASSERT_TRUE(question->gpu->baseline->processes.ok());
  EXPECT_NE(ipc::cuda::FindProcess(*question->gpu->baseline, 22), nullptr);
}

// A worker that ends lets go of its memory before it is gone: asked then, NVML does not name it,
// and counts as free what it had.
TEST(DeviceLedgerTest, OneThatLeavesKeepsTheBaselineOfWhenItServed) {
  DeviceLedger ledger;
  ASSERT_TRUE(ledger.Add(CudaArena(1), OnCuda(5), kOwner).ok());
  const auto baseline_has = [&](pid_t pid) {
    return ipc::cuda::FindProcess(*ledger.Question(1, true)->gpu->baseline, pid) != nullptr;
  };
  ledger.TakeBaseline(1, Survey(kOwner.pid));
  ledger.TakeBaseline(1, Survey(33));  // asked as it crashed
  EXPECT_TRUE(baseline_has(kOwner.pid));
  GpuSurvey both = Survey(kOwner.pid);
  both.processes->push_back({34, 1});
  ledger.TakeBaseline(1, both);
  EXPECT_TRUE(baseline_has(34)) << "while it serves, what is newer counts";
  ledger.Leaving(1);
  both.processes->push_back({35, 1});
  ledger.TakeBaseline(1, both);
  EXPECT_FALSE(baseline_has(35));

  // None of its own yet.
  ASSERT_TRUE(ledger.Add(CudaArena(2), OnCuda(5), {.pid = 51, .start_time = 1}).ok());
  ledger.Leaving(2);
  ledger.TakeBaseline(2, Survey(52));
  EXPECT_FALSE(ledger.HasBaseline(2));
  ledger.TakeBaseline(2, Survey(51));
  EXPECT_TRUE(ledger.HasBaseline(2));

  // Where pids are hidden only that it was told to exit keeps it.
  DeviceLedger hidden;
  ASSERT_TRUE(hidden.Add(CudaArena(1), OnCuda(5), kOwner).ok());
  hidden.TakeBaseline(1, Survey(41));
  hidden.Leaving(1);
  hidden.TakeBaseline(1, Survey(42));
  EXPECT_NE(ipc::cuda::FindProcess(*hidden.Question(1, true)->gpu->baseline, 41), nullptr);
}

// One that dies before NVML was asked about it. Its fronts' contexts were seen with the one before,
// which was visible; how much was free then says nothing of it.
TEST(DeviceLedgerTest, AGenerationThatWasNeverSeenInheritsWhoWas) {
  constexpr ipc::ProcessIdentity kNext{.pid = 31, .start_time = 9};
  constexpr pid_t kFront = 77;
  DeviceLedger ledger;
  ASSERT_TRUE(ledger.Add(CudaArena(1), OnCuda(5), kOwner).ok());
  GpuSurvey survey = Survey(kOwner.pid);
  survey.memory = GpuSurvey::Memory{.total_bytes = 100, .free_bytes = 50};
  survey.processes->push_back({kFront, 3});
  ledger.TakeBaseline(1, survey);
  ASSERT_TRUE(ledger.Add(CudaArena(2), OnCuda(5), kNext).ok());
  EXPECT_FALSE(ledger.HasBaseline(2)) << "none of its own";
  auto baseline = ledger.Question(2, false)->gpu->baseline;
  ASSERT_TRUE(baseline && baseline->processes.ok());
  EXPECT_NE(ipc::cuda::FindProcess(*baseline, kNext.pid), nullptr);
  EXPECT_NE(ipc::cuda::FindProcess(*baseline, kFront), nullptr);
  EXPECT_EQ(ipc::cuda::FindProcess(*baseline, kOwner.pid), nullptr);
  EXPECT_FALSE(baseline->memory.ok());
  // Its own takes the place of that, even one that knows less.
  ledger.TakeBaseline(2, ipc::cuda::UnknownSurvey(absl::UnknownError("?")));
  EXPECT_TRUE(ledger.HasBaseline(2));
  EXPECT_FALSE(ledger.Question(2, false)->gpu->baseline->processes.ok());
  // On another GPU nobody was seen; nor where the worker itself was not.
  ASSERT_TRUE(ledger.Add(CudaArena(3), OnCuda(6), kNext).ok());
  EXPECT_FALSE(ledger.Question(3, false)->gpu->baseline.has_value());
  DeviceLedger hidden;
  ASSERT_TRUE(hidden.Add(CudaArena(1), OnCuda(5), kOwner).ok());
  hidden.TakeBaseline(1, Survey(kFront));
  ASSERT_TRUE(hidden.Add(CudaArena(2), OnCuda(5), kNext).ok());
  EXPECT_FALSE(hidden.Question(2, false)->gpu->baseline.has_value());
}

TEST(DeviceLedgerTest, GenerationsAreFoundByTheirGpu) {
  DeviceLedger ledger;
  ASSERT_TRUE(ledger.Add(CudaArena(1), OnCuda(5), kOwner).ok());
  ASSERT_TRUE(ledger.Add(CudaArena(2), OnCuda(6), kOwner).ok());
  ASSERT_TRUE(ledger.Add(CudaArena(3), OnCuda(5), kOwner).ok());
  EXPECT_THAT(ledger.OnGpu(Device(5)), ElementsAre(1, 3));
  EXPECT_EQ(ledger.Gpu(2)->bytes[0], 6);
}

// Each descriptor of device memory keeps it.
TEST(DeviceLedgerTest, NoDescriptorOfAGpuArenaIsKept) {
  DeviceLedger ledger;
  ipc::ArenaExport arena = CudaArena(1);
  arena.fd.reset(::memfd_create("stands for one", MFD_CLOEXEC));
  const int fd = arena.fd.get();
  ASSERT_GE(fd, 0);
  ASSERT_TRUE(ledger.Add(std::move(arena), OnCuda(5), kOwner).ok());
  EXPECT_EQ(::lseek(fd, 0, SEEK_CUR), -1);
  EXPECT_EQ(ledger.Question(1, false)->fd, -1);
}

TEST(DeviceLedgerTest, A27_AHandleOfAnotherSizeIsRefused) {
  DeviceLedger ledger;
  EXPECT_FALSE(ledger.Add(CudaArena(1), OnCuda(5, kBytes / 2), kOwner).ok());
  EXPECT_FALSE(ledger.Watches(1));
}

}  // namespace
}  // namespace baton::runtime
