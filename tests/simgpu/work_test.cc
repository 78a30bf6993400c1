// What one process does on the device: copies, streams, events, host memory,
// kernels, faults.
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

#include "ipc/cuda/driver_abi.h"
#include "tests/simgpu/demo_kernels.h"
#include "tests/simgpu/sim_gpu.h"
#include "tests/simgpu/sim_process.h"

namespace baton::testing {
namespace {

using ipc::cuda::DevicePtr;
using ipc::cuda::Event;
using ipc::cuda::Function;
using ipc::cuda::kHostMemoryAlreadyRegistered;
using ipc::cuda::kHostMemoryNotRegistered;
using ipc::cuda::kIllegalAddress;
using ipc::cuda::kInvalidHandle;
using ipc::cuda::kInvalidImage;
using ipc::cuda::kInvalidValue;
using ipc::cuda::kNotFound;
using ipc::cuda::kNotReady;
using ipc::cuda::kNotSupported;
using ipc::cuda::kOutOfMemory;
using ipc::cuda::kStreamNonBlocking;
using ipc::cuda::kSuccess;
using ipc::cuda::Module;
using ipc::cuda::Stream;

constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr SimGpuOptions kSmall = {.capacity_bytes = 64 * kMiB, .context_bytes = 10 * kMiB};

void RunProcess(const SimGpu& gpu, const std::function<void(Link&)>& body) {
  SimProcess(gpu, body).Join();
}

Stream NewStream(unsigned flags) {
  Stream stream = nullptr;
  EXPECT_EQ(Cuda()->StreamCreate(&stream, flags), kSuccess);
  return stream;
}

TEST(SimGpuCopy, ChecksItsRanges) {
  const SimGpu gpu(kSmall);
  RunProcess(gpu, [](Link&) {
    UseContext();
    const DevicePtr address = MustAlloc(1000);
    std::string bytes(1001, 'b');
    EXPECT_EQ(Cuda()->MemcpyHtoD(address, bytes.data(), 1000), kSuccess);
    EXPECT_EQ(Cuda()->MemcpyHtoD(address, bytes.data(), 1001), kInvalidValue);
    EXPECT_EQ(Cuda()->MemcpyHtoD(address + 1, bytes.data(), 1000), kInvalidValue);
    EXPECT_EQ(Cuda()->MemcpyDtoH(bytes.data(), address, 1001), kInvalidValue);
    EXPECT_EQ(Cuda()->MemsetD8(address + 999, 1, 2), kInvalidValue);
    const DevicePtr other = MustAlloc(2000);
    EXPECT_EQ(Cuda()->MemcpyDtoD(other, address, 1000), kSuccess);
    EXPECT_EQ(Cuda()->MemcpyDtoD(other, address, 1001), kInvalidValue);
    EXPECT_EQ(Download(other, 1000), std::string(1000, 'b'));
    EXPECT_EQ(Cuda()->MemsetD8(other, 'm', 500), kSuccess);
    EXPECT_EQ(Download(other + 499, 2), "mb");
    // A device address is no host pointer, and the other way round.
    EXPECT_EQ(Cuda()->MemcpyHtoD(other, reinterpret_cast<const void*>(address), 10), kInvalidValue);
    EXPECT_EQ(Cuda()->MemcpyDtoD(other, reinterpret_cast<DevicePtr>(bytes.data()), 10),
              kInvalidValue);
  });
}

TEST(SimGpuCopy, DeviceAddressesAreNoPointers) {
  const SimGpu gpu(kSmall);
  RunProcess(gpu, [](Link&) {
    UseContext();
    const DevicePtr address = MustAlloc(1000);
    const pid_t child = ::fork();
    if (child == 0) {
      if (std::freopen("/dev/null", "w", stderr) == nullptr)
        ::_exit(0);  // what a sanitizer says of it
      *reinterpret_cast<volatile char*>(address) = 1;
      ::_exit(0);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_FALSE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  });
}

TEST(SimGpuStream, RunsNothingBeforeItIsWaitedFor) {
  const SimGpu gpu(kSmall);
  RunProcess(gpu, [](Link&) {
    UseContext();
    const DevicePtr address = MustAlloc(8);
    Upload(address, "original");
    const Stream stream = NewStream(kStreamNonBlocking);
    void* pinned = nullptr;
    ASSERT_EQ(Cuda()->MemHostAlloc(&pinned, 8, 0), kSuccess);
    std::memcpy(pinned, "too late", 8);
    EXPECT_EQ(Cuda()->MemcpyHtoDAsync(address, pinned, 8, stream), kSuccess);
    std::string seen(8, '?');
    EXPECT_EQ(Cuda()->MemcpyDtoHAsync(seen.data(), address, 8, stream), kSuccess);
    std::memcpy(pinned, "replaced", 8);  // nobody has read it yet
    EXPECT_EQ(seen, "????????");
    EXPECT_EQ(Download(address, 8), "original");  // the NULL stream does not wait for it
    EXPECT_EQ(Cuda()->StreamSynchronize(stream), kSuccess);
    EXPECT_EQ(seen, "replaced");
    EXPECT_EQ(Cuda()->MemsetD8Async(address, 'x', 8, stream), kSuccess);
    EXPECT_EQ(Download(address, 8), "replaced");
    EXPECT_EQ(Cuda()->CtxSynchronize(), kSuccess);
    EXPECT_EQ(Download(address, 8), "xxxxxxxx");
    EXPECT_EQ(Cuda()->MemsetD8Async(address, 'y', 8, stream), kSuccess);
    EXPECT_EQ(Cuda()->StreamQuery(stream), kSuccess);
    EXPECT_EQ(Download(address, 8), "yyyyyyyy");
    EXPECT_EQ(Cuda()->StreamDestroy(stream), kSuccess);
    EXPECT_EQ(Cuda()->StreamSynchronize(stream), kInvalidHandle);
  });
}

TEST(SimGpuStream, NullStreamWaitsForBlockingOnes) {
  const SimGpu gpu(kSmall);
  RunProcess(gpu, [](Link&) {
    UseContext();
    const DevicePtr address = MustAlloc(1);
    const Stream blocking = NewStream(0);
    EXPECT_EQ(Cuda()->MemsetD8Async(address, 'b', 1, blocking), kSuccess);
    EXPECT_EQ(Download(address, 1), "b");
    EXPECT_EQ(Cuda()->MemsetD8Async(address, 'n', 1, nullptr), kSuccess);
    EXPECT_EQ(Download(address, 1), "n");
  });
}

// From pageable memory a driver reads before it returns.
TEST(SimGpuStream, PageableSourceMayBeReused) {
  const SimGpu gpu(kSmall);
  RunProcess(gpu, [](Link&) {
    UseContext();
    const DevicePtr address = MustAlloc(4);
    const Stream stream = NewStream(kStreamNonBlocking);
    std::string text = "good";
    EXPECT_EQ(Cuda()->MemcpyHtoDAsync(address, text.data(), 4, stream), kSuccess);
    text = "evil";
    EXPECT_EQ(Cuda()->StreamSynchronize(stream), kSuccess);
    EXPECT_EQ(Download(address, 4), "good");
  });
}

TEST(SimGpuStream, EventIsDoneWithTheWorkBeforeIt) {
  SimGpu gpu(kSmall);
  RunProcess(gpu, [&gpu](Link&) {
    UseContext();
    const DevicePtr address = MustAlloc(2);
    const Stream stream = NewStream(kStreamNonBlocking);
    Event event = nullptr;
    ASSERT_EQ(Cuda()->EventCreate(&event, ipc::cuda::kEventDisableTiming), kSuccess);
    EXPECT_EQ(Cuda()->EventQuery(event), kSuccess);  // never recorded
    EXPECT_EQ(Cuda()->MemsetD8Async(address, '1', 2, stream), kSuccess);
    EXPECT_EQ(Cuda()->EventRecord(event, stream), kSuccess);
    EXPECT_EQ(Cuda()->MemsetD8Async(address, '2', 1, stream), kSuccess);
    EXPECT_EQ(Cuda()->EventSynchronize(event), kSuccess);
    EXPECT_EQ(Download(address, 2), "11");
    EXPECT_EQ(Cuda()->StreamSynchronize(stream), kSuccess);
    EXPECT_EQ(Download(address, 2), "21");
    gpu.SetKnob("slow_queries", 1);
    EXPECT_EQ(Cuda()->MemsetD8Async(address, '3', 2, stream), kSuccess);
    EXPECT_EQ(Cuda()->EventRecord(event, stream), kSuccess);
    EXPECT_EQ(Cuda()->EventQuery(event), kNotReady);
    EXPECT_EQ(Cuda()->EventQuery(event), kSuccess);
    EXPECT_EQ(Cuda()->EventDestroy(event), kSuccess);
    EXPECT_EQ(Cuda()->EventDestroy(event), kInvalidHandle);
  });
}

TEST(SimGpuHostMemory, IsRegisteredOnce) {
  const SimGpu gpu(kSmall);
  RunProcess(gpu, [](Link&) {
    UseContext();
    const size_t bytes = 4 * 4096;
    char* const memory = static_cast<char*>(
        ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    DevicePtr seen = 0;
    EXPECT_EQ(Cuda()->MemHostGetDevicePointer(&seen, memory, 0), kInvalidValue);
    EXPECT_EQ(Cuda()->MemHostUnregister(memory), kHostMemoryNotRegistered);
    EXPECT_EQ(Cuda()->MemHostRegister(memory, bytes, ipc::cuda::kHostRegisterDeviceMap), kSuccess);
    EXPECT_EQ(Cuda()->MemHostRegister(memory + 4096, 4096, 0), kHostMemoryAlreadyRegistered);
    EXPECT_EQ(Cuda()->MemHostGetDevicePointer(&seen, memory + 5, 0), kSuccess);
    // The device writes into it as into its own.
    const DevicePtr address = MustAlloc(4);
    Upload(address, "text");
    EXPECT_EQ(Cuda()->MemcpyDtoD(seen, address, 4), kSuccess);
    EXPECT_EQ(std::string(memory + 5, 4), "text");
    EXPECT_EQ(Cuda()->MemFreeHost(memory), kInvalidValue);
    EXPECT_EQ(Cuda()->MemHostUnregister(memory), kSuccess);
    EXPECT_EQ(Cuda()->MemcpyDtoD(seen, address, 4), kInvalidValue);
    // What the processor may only read has to be registered as such.
    ASSERT_EQ(::mprotect(memory, bytes, PROT_READ), 0);
    EXPECT_EQ(Cuda()->MemHostRegister(memory, bytes, 0), kInvalidValue);
    EXPECT_EQ(Cuda()->MemHostRegister(memory, bytes, ipc::cuda::kHostRegisterReadOnly), kSuccess);
    EXPECT_EQ(Cuda()->MemcpyDtoD(address, reinterpret_cast<DevicePtr>(memory), 4), kSuccess);
    EXPECT_EQ(Cuda()->MemcpyDtoD(reinterpret_cast<DevicePtr>(memory), address, 4), kInvalidValue);
    EXPECT_EQ(Cuda()->MemHostUnregister(memory), kSuccess);
    ASSERT_EQ(::munmap(memory, bytes), 0);
    EXPECT_EQ(Cuda()->MemHostRegister(memory, bytes, 0), kInvalidValue);
  });
}

TEST(SimGpuHostMemory, IsAllocatedAndFreed) {
  const SimGpu gpu(kSmall);
  RunProcess(gpu, [](Link&) {
    UseContext();
    void* memory = nullptr;
    ASSERT_EQ(Cuda()->MemHostAlloc(&memory, 10000, ipc::cuda::kHostAllocPortable), kSuccess);
    std::memset(memory, 'h', 10000);
    EXPECT_EQ(Cuda()->MemHostUnregister(memory), kHostMemoryNotRegistered);
    EXPECT_EQ(Cuda()->MemFreeHost(memory), kSuccess);
    EXPECT_EQ(Cuda()->MemFreeHost(memory), kInvalidValue);
  });
}

Function Kernel(const char* name) {
  Module module = nullptr;
  Function function = nullptr;
  EXPECT_EQ(Cuda()->ModuleLoadData(&module, "any image"), kSuccess);
  EXPECT_EQ(Cuda()->ModuleGetFunction(&function, module, name), kSuccess);
  return function;
}

template <typename Args>
ipc::cuda::Result Launch(Function function, Args args, Stream stream) {
  void* parameters[] = {&args};
  return Cuda()->LaunchKernel(function, 1, 1, 1, 32, 1, 1, 0, stream, parameters, nullptr);
}

TEST(SimGpuKernel, RunsOnTheHost) {
  SimGpu gpu(kSmall);
  gpu.SetKnob("kernel_library", BATON_DEMO_KERNELS);
  RunProcess(gpu, [](Link&) {
    UseContext();
    const DevicePtr numbers = MustAlloc(4 * sizeof(int32_t));
    ASSERT_EQ(Cuda()->MemsetD8(numbers, 0, 4 * sizeof(int32_t)), kSuccess);
    const Stream stream = NewStream(kStreamNonBlocking);
    const Function add = Kernel("baton_demo_add");
    EXPECT_EQ(Launch(add, DemoAddArgs{.numbers = numbers, .count = 4, .summand = 5}, stream),
              kSuccess);
    EXPECT_EQ(Launch(add, DemoAddArgs{.numbers = numbers + 4, .count = 2, .summand = 7}, stream),
              kSuccess);
    int32_t seen[4] = {-1, -1, -1, -1};
    EXPECT_EQ(Cuda()->MemcpyDtoH(seen, numbers, sizeof(seen)), kSuccess);
    EXPECT_EQ(seen[0], 0);  // not run yet
    EXPECT_EQ(Cuda()->StreamSynchronize(stream), kSuccess);
    EXPECT_EQ(Cuda()->MemcpyDtoH(seen, numbers, sizeof(seen)), kSuccess);
    EXPECT_EQ(seen[0], 5);
    EXPECT_EQ(seen[1], 12);
    EXPECT_EQ(seen[2], 12);
    EXPECT_EQ(seen[3], 5);
    EXPECT_EQ(Launch(Kernel("baton_demo_fill"),
                     DemoFillArgs{.bytes = numbers, .count = 16, .value = 1}, nullptr),
              kSuccess);
    EXPECT_EQ(Cuda()->MemcpyDtoH(seen, numbers, sizeof(seen)), kSuccess);
    EXPECT_EQ(seen[3], 0x01010101);
    Module module = nullptr;
    Function function = nullptr;
    ASSERT_EQ(Cuda()->ModuleLoadData(&module, "any image"), kSuccess);
    EXPECT_EQ(Cuda()->ModuleGetFunction(&function, module, "no such kernel"), kNotFound);
    EXPECT_EQ(Cuda()->ModuleUnload(module), kSuccess);
    EXPECT_EQ(Cuda()->ModuleUnload(module), kInvalidHandle);
  });
}

TEST(SimGpuKernel, WildAccessEndsTheContext) {
  SimGpu gpu(kSmall);
  gpu.SetKnob("kernel_library", BATON_DEMO_KERNELS);
  RunProcess(gpu, [](Link&) {
    UseContext();
    const DevicePtr numbers = MustAlloc(16);
    const Stream stream = NewStream(kStreamNonBlocking);
    EXPECT_EQ(Launch(Kernel("baton_demo_add"), DemoAddArgs{.numbers = numbers, .count = 5}, stream),
              kSuccess);
    EXPECT_EQ(Cuda()->StreamSynchronize(stream), kIllegalAddress);
    DevicePtr other = 0;
    EXPECT_EQ(Cuda()->MemAlloc(&other, 1), kIllegalAddress);
    // Another context is another life.
    EXPECT_EQ(Cuda()->DevicePrimaryCtxRelease(0), kSuccess);
    UseContext();
    MustAlloc(1);
  });
}

TEST(SimGpuKernel, FailsWhereItIsToldTo) {
  SimGpu gpu(kSmall);
  gpu.SetKnob("kernel_library", BATON_DEMO_KERNELS);
  gpu.SetKnob("fault.baton_demo_fill", ipc::cuda::kLaunchFailure);
  RunProcess(gpu, [](Link&) {
    UseContext();
    const Stream stream = NewStream(0);
    EXPECT_EQ(Launch(Kernel("baton_demo_fill"), DemoFillArgs{}, stream), kSuccess);
    EXPECT_EQ(Cuda()->StreamSynchronize(stream), ipc::cuda::kLaunchFailure);
  });
}

TEST(SimGpuFaults, CallFailsWhileItsKnobIsSet) {
  SimGpu gpu(kSmall);
  RunProcess(gpu, [&gpu](Link&) {
    UseContext();
    gpu.SetKnob("fail.cuMemAlloc_v2", kOutOfMemory);
    gpu.SetKnob("fail.cuModuleLoadData", kInvalidImage);
    DevicePtr address = 0;
    EXPECT_EQ(Cuda()->MemAlloc(&address, 1), kOutOfMemory);
    EXPECT_EQ(gpu.BytesInUse(), 0u);
    Module module = nullptr;
    EXPECT_EQ(Cuda()->ModuleLoadData(&module, "image"), kInvalidImage);
    gpu.ClearKnob("fail.cuMemAlloc_v2");
    EXPECT_EQ(Cuda()->MemAlloc(&address, 1), kSuccess);
  });
}

TEST(SimGpuFaults, CallHangsWhileItsKnobIsSet) {
  SimGpu gpu(kSmall);
  SimProcess process(gpu, [](Link& link) {
    UseContext();
    link.Send("ready");
    link.Receive();
    MustAlloc(1);  // does not return
    link.Send("allocated");
    link.Receive();
  });
  ASSERT_EQ(process.link().Receive(), "ready");
  gpu.SetKnob("hang.cuMemAlloc_v2", 1);
  process.link().Send("go on");
  SimProcess other(gpu, [](Link& link) {
    UseContext();  // others are not held up
    link.Send("done");
  });
  ASSERT_EQ(other.link().Receive(), "done");
  EXPECT_EQ(gpu.BytesInUse(), 0u);
  gpu.ClearKnob("hang.cuMemAlloc_v2");
  EXPECT_EQ(process.link().Receive(), "allocated");
  EXPECT_EQ(gpu.BytesInUse(), 2 * kMiB);
}

TEST(SimGpuFaults, DeviceIsAsTheKnobsSay) {
  SimGpu gpu(kSmall);
  gpu.SetKnob("driver_version", 12040);
  gpu.SetKnob("device_name", "Some GPU");
  gpu.SetKnob("vmm_supported", uint64_t{0});
  RunProcess(gpu, [&gpu](Link&) {
    EXPECT_EQ(Cuda().version(), 12040);
    char name[64] = {};
    EXPECT_EQ(Cuda()->DeviceGetName(name, sizeof(name), 0), kSuccess);
    EXPECT_STREQ(name, "Some GPU");
    int value = -1;
    EXPECT_EQ(Cuda()->DeviceGetAttribute(&value, ipc::cuda::kAttributeComputeCapabilityMajor, 0),
              kSuccess);
    EXPECT_EQ(value, 9);
    EXPECT_EQ(Cuda()->DeviceGetAttribute(&value, ipc::cuda::kAttributeVmmSupported, 0), kSuccess);
    EXPECT_EQ(value, 0);
    ipc::cuda::AllocationHandle handle = 0;
    ipc::cuda::AllocationProp prop{};
    EXPECT_EQ(Cuda()->MemCreate(&handle, 2 * kMiB, &prop, 0), kNotSupported);
    ipc::cuda::Uuid uuid{};
    EXPECT_EQ(Cuda()->DeviceGetUuid(&uuid, 0), kSuccess);
    EXPECT_EQ(ipc::cuda::UuidText(uuid), ipc::cuda::UuidText(gpu.uuid()));
  });
  SimGpu empty(kSmall);
  empty.SetKnob("device_count", uint64_t{0});
  RunProcess(empty, [](Link&) {
    EXPECT_EQ(ipc::cuda::Driver::Get().status().code(), absl::StatusCode::kUnavailable);
  });
}

// Any thread may call; the current context is each thread's own.
TEST(SimGpuStream, ServesThreads) {
  const SimGpu gpu(kSmall);
  RunProcess(gpu, [](Link&) {
    UseContext();
    DevicePtr address = 0;
    EXPECT_EQ(Cuda()->MemAlloc(&address, 16), kSuccess);
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([address, i] {
        EXPECT_EQ(Cuda()->MemsetD8(address, 0, 1), ipc::cuda::kInvalidContext);
        UseContext();
        const Stream stream = NewStream(kStreamNonBlocking);
        for (int round = 0; round < 50; ++round) {
          const auto value = static_cast<unsigned char>(i * 50 + round);
          EXPECT_EQ(Cuda()->MemsetD8Async(address + 4 * i, value, 4, stream), kSuccess);
          EXPECT_EQ(Cuda()->StreamSynchronize(stream), kSuccess);
          EXPECT_EQ(Download(address + 4 * i, 4), std::string(4, static_cast<char>(value)));
          EXPECT_EQ(Cuda()->MemFree(MustAlloc(1)), kSuccess);
        }
        EXPECT_EQ(Cuda()->StreamDestroy(stream), kSuccess);
      });
    }
    for (std::thread& thread : threads) thread.join();
  });
}

}  // namespace
}  // namespace baton::testing
