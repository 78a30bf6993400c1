// What the GPU and the machine are.
#include <sys/sysinfo.h>
#include <unistd.h>

#include <string>

#include "absl/strings/str_cat.h"

#include "ipc/cuda/driver_abi.h"
#include "tools/gpu_check/gpu_view.h"
#include "tools/gpu_check/measurement.h"
#include "tools/gpu_check/take.h"

namespace baton::gpu_check {
namespace {

int Attribute(const GpuView& gpu, int attribute) {
  int value = 0;
  return gpu.driver()->DeviceGetAttribute(&value, attribute, gpu.device()) == ipc::cuda::kSuccess
             ? value
             : -1;
}

}  // namespace

absl::Status MeasureMachine(const Settings& settings, Report& report) {
  const absl::StatusOr<GpuView> gpu = GpuView::Open(settings.device);
  if (!gpu.ok()) return gpu.status();
  absl::Status status;
  const ipc::cuda::Nvml::Memory memory = Take(status, gpu->nvml().MemoryOf(gpu->nvml_device()));
  report.Told("machine: GPU", gpu->name());
  report.Measured("machine: device memory", Mebibytes(static_cast<double>(memory.total_bytes)),
                  "MiB");
  report.Measured("machine: device memory free at first",
                  Mebibytes(static_cast<double>(memory.free_bytes)), "MiB");
  report.Told("machine: driver", Take(status, gpu->nvml().DriverVersion()));
  report.Told("machine: CUDA of the driver", gpu->driver().VersionText());
  report.Told("machine: compute capability",
              absl::StrCat(Attribute(*gpu, ipc::cuda::kAttributeComputeCapabilityMajor), ".",
                           Attribute(*gpu, ipc::cuda::kAttributeComputeCapabilityMinor)));
  const bool mig = Take(status, gpu->nvml().MigEnabled(gpu->nvml_device()));
  report.Told("machine: MIG", mig ? "enabled: legacy IPC does not cross instances" : "disabled");
  report.Measured("machine: CPUs", static_cast<double>(::sysconf(_SC_NPROCESSORS_ONLN)), "");
  struct sysinfo info {};
  if (::sysinfo(&info) == 0) {
    report.Measured("machine: host memory",
                    Mebibytes(static_cast<double>(info.totalram) * info.mem_unit), "MiB");
  }
  report.Fact("VMM is supported", Attribute(*gpu, ipc::cuda::kAttributeVmmSupported) == 1);
  report.Fact("VMM memory can be exported as a descriptor",
              Attribute(*gpu, ipc::cuda::kAttributePosixFdSupported) == 1);
  report.Fact("host memory can be registered",
              Attribute(*gpu, ipc::cuda::kAttributeHostRegisterSupported) == 1);
  return status;
}

}  // namespace baton::gpu_check
