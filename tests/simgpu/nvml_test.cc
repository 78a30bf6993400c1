// NVML's answers, and its ways of not answering.
#include "ipc/cuda/nvml.h"

#include <unistd.h>

#include <map>
#include <optional>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "ipc/cuda/nvml_abi.h"
#include "tests/simgpu/sim_gpu.h"
#include "tests/simgpu/sim_process.h"

namespace baton::testing {
namespace {

using ipc::cuda::NvmlDevice;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Pair;
using ::testing::UnorderedElementsAre;

constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr SimGpuOptions kSmall = {.capacity_bytes = 64 * kMiB, .context_bytes = 10 * kMiB};

NvmlDevice FirstDevice() { return *Management().DeviceAt(0); }

std::map<pid_t, std::optional<uint64_t>> Processes() {
  std::map<pid_t, std::optional<uint64_t>> processes;
  const auto uses = Management().ProcessesOf(FirstDevice());
  EXPECT_TRUE(uses.ok());
  for (const auto& use : *uses) processes[use.pid] = use.bytes;
  return processes;
}

void RunProcess(const SimGpu& gpu, const std::function<void(Link&)>& body) {
  SimProcess(gpu, body).Join();
}

TEST(SimGpuNvml, CountsMemoryAndProcesses) {
  SimGpu gpu(kSmall);
  gpu.SetKnob("foreign_bytes", 4 * kMiB);
  gpu.SetKnob("foreign_pid", 77);
  SimProcess holder(gpu, [](Link& link) {
    UseContext();
    MustAlloc(3 * kMiB);
    link.Send("holding");
    link.Receive();
  });
  ASSERT_EQ(holder.link().Receive(), "holding");
  RunProcess(gpu, [&](Link&) {
    const auto memory = Management().MemoryOf(FirstDevice());
    ASSERT_TRUE(memory.ok());
    EXPECT_EQ(memory->total_bytes, 64 * kMiB);
    EXPECT_EQ(memory->free_bytes, 46 * kMiB);
    EXPECT_THAT(Processes(),
                UnorderedElementsAre(Pair(77, 4 * kMiB), Pair(holder.pid(), 14 * kMiB)));
    EXPECT_EQ(gpu.ContextBytes(), 10 * kMiB);  // asking costs no context
    gpu.SetKnob("used_unknown", 1);
    EXPECT_THAT(Processes(),
                UnorderedElementsAre(Pair(77, std::nullopt), Pair(holder.pid(), std::nullopt)));
    gpu.SetKnob("nvml_hide_pids", 1);
    EXPECT_THAT(Processes(), IsEmpty());
    EXPECT_EQ(Management().MemoryOf(FirstDevice())->free_bytes, 46 * kMiB);
    gpu.SetKnob("memory_unknown", 1);
    EXPECT_FALSE(Management().MemoryOf(FirstDevice()).ok());
  });
}

TEST(SimGpuNvml, SaysWhenTheListIsTooShort) {
  SimGpu gpu(kSmall);
  gpu.SetKnob("foreign_bytes", 4 * kMiB);
  RunProcess(gpu, [](Link&) {
    unsigned count = 0;
    EXPECT_EQ(Management()->DeviceGetComputeRunningProcesses(FirstDevice(), &count, nullptr),
              ipc::cuda::kNvmlInsufficientSize);
    EXPECT_EQ(count, 1u);
  });
}

TEST(SimGpuNvml, FindsDevices) {
  SimGpu gpu(kSmall);
  gpu.SetKnob("nvml_driver_version", "570.1");
  RunProcess(gpu, [&gpu](Link&) {
    EXPECT_EQ(*Management().DeviceCount(), 1u);
    EXPECT_FALSE(Management().DeviceAt(1).ok());
    EXPECT_EQ(*Management().Find(gpu.uuid()), FirstDevice());
    EXPECT_EQ(*Management().UuidOf(FirstDevice()), ipc::cuda::UuidText(gpu.uuid()));
    EXPECT_EQ(Management().Find(ipc::cuda::Uuid{}).status().code(), absl::StatusCode::kNotFound);
    EXPECT_EQ(*Management().DriverVersion(), "570.1");
    EXPECT_FALSE(*Management().MigEnabled(FirstDevice()));
    gpu.SetKnob("mig_enabled", 1);
    EXPECT_TRUE(*Management().MigEnabled(FirstDevice()));
    gpu.SetKnob("mig_supported", uint64_t{0});
    EXPECT_FALSE(*Management().MigEnabled(FirstDevice()));
  });
}

TEST(SimGpuNvml, Fails) {
  SimGpu gpu(kSmall);
  RunProcess(gpu, [&gpu](Link&) {
    const NvmlDevice device = FirstDevice();
    gpu.SetKnob("nvml_fail", ipc::cuda::kNvmlGpuIsLost);
    EXPECT_EQ(Management().MemoryOf(device).status().code(), absl::StatusCode::kUnavailable);
    gpu.ClearKnob("nvml_fail");
    gpu.SetKnob("fail.nvmlDeviceGetMemoryInfo", ipc::cuda::kNvmlNoPermission);
    EXPECT_EQ(Management().MemoryOf(device).status().code(), absl::StatusCode::kPermissionDenied);
    EXPECT_TRUE(Management().ProcessesOf(device).ok());
  });
}

TEST(SimGpuNvml, Hangs) {
  SimGpu gpu(kSmall);
  SimProcess process(gpu, [](Link& link) {
    const NvmlDevice device = FirstDevice();
    link.Send("ready");
    link.Receive();
    link.Send("asking");
    EXPECT_TRUE(Management().MemoryOf(device).ok());
    link.Send("answered");
  });
  ASSERT_EQ(process.link().Receive(), "ready");
  gpu.SetKnob("nvml_hang", 1);
  process.link().Send("go on");
  ASSERT_EQ(process.link().Receive(), "asking");
  // A driver that hangs holds nobody up who does not ask it.
  RunProcess(gpu, [](Link&) {
    UseContext();
    MustAlloc(1);
  });
  EXPECT_FALSE(process.link().HasMessage());
  gpu.ClearKnob("nvml_hang");
  EXPECT_EQ(process.link().Receive(), "answered");
  process.Join();
}

}  // namespace
}  // namespace baton::testing
