// Memory that more than one process holds: legacy IPC and VMM descriptors.
#include <sys/wait.h>
#include <unistd.h>

#include <string>
#include <utility>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "ipc/cuda/driver_abi.h"
#include "tests/simgpu/sim_gpu.h"
#include "tests/simgpu/sim_process.h"

namespace baton::testing {
namespace {

using ipc::UniqueFd;
using ipc::cuda::AccessDesc;
using ipc::cuda::AllocationHandle;
using ipc::cuda::AllocationProp;
using ipc::cuda::DevicePtr;
using ipc::cuda::IpcMemHandle;
using ipc::cuda::kInvalidContext;
using ipc::cuda::kInvalidHandle;
using ipc::cuda::kInvalidValue;
using ipc::cuda::kIpcLazyEnablePeerAccess;
using ipc::cuda::kNotSupported;
using ipc::cuda::kSuccess;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Pair;

constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr SimGpuOptions kSmall = {.capacity_bytes = 64 * kMiB, .context_bytes = 10 * kMiB};
constexpr size_t kSlab = 4 * kMiB;
constexpr char kText[] = "what the exporter wrote";
const std::string& Text() {
  static const std::string* const text = new std::string(kText);
  return *text;
}

// Allocates, writes Text(), tells the handle, waits; frees if told "free".
void Export(Link& link) {
  UseContext();
  const DevicePtr address = MustAlloc(kSlab);
  Upload(address + 100, Text());
  IpcMemHandle handle{};
  EXPECT_EQ(Cuda()->IpcGetMemHandle(&handle, address), kSuccess);
  link.SendValue(handle);
  if (link.Receive() != "free") return;
  EXPECT_EQ(Cuda()->MemFree(address), kSuccess);
  link.Send("freed");
  link.Receive();
}

// Opens the handle that it is told and says so; reads when it is told again.
void Import(Link& link) {
  UseContext();
  const auto handle = link.ReceiveValue<IpcMemHandle>();
  DevicePtr address = 0;
  EXPECT_EQ(Cuda()->IpcOpenMemHandle(&address, handle, kIpcLazyEnablePeerAccess), kSuccess);
  EXPECT_EQ(Download(address + 100, Text().size()), Text());
  link.Send("opened");
  link.Receive();
  EXPECT_EQ(Download(address + 100, Text().size()), Text());
  link.Send("read");
  link.Receive();
}

TEST(SimGpuIpc, SharesOneAllocation) {
  const SimGpu gpu(kSmall);
  SimProcess exporter(gpu, Export);
  const auto handle = exporter.link().ReceiveValue<IpcMemHandle>();
  SimProcess importer(gpu, Import);
  importer.link().SendValue(handle);
  ASSERT_EQ(importer.link().Receive(), "opened");
  EXPECT_EQ(gpu.BytesInUse(), kSlab);
  ASSERT_EQ(gpu.Allocations().size(), 1u);
  EXPECT_EQ(gpu.Allocations()[0].owner, exporter.pid());
  EXPECT_THAT(gpu.Allocations()[0].holders,
              ::testing::UnorderedElementsAre(exporter.pid(), importer.pid()));
  // Charged to its owner alone; both pay for a context.
  EXPECT_THAT(gpu.Holders(),
              ::testing::UnorderedElementsAre(Pair(exporter.pid(), kSlab + 10 * kMiB),
                                              Pair(importer.pid(), 10 * kMiB)));
}

// The fact that the whole protocol rests on.
TEST(SimGpuIpc, ImporterKeepsTheMemoryOfAKilledExporter) {
  const SimGpu gpu(kSmall);
  SimProcess exporter(gpu, Export);
  const auto handle = exporter.link().ReceiveValue<IpcMemHandle>();
  SimProcess importer(gpu, Import);
  importer.link().SendValue(handle);
  ASSERT_EQ(importer.link().Receive(), "opened");
  exporter.Kill();
  EXPECT_EQ(gpu.BytesInUse(), kSlab);
  EXPECT_THAT(gpu.Holders(), ElementsAre(Pair(importer.pid(), kSlab + 10 * kMiB)));
  importer.link().Send("read");
  EXPECT_EQ(importer.link().Receive(), "read");
  importer.Kill();
  EXPECT_EQ(gpu.BytesInUse(), 0u);
}

TEST(SimGpuIpc, ImporterKeepsWhatTheExporterHasFreed) {
  const SimGpu gpu(kSmall);
  SimProcess exporter(gpu, Export);
  const auto handle = exporter.link().ReceiveValue<IpcMemHandle>();
  SimProcess importer(gpu, Import);
  importer.link().SendValue(handle);
  ASSERT_EQ(importer.link().Receive(), "opened");
  exporter.link().Send("free");
  ASSERT_EQ(exporter.link().Receive(), "freed");
  EXPECT_EQ(gpu.Holders()[importer.pid()], kSlab + 10 * kMiB);
  EXPECT_EQ(gpu.Holders()[exporter.pid()], 10 * kMiB);
  importer.link().Send("read");
  EXPECT_EQ(importer.link().Receive(), "read");
  importer.Kill();
  EXPECT_EQ(gpu.BytesInUse(), 0u);
  exporter.link().Send("go on");
  exporter.Join();
}

TEST(SimGpuIpc, KilledImporterTakesNothingFromTheExporter) {
  const SimGpu gpu(kSmall);
  SimProcess exporter(gpu, Export);
  const auto handle = exporter.link().ReceiveValue<IpcMemHandle>();
  SimProcess importer(gpu, Import);
  importer.link().SendValue(handle);
  ASSERT_EQ(importer.link().Receive(), "opened");
  importer.Kill();
  EXPECT_EQ(gpu.BytesInUse(), kSlab);
  EXPECT_THAT(gpu.Holders(), ElementsAre(Pair(exporter.pid(), kSlab + 10 * kMiB)));
  exporter.link().Send("go on");
  exporter.Join();
  EXPECT_EQ(gpu.BytesInUse(), 0u);
}

TEST(SimGpuIpc, MemoryOfAKilledImporterIsTornDownInItsName) {
  SimGpu gpu(kSmall);
  SimProcess exporter(gpu, Export);
  const auto handle = exporter.link().ReceiveValue<IpcMemHandle>();
  SimProcess importer(gpu, Import);
  importer.link().SendValue(handle);
  ASSERT_EQ(importer.link().Receive(), "opened");
  exporter.link().Send("free");
  ASSERT_EQ(exporter.link().Receive(), "freed");
  exporter.link().Send("go on");
  exporter.Join();
  EXPECT_EQ(gpu.ContextBytes(), 10 * kMiB);  // and its context's end is noticed
  gpu.SetKnob("hold_teardown", 1);
  const pid_t dead = importer.pid();
  importer.Kill();
  EXPECT_THAT(gpu.Holders(), ElementsAre(Pair(dead, kSlab + 10 * kMiB)));
}

TEST(SimGpuIpc, SecondOpenBumpsACount) {
  const SimGpu gpu(kSmall);
  SimProcess exporter(gpu, Export);
  const auto handle = exporter.link().ReceiveValue<IpcMemHandle>();
  SimProcess importer(gpu, [&handle](Link&) {
    UseContext();
    DevicePtr first = 0;
    DevicePtr second = 0;
    ASSERT_EQ(Cuda()->IpcOpenMemHandle(&first, handle, kIpcLazyEnablePeerAccess), kSuccess);
    ASSERT_EQ(Cuda()->IpcOpenMemHandle(&second, handle, kIpcLazyEnablePeerAccess), kSuccess);
    EXPECT_EQ(first, second);
    DevicePtr base = 0;
    size_t bytes = 0;
    EXPECT_EQ(Cuda()->MemGetAddressRange(&base, &bytes, first + 5), kSuccess);
    EXPECT_EQ(base, first);
    EXPECT_EQ(bytes, kSlab);
    EXPECT_EQ(Cuda()->MemFree(first), kInvalidValue);  // not this process's to free
    EXPECT_EQ(Cuda()->IpcCloseMemHandle(first), kSuccess);
    EXPECT_EQ(Download(first + 100, Text().size()), Text());
    EXPECT_EQ(Cuda()->IpcCloseMemHandle(first), kSuccess);
    char byte = 0;
    EXPECT_EQ(Cuda()->MemcpyDtoH(&byte, first, 1), kInvalidValue);
    EXPECT_EQ(Cuda()->IpcCloseMemHandle(first), kInvalidValue);
  });
  importer.Join();
}

TEST(SimGpuIpc, NamesWholeAllocationsOfOthersOnly) {
  const SimGpu gpu(kSmall);
  SimProcess process(gpu, [](Link&) {
    UseContext();
    const DevicePtr address = MustAlloc(kSlab);
    IpcMemHandle handle{};
    EXPECT_EQ(Cuda()->IpcGetMemHandle(&handle, address + 256), kInvalidValue);
    EXPECT_EQ(Cuda()->IpcGetMemHandle(&handle, address), kSuccess);
    DevicePtr opened = 0;
    EXPECT_EQ(Cuda()->IpcOpenMemHandle(&opened, handle, 0), kInvalidValue);
    EXPECT_EQ(Cuda()->IpcOpenMemHandle(&opened, handle, kIpcLazyEnablePeerAccess), kInvalidContext);
    EXPECT_EQ(Cuda()->IpcOpenMemHandle(&opened, IpcMemHandle{}, kIpcLazyEnablePeerAccess),
              kInvalidHandle);
    unsigned capable = 0;
    EXPECT_EQ(Cuda()->PointerGetAttribute(&capable, ipc::cuda::kPointerAttributeLegacyIpcCapable,
                                          address + 5),
              kSuccess);
    EXPECT_EQ(capable, 1u);
  });
  process.Join();
}

TEST(SimGpuIpc, HandleOfWhatIsGoneIsRefused) {
  const SimGpu gpu(kSmall);
  const SimGpu elsewhere(kSmall);
  SimProcess exporter(gpu, Export);
  const auto handle = exporter.link().ReceiveValue<IpcMemHandle>();
  const auto refused = [&handle](Link&) {
    UseContext();
    DevicePtr address = 0;
    EXPECT_EQ(Cuda()->IpcOpenMemHandle(&address, handle, kIpcLazyEnablePeerAccess), kInvalidHandle);
  };
  SimProcess(elsewhere, refused).Join();
  exporter.Kill();
  SimProcess(gpu, refused).Join();
  EXPECT_EQ(gpu.BytesInUse(), 0u);
}

TEST(SimGpuIpc, CanBeMissing) {
  SimGpu gpu(kSmall);
  gpu.SetKnob("ipc_supported", uint64_t{0});
  SimProcess process(gpu, [](Link&) {
    UseContext();
    const DevicePtr address = MustAlloc(kSlab);
    IpcMemHandle handle{};
    EXPECT_EQ(Cuda()->IpcGetMemHandle(&handle, address), kNotSupported);
    unsigned capable = 1;
    EXPECT_EQ(Cuda()->PointerGetAttribute(&capable, ipc::cuda::kPointerAttributeLegacyIpcCapable,
                                          address),
              kSuccess);
    EXPECT_EQ(capable, 0u);
  });
  process.Join();
}

// ---- VMM

AllocationProp Shareable() {
  AllocationProp prop{};
  prop.type = ipc::cuda::kAllocationTypePinned;
  prop.requested_handle_types = ipc::cuda::kHandleTypePosixFd;
  prop.location = {.type = ipc::cuda::kLocationTypeDevice, .id = 0};
  return prop;
}

DevicePtr MapHandle(AllocationHandle handle, int access) {
  DevicePtr address = 0;
  EXPECT_EQ(Cuda()->MemAddressReserve(&address, kSlab, 0, 0, 0), kSuccess);
  EXPECT_EQ(Cuda()->MemMap(address, kSlab, 0, handle, 0), kSuccess);
  const AccessDesc desc = {.location = {.type = ipc::cuda::kLocationTypeDevice, .id = 0},
                           .flags = access};
  EXPECT_EQ(Cuda()->MemSetAccess(address, kSlab, &desc, 1), kSuccess);
  return address;
}

UniqueFd ExportHandle(AllocationHandle handle) {
  int fd = -1;
  EXPECT_EQ(Cuda()->MemExportToShareableHandle(&fd, handle, ipc::cuda::kHandleTypePosixFd, 0),
            kSuccess);
  return UniqueFd(fd);
}

AllocationHandle ImportDescriptor(int fd) {
  AllocationHandle handle = 0;
  EXPECT_EQ(Cuda()->MemImportFromShareableHandle(&handle, reinterpret_cast<void*>(intptr_t{fd}),
                                                 ipc::cuda::kHandleTypePosixFd),
            kSuccess);
  return handle;
}

// Creates, maps, writes, sends a descriptor and keeps none.
void ExportVmm(Link& link) {
  UseContext();
  AllocationHandle handle = 0;
  const AllocationProp prop = Shareable();
  ASSERT_EQ(Cuda()->MemCreate(&handle, kSlab, &prop, 0), kSuccess);
  Upload(MapHandle(handle, ipc::cuda::kAccessReadWrite) + 100, Text());
  link.Send("descriptor", ExportHandle(handle).get());
  link.Send("closed");
  link.Receive();
}

TEST(SimGpuVmm, MemoryLivesUntilMappingsAndHandlesAreGone) {
  const SimGpu gpu(kSmall);
  SimProcess process(gpu, [&gpu](Link&) {
    UseContext();
    AllocationHandle handle = 0;
    const AllocationProp prop = Shareable();
    EXPECT_EQ(Cuda()->MemCreate(&handle, kSlab + 1, &prop, 0), kInvalidValue);
    ASSERT_EQ(Cuda()->MemCreate(&handle, kSlab, &prop, 0), kSuccess);
    const DevicePtr address = MapHandle(handle, ipc::cuda::kAccessReadWrite);
    Upload(address, Text());
    EXPECT_EQ(Cuda()->MemRelease(handle), kSuccess);
    EXPECT_EQ(Cuda()->MemRelease(handle), kInvalidValue);
    EXPECT_EQ(gpu.BytesInUse(), kSlab);
    EXPECT_EQ(Download(address, Text().size()), Text());
    IpcMemHandle legacy{};
    EXPECT_EQ(Cuda()->IpcGetMemHandle(&legacy, address), kInvalidValue);
    unsigned capable = 1;
    EXPECT_EQ(Cuda()->PointerGetAttribute(&capable, ipc::cuda::kPointerAttributeLegacyIpcCapable,
                                          address),
              kSuccess);
    EXPECT_EQ(capable, 0u);
    EXPECT_EQ(Cuda()->MemAddressFree(address, kSlab), kInvalidValue);  // still mapped
    EXPECT_EQ(Cuda()->MemUnmap(address, kSlab / 2), kInvalidValue);    // not a whole mapping
    EXPECT_EQ(Cuda()->MemUnmap(address, kSlab), kSuccess);
    EXPECT_EQ(gpu.BytesInUse(), 0u);
    char byte = 0;
    EXPECT_EQ(Cuda()->MemcpyDtoH(&byte, address, 1), kInvalidValue);
    EXPECT_EQ(Cuda()->MemAddressFree(address, kSlab), kSuccess);
  });
  process.Join();
}

TEST(SimGpuVmm, DescriptorAloneKeepsTheMemory) {
  const SimGpu gpu(kSmall);
  SimProcess exporter(gpu, ExportVmm);
  UniqueFd descriptor;
  ASSERT_EQ(exporter.link().Receive(&descriptor), "descriptor");
  ASSERT_EQ(exporter.link().Receive(), "closed");
  EXPECT_TRUE(gpu.Allocations()[0].descriptors);
  exporter.Kill();
  // No process holds it, so nobody is charged; it is in use all the same.
  EXPECT_EQ(gpu.BytesInUse(), kSlab);
  EXPECT_THAT(gpu.Holders(), IsEmpty());
  UniqueFd duplicate(::dup(descriptor.get()));
  descriptor.reset();
  EXPECT_EQ(gpu.BytesInUse(), kSlab);
  duplicate.reset();
  EXPECT_EQ(gpu.BytesInUse(), 0u);
}

TEST(SimGpuVmm, ImporterReadsAndCannotWrite) {
  const SimGpu gpu(kSmall);
  SimProcess exporter(gpu, ExportVmm);
  UniqueFd descriptor;
  ASSERT_EQ(exporter.link().Receive(&descriptor), "descriptor");
  ASSERT_EQ(exporter.link().Receive(), "closed");
  SimProcess importer(gpu, [&descriptor](Link& link) {
    UseContext();
    const AllocationHandle handle = ImportDescriptor(descriptor.get());
    descriptor.reset();
    const DevicePtr address = MapHandle(handle, ipc::cuda::kAccessRead);
    EXPECT_EQ(Cuda()->MemRelease(handle), kSuccess);
    EXPECT_EQ(Download(address + 100, Text().size()), Text());
    EXPECT_EQ(Cuda()->MemcpyHtoD(address, "x", 1), kInvalidValue);
    EXPECT_EQ(Cuda()->MemsetD8(address, 0, 1), kInvalidValue);
    link.Send("mapped");
    link.Receive();
    EXPECT_EQ(Download(address + 100, Text().size()), Text());
    link.Send("read");
    link.Receive();
  });
  ASSERT_EQ(importer.link().Receive(), "mapped");
  descriptor.reset();
  EXPECT_FALSE(gpu.Allocations()[0].descriptors);
  exporter.Kill();
  EXPECT_EQ(gpu.BytesInUse(), kSlab);
  EXPECT_THAT(gpu.Holders(), ElementsAre(Pair(importer.pid(), kSlab + 10 * kMiB)));
  importer.link().Send("read");
  EXPECT_EQ(importer.link().Receive(), "read");
  importer.Kill();
  EXPECT_EQ(gpu.BytesInUse(), 0u);
}

// A descriptor that is on its way between two processes is open nowhere.
TEST(SimGpuVmm, DescriptorInFlightKeepsTheMemory) {
  const SimGpu gpu(kSmall);
  SimProcess exporter(gpu, [](Link& link) {
    UseContext();
    AllocationHandle handle = 0;
    const AllocationProp prop = Shareable();
    ASSERT_EQ(Cuda()->MemCreate(&handle, kSlab, &prop, 0), kSuccess);
    link.Send("ready");
    link.Receive();
    link.Send("descriptor", ExportHandle(handle).get());
  });
  ASSERT_EQ(exporter.link().Receive(), "ready");
  exporter.link().Send("export and exit");
  siginfo_t info{};
  ASSERT_EQ(::waitid(P_PID, exporter.pid(), &info, WEXITED | WNOWAIT), 0);
  EXPECT_EQ(gpu.BytesInUse(), kSlab);
  {
    UniqueFd descriptor;
    ASSERT_EQ(exporter.link().Receive(&descriptor), "descriptor");
  }
  EXPECT_EQ(gpu.BytesInUse(), 0u);
  exporter.Join();
}

TEST(SimGpuVmm, RefusesWhatIsNotShareable) {
  const SimGpu gpu(kSmall);
  SimProcess process(gpu, [](Link&) {
    AllocationProp prop = Shareable();
    prop.requested_handle_types = 0;
    AllocationHandle handle = 0;
    ASSERT_EQ(Cuda()->MemCreate(&handle, kSlab, &prop, 0), kSuccess);
    int fd = -1;
    EXPECT_EQ(Cuda()->MemExportToShareableHandle(&fd, handle, ipc::cuda::kHandleTypePosixFd, 0),
              kInvalidValue);
    AllocationHandle imported = 0;
    EXPECT_EQ(Cuda()->MemImportFromShareableHandle(&imported, reinterpret_cast<void*>(intptr_t{0}),
                                                   ipc::cuda::kHandleTypePosixFd),
              kInvalidValue);
  });
  process.Join();
}

TEST(SimGpuVmm, MapsAtAHint) {
  const SimGpu gpu(kSmall);
  SimProcess process(gpu, [](Link&) {
    Cuda();
    DevicePtr first = 0;
    ASSERT_EQ(Cuda()->MemAddressReserve(&first, kSlab, 0, 0, 0), kSuccess);
    ASSERT_EQ(Cuda()->MemAddressFree(first, kSlab), kSuccess);
    DevicePtr again = 0;
    ASSERT_EQ(Cuda()->MemAddressReserve(&again, kSlab, 0, first, 0), kSuccess);
    EXPECT_EQ(again, first);
    DevicePtr other = 0;
    ASSERT_EQ(Cuda()->MemAddressReserve(&other, kSlab, 0, first, 0), kSuccess);
    EXPECT_NE(other, first);
  });
  process.Join();
}

TEST(SimGpuVmm, CopiesAcrossNeighbouringMappings) {
  const SimGpu gpu(kSmall);
  SimProcess process(gpu, [](Link&) {
    UseContext();
    DevicePtr address = 0;
    ASSERT_EQ(Cuda()->MemAddressReserve(&address, 2 * kSlab, 0, 0, 0), kSuccess);
    const AllocationProp prop = Shareable();
    for (const DevicePtr at : {address, address + kSlab}) {
      AllocationHandle handle = 0;
      ASSERT_EQ(Cuda()->MemCreate(&handle, kSlab, &prop, 0), kSuccess);
      ASSERT_EQ(Cuda()->MemMap(at, kSlab, 0, handle, 0), kSuccess);
      EXPECT_EQ(Cuda()->MemMap(at, kSlab, 0, handle, 0), kInvalidValue);  // mapped already
      ASSERT_EQ(Cuda()->MemRelease(handle), kSuccess);
    }
    EXPECT_EQ(Cuda()->MemcpyHtoD(address, "x", 1), kInvalidValue);  // no access yet
    const AccessDesc desc = {.location = {.type = ipc::cuda::kLocationTypeDevice, .id = 0},
                             .flags = ipc::cuda::kAccessReadWrite};
    ASSERT_EQ(Cuda()->MemSetAccess(address, 2 * kSlab, &desc, 1), kSuccess);
    Upload(address + kSlab - 5, Text());
    EXPECT_EQ(Download(address + kSlab - 5, Text().size()), Text());
    EXPECT_EQ(Cuda()->MemUnmap(address, 2 * kSlab), kSuccess);
  });
  process.Join();
  EXPECT_EQ(gpu.BytesInUse(), 0u);
}

}  // namespace
}  // namespace baton::testing
