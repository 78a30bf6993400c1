#include "tools/shmctl/gpu_probe.h"

#include <fstream>
#include <iterator>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "ipc/cuda/driver.h"
#include "ipc/cuda/nvml.h"
#include "ipc/cuda/trial_allocation.h"
#include "tools/shmctl/quantity_text.h"

namespace baton::shmctl {
namespace {

using ipc::cuda::DeviceOrdinal;
using ipc::cuda::Driver;
using ipc::cuda::Nvml;
using ipc::cuda::Uuid;
using Level = Check::Level;
using Print = std::function<void(const Check&)>;

constexpr char kModuleVersionFile[] = "/proc/driver/nvidia/version";
constexpr size_t kIpcProbeBytes = 2 << 20;

// What a failure is where no GPU is asked for.
Level Failure(bool needed) { return needed ? Level::kFail : Level::kWarn; }

// Our own errors end with what to do, so they need no remedy.
Check FromStatus(const char* name, const absl::Status& status, bool needed) {
  return {Failure(needed), name, std::string(status.message()), ""};
}

struct Gpu {
  int ordinal = 0;
  DeviceOrdinal device = 0;
  Uuid uuid{};
};

absl::StatusOr<std::vector<Gpu>> Gpus(const Driver& driver, int ordinal) {
  int count = 0;
  absl::Status status = driver.ToStatus(driver->DeviceGetCount(&count), "cuDeviceGetCount");
  if (status.ok() && ordinal >= count) {
    return absl::NotFoundError(absl::StrCat("there is no cuda:", ordinal, ": the driver shows ",
                                            count,
                                            " to this process. Is CUDA_VISIBLE_DEVICES set?"));
  }
  std::vector<Gpu> gpus;
  for (int i = 0; status.ok() && i < count; ++i) {
    if (ordinal >= 0 && i != ordinal) continue;
    Gpu gpu{.ordinal = i};
    status.Update(driver.ToStatus(driver->DeviceGet(&gpu.device, i), "cuDeviceGet"));
    if (!status.ok()) break;
    status.Update(driver.ToStatus(driver->DeviceGetUuid(&gpu.uuid, gpu.device), "cuDeviceGetUuid"));
    gpus.push_back(gpu);
  }
  if (!status.ok()) return status;
  return gpus;
}

int Attribute(const Driver& driver, const Gpu& gpu, int attribute) {
  int value = 0;
  return driver->DeviceGetAttribute(&value, attribute, gpu.device) == ipc::cuda::kSuccess ? value
                                                                                          : 0;
}

Check DescribeGpu(const Driver& driver, const Gpu& gpu) {
  char name[128] = {};
  size_t bytes = 0;
  absl::Status status =
      driver.ToStatus(driver->DeviceGetName(name, sizeof(name) - 1, gpu.device), "cuDeviceGetName");
  status.Update(driver.ToStatus(driver->DeviceTotalMem(&bytes, gpu.device), "cuDeviceTotalMem"));
  const std::string what = absl::StrCat("cuda:", gpu.ordinal, " ");
  if (!status.ok()) {
    return {Level::kWarn, "gpu", absl::StrCat(what, std::string(status.message())),
            "look for Xid messages in dmesg"};
  }
  return {Level::kOk, "gpu",
          absl::StrCat(what, name, ", ", BytesText(bytes), ", compute capability ",
                       Attribute(driver, gpu, ipc::cuda::kAttributeComputeCapabilityMajor), ".",
                       Attribute(driver, gpu, ipc::cuda::kAttributeComputeCapabilityMinor), ", ",
                       ipc::cuda::UuidText(gpu.uuid)),
          ""};
}

void ProbeDriver(int ordinal, bool needed, const Print& print) {
  const absl::StatusOr<const Driver*> driver = Driver::Get();
  if (!driver.ok()) return print(FromStatus("nvidia driver", driver.status(), needed));
  print({Level::kOk, "nvidia driver",
         absl::StrCat("libcuda.so.1, for CUDA ", (*driver)->VersionText()), ""});
  const absl::StatusOr<std::vector<Gpu>> gpus = Gpus(**driver, ordinal);
  if (!gpus.ok()) return print(FromStatus("gpu", gpus.status(), needed));
  for (const Gpu& gpu : *gpus) print(DescribeGpu(**driver, gpu));
}

Check CheckModule(const std::string& version) {
  std::ifstream file(kModuleVersionFile);
  const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  if (text.empty()) {
    return {Level::kWarn, "kernel module",
            absl::StrCat(kModuleVersionFile, " is not there: not known whether the module is of ",
                         version),
            ""};
  }
  if (!absl::StrContains(text, version)) {
    return {Level::kWarn, "kernel module",
            absl::StrCat("NVML is of version ", version,
                         ", the module is another: ", text.substr(0, text.find('\n'))),
            "reboot, or reload the module"};
  }
  return {Level::kOk, "kernel module", absl::StrCat(version, ", as the libraries"), ""};
}

Check CheckMig(const Gpu& gpu, const absl::StatusOr<bool>& mig) {
  const std::string what = absl::StrCat("cuda:", gpu.ordinal, " ");
  if (!mig.ok()) {
    return {Level::kWarn, "mig", absl::StrCat(what, std::string(mig.status().message())), ""};
  }
  if (*mig) {
    return {Level::kWarn, "mig", absl::StrCat(what, "is cut into MIG instances"),
            "CUDA IPC works within one instance only, and freed memory is confirmed by trial "
            "allocations: give worker and fronts the same instance"};
  }
  return {Level::kOk, "mig", absl::StrCat(what, "is whole"), ""};
}

Check CheckMemory(const Gpu& gpu, const ipc::cuda::GpuSurvey& survey) {
  const std::string what = absl::StrCat("cuda:", gpu.ordinal, " ");
  if (!survey.memory.ok()) {
    return {Level::kWarn, "free memory",
            absl::StrCat(what, std::string(survey.memory.status().message())),
            "freed memory will be confirmed by trial allocations"};
  }
  return {Level::kOk, "free memory",
          absl::StrCat(what, BytesText(survey.memory->free_bytes), " of ",
                       BytesText(survey.memory->total_bytes)),
          ""};
}

void ProbeNvml(int ordinal, bool needed, const Print& print) {
  const absl::StatusOr<const Driver*> driver = Driver::Get();
  const absl::StatusOr<std::vector<Gpu>> gpus =
      driver.ok() ? Gpus(**driver, ordinal) : driver.status();
  const absl::StatusOr<const Nvml*> nvml = Nvml::Get();
  // Without it memory is confirmed freed by trial allocations.
  if (!nvml.ok()) return print(FromStatus("nvml", nvml.status(), /*needed=*/false));
  const absl::StatusOr<std::string> version = (*nvml)->DriverVersion();
  if (!version.ok()) return print(FromStatus("nvml", version.status(), /*needed=*/false));
  print({Level::kOk, "nvml", absl::StrCat("version ", *version), ""});
  print(CheckModule(*version));
  if (!gpus.ok()) return print(FromStatus("free memory", gpus.status(), needed));
  ipc::cuda::NvmlSource source;
  for (const Gpu& gpu : *gpus) {
    const ipc::cuda::GpuSurvey survey = source.Survey(gpu.uuid);
    print(CheckMemory(gpu, survey));
    print(CheckMig(gpu, survey.mig));
  }
}

Check CheckPids(const Gpu& gpu) {
  const std::string what = absl::StrCat("cuda:", gpu.ordinal, " ");
  ipc::cuda::NvmlSource source;
  const absl::StatusOr<bool> seen = ipc::cuda::SeesItself(gpu.uuid, source);
  if (!seen.ok()) {
    return {Level::kWarn, "pid visibility",
            absl::StrCat(what, std::string(seen.status().message())),
            "freed memory will be confirmed by trial allocations"};
  }
  if (!*seen) {
    return {Level::kWarn, "pid visibility",
            absl::StrCat(what,
                         "NVML does not show this process to itself: freed memory will be "
                         "confirmed by trial allocations"),
            "in a container, share the host's pid namespace (--pid=host)"};
  }
  return {Level::kOk, "pid visibility", absl::StrCat(what, "NVML shows who uses it"), ""};
}

// A handle for memory like an arena's, in the primary context.
absl::Status MakeIpcHandle(const Driver& driver, const Gpu& gpu) {
  ipc::cuda::Context context = nullptr;
  absl::Status status = driver.ToStatus(driver->DevicePrimaryCtxRetain(&context, gpu.device),
                                        "cuDevicePrimaryCtxRetain");
  if (!status.ok()) return status;
  ipc::cuda::DevicePtr address = 0;
  status = driver.ToStatus(driver->CtxSetCurrent(context), "cuCtxSetCurrent");
  if (status.ok()) {
    status.Update(driver.ToStatus(driver->MemAlloc(&address, kIpcProbeBytes), "cuMemAlloc"));
  }
  if (status.ok()) {
    ipc::cuda::IpcMemHandle handle{};
    status.Update(driver.ToStatus(driver->IpcGetMemHandle(&handle, address), "cuIpcGetMemHandle"));
    status.Update(driver.ToStatus(driver->MemFree(address), "cuMemFree"));
  }
  driver->CtxSetCurrent(nullptr);
  status.Update(
      driver.ToStatus(driver->DevicePrimaryCtxRelease(gpu.device), "cuDevicePrimaryCtxRelease"));
  return status;
}

// Either will do for device tensors in a front.
void CheckSharing(const Driver& driver, const Gpu& gpu, bool needed, const Print& print) {
  const std::string what = absl::StrCat("cuda:", gpu.ordinal, " ");
  const bool vmm = Attribute(driver, gpu, ipc::cuda::kAttributeVmmSupported) != 0 &&
                   Attribute(driver, gpu, ipc::cuda::kAttributePosixFdSupported) != 0;
  const absl::Status ipc = MakeIpcHandle(driver, gpu);
  if (ipc.ok()) {
    print({Level::kOk, "cuda ipc", absl::StrCat(what, "memory can be exported by handle"), ""});
  } else {
    print({vmm ? Level::kWarn : Failure(needed), "cuda ipc",
           absl::StrCat(what, std::string(ipc.message())),
           "fronts cannot map device memory by handle: in a container share the host's pid and IPC "
           "namespaces"});
  }
  print({vmm ? Level::kOk : Level::kWarn, "vmm descriptors",
         absl::StrCat(what, vmm ? "memory can be exported by descriptor"
                                : "no virtual memory management with POSIX descriptors"),
         ""});
}

void ProbeContext(int ordinal, bool needed, const Print& print) {
  const absl::StatusOr<const Driver*> driver = Driver::Get();
  if (!driver.ok()) return print(FromStatus("pid visibility", driver.status(), needed));
  const absl::StatusOr<std::vector<Gpu>> gpus = Gpus(**driver, ordinal);
  if (!gpus.ok()) return print(FromStatus("pid visibility", gpus.status(), needed));
  for (const Gpu& gpu : *gpus) {
    print(CheckPids(gpu));
    CheckSharing(**driver, gpu, needed, print);
  }
}

}  // namespace

const std::vector<GpuProbe>& GpuProbes() {
  static const std::vector<GpuProbe> probes = {
      {"driver", {"nvidia driver", "gpu"}, "loading libcuda.so.1", ProbeDriver},
      {"nvml",
       {"nvml", "kernel module", "free memory", "mig"},
       "loading libnvidia-ml.so.1",
       ProbeNvml},
      {"context",
       {"pid visibility", "cuda ipc", "vmm descriptors"},
       "making a context",
       ProbeContext},
  };
  return probes;
}

}  // namespace baton::shmctl
