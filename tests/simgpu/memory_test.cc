// Capacity, contexts, and what is left of processes that end or are killed.
#include <dlfcn.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "ipc/cuda/driver_abi.h"
#include "ipc/cuda/nvml_abi.h"
#include "tests/simgpu/sim_gpu.h"
#include "tests/simgpu/sim_process.h"

namespace baton::testing {
namespace {

using ipc::cuda::Context;
using ipc::cuda::DevicePtr;
using ipc::cuda::kInvalidContext;
using ipc::cuda::kInvalidValue;
using ipc::cuda::kNotInitialized;
using ipc::cuda::kOutOfMemory;
using ipc::cuda::kSuccess;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Pair;
using ::testing::UnorderedElementsAre;

constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr SimGpuOptions kSmall = {.capacity_bytes = 64 * kMiB, .context_bytes = 10 * kMiB};

TEST(SimGpuLibraries, ExportEverySymbolOfTheTables) {
  const SimGpu gpu;
  const std::string folder = gpu.Variables()["LD_LIBRARY_PATH"];
  const std::string libraries = folder.substr(0, folder.find(':'));
  void* const cuda = ::dlopen((libraries + "/libcuda.so.1").c_str(), RTLD_NOW);
  ASSERT_NE(cuda, nullptr) << ::dlerror();
#define BATON_EXPECT_SYMBOL(member, symbol, ...) \
  EXPECT_NE(::dlsym(cuda, symbol), nullptr) << symbol;
  BATON_CUDA_DRIVER_FUNCTIONS(BATON_EXPECT_SYMBOL)
#undef BATON_EXPECT_SYMBOL
  void* const nvml = ::dlopen((libraries + "/libnvidia-ml.so.1").c_str(), RTLD_NOW);
  ASSERT_NE(nvml, nullptr) << ::dlerror();
#define BATON_EXPECT_SYMBOL(member, symbol, ...) \
  EXPECT_NE(::dlsym(nvml, symbol), nullptr) << symbol;
  BATON_NVML_FUNCTIONS(BATON_EXPECT_SYMBOL)
#undef BATON_EXPECT_SYMBOL
}

TEST(SimGpuLibraries, AreFoundByAProgramWithTheEnvironment) {
  const SimGpu gpu;
  std::string command = "env";
  for (const std::string& variable : gpu.Environment()) command += " '" + variable + "'";
  command += " '" BATON_DRIVER_PROBE "'";
  std::FILE* const output = ::popen(command.c_str(), "r");
  ASSERT_NE(output, nullptr);
  char seen[200] = {};
  EXPECT_NE(std::fgets(seen, sizeof(seen), output), nullptr);
  EXPECT_EQ(::pclose(output), 0);
  const std::string uuid = ipc::cuda::UuidText(gpu.uuid());
  EXPECT_EQ(seen, uuid + " " + uuid);
}

// The driver's own order: nothing before cuInit, little without a context.
TEST(SimGpuLibraries, RefuseCallsBeforeTheirTime) {
  const SimGpu gpu(kSmall);
  SimProcess process(gpu, [](Link&) {
    void* const library = ::dlopen("libcuda.so.1", RTLD_NOW);
    ASSERT_NE(library, nullptr);
    const auto count = reinterpret_cast<int (*)(int*)>(::dlsym(library, "cuDeviceGetCount"));
    int devices = 0;
    EXPECT_EQ(count(&devices), kNotInitialized);
    EXPECT_EQ(Cuda()->DeviceGetCount(&devices), kSuccess);
    EXPECT_EQ(devices, 1);
    DevicePtr address = 0;
    EXPECT_EQ(Cuda()->MemAlloc(&address, 1), kInvalidContext);
    UseContext();
    EXPECT_EQ(Cuda()->MemAlloc(&address, 1), kSuccess);
    EXPECT_EQ(Cuda()->DevicePrimaryCtxRelease(0), kSuccess);
    EXPECT_EQ(Cuda()->MemFree(address), kInvalidContext);  // the context has ended
  });
  process.Join();
}

TEST(SimGpuLibraries, WithoutAMachineThereIsNoDevice) {
  const SimGpu gpu(kSmall);
  SimProcess process(gpu, [](Link&) {
    ::unsetenv("BATON_SIMGPU");
    const auto driver = ipc::cuda::Driver::Get();
    EXPECT_EQ(driver.status().code(), absl::StatusCode::kUnavailable);
    EXPECT_FALSE(ipc::cuda::Nvml::Get().ok());
  });
  process.Join();
}

TEST(SimGpuMemory, IsAccountedInGranulesAndEnds) {
  const SimGpu gpu(kSmall);
  SimProcess process(gpu, [](Link& link) {
    UseContext();
    EXPECT_EQ(FreeBytes(), 54 * kMiB);
    const DevicePtr small = MustAlloc(1);
    EXPECT_EQ(FreeBytes(), 52 * kMiB);
    DevicePtr large = 0;
    EXPECT_EQ(Cuda()->MemAlloc(&large, 52 * kMiB + 1), kOutOfMemory);
    EXPECT_EQ(Cuda()->MemAlloc(&large, 52 * kMiB), kSuccess);
    EXPECT_EQ(FreeBytes(), 0u);
    DevicePtr one_more = 0;
    EXPECT_EQ(Cuda()->MemAlloc(&one_more, 1), kOutOfMemory);
    link.Send("full");
    link.Receive();
    EXPECT_EQ(Cuda()->MemFree(large), kSuccess);
    EXPECT_EQ(Cuda()->MemFree(large), kInvalidValue);
    EXPECT_EQ(FreeBytes(), 52 * kMiB);
    EXPECT_EQ(Cuda()->MemFree(small), kSuccess);
  });
  ASSERT_EQ(process.link().Receive(), "full");
  EXPECT_EQ(gpu.BytesInUse(), 54 * kMiB);
  EXPECT_EQ(gpu.ContextBytes(), 10 * kMiB);
  EXPECT_THAT(gpu.Holders(), ElementsAre(Pair(process.pid(), 64 * kMiB)));
  ASSERT_EQ(gpu.Allocations().size(), 2u);
  EXPECT_EQ(gpu.Allocations()[0].bytes, 2 * kMiB);
  EXPECT_THAT(gpu.Allocations()[1].holders, ElementsAre(process.pid()));
  process.link().Send("go on");
  process.Join();
  EXPECT_EQ(gpu.BytesInUse(), 0u);
  EXPECT_EQ(gpu.ContextBytes(), 0u);
  EXPECT_EQ(gpu.PeakBytes(), 54 * kMiB);
}

TEST(SimGpuMemory, PrimaryContextIsPaidOncePerProcess) {
  const SimGpu gpu(kSmall);
  SimProcess process(gpu, [&gpu](Link&) {
    Context first = nullptr;
    Context second = nullptr;
    EXPECT_EQ(Cuda()->DevicePrimaryCtxRetain(&first, 0), kSuccess);
    EXPECT_EQ(Cuda()->DevicePrimaryCtxRetain(&second, 0), kSuccess);
    EXPECT_EQ(first, second);
    EXPECT_EQ(gpu.ContextBytes(), 10 * kMiB);
    EXPECT_EQ(Cuda()->CtxSetCurrent(first), kSuccess);
    MustAlloc(2 * kMiB);
    EXPECT_EQ(Cuda()->DevicePrimaryCtxRelease(0), kSuccess);
    EXPECT_EQ(gpu.ContextBytes(), 10 * kMiB);
    EXPECT_EQ(gpu.BytesInUse(), 2 * kMiB);
    EXPECT_EQ(Cuda()->DevicePrimaryCtxRelease(0), kSuccess);
    EXPECT_EQ(gpu.ContextBytes(), 0u);
    EXPECT_EQ(gpu.BytesInUse(), 0u);  // what was allocated in it went with it
    EXPECT_EQ(Cuda()->DevicePrimaryCtxRelease(0), kInvalidContext);
  });
  process.Join();
}

TEST(SimGpuMemory, ContextThatDoesNotFitIsRefused) {
  SimGpu gpu(kSmall);
  gpu.SetKnob("foreign_bytes", 55 * kMiB);
  SimProcess process(gpu, [](Link&) {
    Context context = nullptr;
    EXPECT_EQ(Cuda()->DevicePrimaryCtxRetain(&context, 0), kOutOfMemory);
  });
  process.Join();
}

TEST(SimGpuMemory, ProcessesShareOneCapacity) {
  const SimGpu gpu(kSmall);
  SimProcess holder(gpu, [](Link& link) {
    UseContext();
    MustAlloc(20 * kMiB);
    link.Send("holding");
    link.Receive();
  });
  ASSERT_EQ(holder.link().Receive(), "holding");
  SimProcess other(gpu, [&holder](Link& link) {
    UseContext();
    EXPECT_EQ(FreeBytes(), 24 * kMiB);
    DevicePtr address = 0;
    EXPECT_EQ(Cuda()->MemAlloc(&address, 26 * kMiB), kOutOfMemory);
    link.Send("refused");
    link.Receive();
    EXPECT_EQ(FreeBytes(), 54 * kMiB);
    EXPECT_EQ(Cuda()->MemAlloc(&address, 26 * kMiB), kSuccess);
  });
  ASSERT_EQ(other.link().Receive(), "refused");
  holder.Kill();
  other.link().Send("try again");
  other.Join();
}

TEST(SimGpuMemory, OfAKilledProcessIsFree) {
  const SimGpu gpu(kSmall);
  SimProcess process(gpu, [](Link& link) {
    UseContext();
    MustAlloc(20 * kMiB);
    link.Send("holding");
    link.Receive();
  });
  ASSERT_EQ(process.link().Receive(), "holding");
  EXPECT_EQ(gpu.BytesInUse(), 20 * kMiB);
  process.Kill();
  EXPECT_EQ(gpu.BytesInUse(), 0u);
  EXPECT_EQ(gpu.ContextBytes(), 0u);
  EXPECT_THAT(gpu.Holders(), IsEmpty());
}

TEST(SimGpuMemory, OfAProcessThatExitsWithoutFreeingIsFree) {
  const SimGpu gpu(kSmall);
  SimProcess process(gpu, [](Link&) {
    UseContext();
    MustAlloc(20 * kMiB);
  });
  process.Join();
  EXPECT_EQ(gpu.BytesInUse(), 0u);
  EXPECT_EQ(gpu.PeakBytes(), 20 * kMiB);
}

// A stopped process has what it has: nobody may take it for dead.
TEST(SimGpuMemory, OfAStoppedProcessStays) {
  const SimGpu gpu(kSmall);
  SimProcess process(gpu, [](Link& link) {
    UseContext();
    MustAlloc(20 * kMiB);
    link.Send("holding");
    link.Receive();
  });
  ASSERT_EQ(process.link().Receive(), "holding");
  ::kill(process.pid(), SIGSTOP);
  int status = 0;
  ASSERT_EQ(::waitpid(process.pid(), &status, WUNTRACED), process.pid());
  EXPECT_EQ(gpu.BytesInUse(), 20 * kMiB);
  process.Kill();
  EXPECT_EQ(gpu.BytesInUse(), 0u);
}

// As with a real driver: a child that was forked, and did not exec, has the
// parent's descriptors and keeps the memory.
TEST(SimGpuMemory, IsKeptByAForkedChild) {
  const SimGpu gpu(kSmall);
  SimProcess process(gpu, [](Link& link) {
    UseContext();
    MustAlloc(20 * kMiB);
    const pid_t child = ::fork();
    if (child == 0) {
      size_t free = 0;
      size_t total = 0;
      const bool refused = Cuda()->MemGetInfo(&free, &total) == kNotInitialized;
      link.Send(refused ? "refused" : "not refused");
      link.Receive();
      ::_exit(0);
    }
    link.SendValue(child);
    ::pause();
  });
  pid_t child = 0;
  for (int i = 0; i < 2; ++i) {
    const std::string said = process.link().Receive();
    if (said.size() == sizeof(child)) {
      said.copy(reinterpret_cast<char*>(&child), sizeof(child));
    } else {
      EXPECT_EQ(said, "refused");
    }
  }
  const pid_t owner = process.pid();
  process.Kill();
  EXPECT_EQ(gpu.BytesInUse(), 20 * kMiB);
  EXPECT_THAT(gpu.Holders(), ElementsAre(Pair(owner, 30 * kMiB)));
  ASSERT_GT(child, 0);
  process.link().Close();  // ends it
  while (gpu.BytesInUse() != 0) ::usleep(1000);
}

TEST(SimGpuMemory, HasDevicesOfItsOwn) {
  SimGpu gpu(kSmall);
  gpu.SetKnob("device_count", 2);
  SimProcess process(gpu, [](Link&) {
    UseContext(0);
    MustAlloc(40 * kMiB);
    UseContext(1);
    EXPECT_EQ(FreeBytes(), 54 * kMiB);
    MustAlloc(40 * kMiB);
    EXPECT_EQ(FreeBytes(), 14 * kMiB);
    ipc::cuda::Uuid first{};
    ipc::cuda::Uuid second{};
    EXPECT_EQ(Cuda()->DeviceGetUuid(&first, 0), kSuccess);
    EXPECT_EQ(Cuda()->DeviceGetUuid(&second, 1), kSuccess);
    EXPECT_NE(ipc::cuda::UuidText(first), ipc::cuda::UuidText(second));
    EXPECT_EQ(Cuda()->DeviceGetUuid(&second, 2), ipc::cuda::kInvalidDevice);
  });
  process.Join();
}

TEST(SimGpuTeardown, HoldsWhatNobodyHoldsUntilItIsLetGo) {
  SimGpu gpu(kSmall);
  gpu.SetKnob("hold_teardown", 1);
  SimProcess process(gpu, [](Link& link) {
    UseContext();
    MustAlloc(20 * kMiB);
    link.Send("holding");
    link.Receive();
  });
  ASSERT_EQ(process.link().Receive(), "holding");
  const pid_t dead = process.pid();
  process.Kill();
  EXPECT_EQ(gpu.BytesInUse(), 20 * kMiB);
  ASSERT_EQ(gpu.Allocations().size(), 1u);
  EXPECT_TRUE(gpu.Allocations()[0].tearing_down);
  EXPECT_THAT(gpu.Allocations()[0].holders, IsEmpty());
  EXPECT_THAT(gpu.Holders(), ElementsAre(Pair(dead, 30 * kMiB)));
  SimProcess other(gpu, [dead](Link& link) {
    UseContext();
    EXPECT_EQ(FreeBytes(), 24 * kMiB);
    const auto device = Management().DeviceAt(0);
    const auto processes = Management().ProcessesOf(*device);
    bool listed = false;
    for (const auto& use : *processes) listed |= use.pid == dead && use.bytes == 30 * kMiB;
    EXPECT_TRUE(listed);
    EXPECT_EQ(Management().MemoryOf(*device)->free_bytes, 24 * kMiB);
    link.Send("seen");
    link.Receive();
    EXPECT_EQ(FreeBytes(), 54 * kMiB);
  });
  ASSERT_EQ(other.link().Receive(), "seen");
  gpu.ClearKnob("hold_teardown");
  EXPECT_EQ(gpu.BytesInUse(), 0u);
  other.link().Send("go on");
  other.Join();
}

TEST(SimGpuTeardown, OfFreedMemoryIsNobodys) {
  SimGpu gpu(kSmall);
  gpu.SetKnob("hold_teardown", 1);
  SimProcess process(gpu, [](Link&) {
    UseContext();
    EXPECT_EQ(Cuda()->MemFree(MustAlloc(20 * kMiB)), kSuccess);
    EXPECT_EQ(Cuda()->DevicePrimaryCtxRelease(0), kSuccess);
  });
  process.Join();
  EXPECT_EQ(gpu.BytesInUse(), 20 * kMiB);
  EXPECT_THAT(gpu.Holders(), IsEmpty());
}

TEST(SimGpuTeardown, CanSpareWhatWasFreed) {
  SimGpu gpu(kSmall);
  gpu.SetKnob("hold_teardown", 1);
  gpu.SetKnob("teardown_dead_only", 1);
  SimProcess process(gpu, [&gpu](Link&) {
    UseContext();
    EXPECT_EQ(Cuda()->MemFree(MustAlloc(20 * kMiB)), kSuccess);
    EXPECT_EQ(gpu.BytesInUse(), 0u);
    MustAlloc(4 * kMiB);
  });
  process.Join();
  EXPECT_EQ(gpu.BytesInUse(), 4 * kMiB);
}

TEST(SimGpuTeardown, LastsFromWhenItIsNoticed) {
  SimGpu gpu(kSmall);
  gpu.SetKnob("teardown_ms", 3'600'000);
  SimProcess process(gpu, [](Link&) {
    UseContext();
    MustAlloc(20 * kMiB);
  });
  process.Join();
  EXPECT_EQ(gpu.BytesInUse(), 20 * kMiB);
  gpu.SetKnob("teardown_ms", 1);
  while (gpu.BytesInUse() != 0) ::usleep(1000);
}

}  // namespace
}  // namespace baton::testing
