// Shared memory that two processes map, registered with the driver: device to
// host straight into what another process reads, and host to device straight
// from what another process wrote. Also a mapping that may only be read, as a
// worker has of what a front writes.
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"

#include "ipc/cuda/driver_abi.h"
#include "ipc/unique_fd.h"
#include "tools/gpu_check/measurement.h"
#include "tools/gpu_check/measurements/own_context.h"
#include "tools/gpu_check/samples.h"

namespace baton::gpu_check {
namespace {

constexpr unsigned char kWritten = 0xe7;

class View {
 public:
  View(int fd, uint64_t bytes, int protection)
      : bytes_(bytes), memory_(::mmap(nullptr, bytes, protection, MAP_SHARED, fd, 0)) {}
  ~View() {
    if (ok()) ::munmap(memory_, bytes_);
  }
  View(const View&) = delete;
  View& operator=(const View&) = delete;
  bool ok() const { return memory_ != MAP_FAILED; }
  unsigned char* bytes() const { return static_cast<unsigned char*>(memory_); }

 private:
  const uint64_t bytes_;
  void* const memory_;
};

// Ends that are looked at.
bool IsAll(const unsigned char* memory, uint64_t bytes, unsigned char value) {
  return memory[0] == value && memory[bytes / 2] == value && memory[bytes - 1] == value;
}

void Writable(const OwnContext& context, int fd, uint64_t bytes, ipc::cuda::DevicePtr device,
              Report& report) {
  const ipc::cuda::Driver& driver = context.driver();
  const std::string name =
      "a shared segment can be registered, and device-to-host reaches "
      "whoever maps it";
  const View workers(fd, bytes, PROT_READ | PROT_WRITE);
  const View fronts(fd, bytes, PROT_READ);
  if (!workers.ok() || !fronts.ok()) {
    return report.Error(name, absl::ErrnoToStatus(errno, "cannot map"));
  }
  const Stopwatch watch;
  absl::Status status = context.Check(
      driver->MemHostRegister(workers.bytes(), bytes, ipc::cuda::kHostRegisterDeviceMap),
      "cuMemHostRegister");
  if (!status.ok()) return report.Fact(name, false, std::string(status.message()));
  report.Measured("segment: register", watch.Nanoseconds() / 1e6, "ms",
                  absl::StrCat(bytes >> 20, " MiB"));
  ipc::cuda::DevicePtr mapped = 0;
  status = context.Check(driver->MemHostGetDevicePointer(&mapped, workers.bytes(), 0),
                         "cuMemHostGetDevicePointer");
  report.Fact("registered memory has a device address", status.ok(), std::string(status.message()));
  Samples small;
  status = absl::OkStatus();
  for (int i = 0; i < 100 && status.ok(); ++i) {
    const Stopwatch copy;
    status = context.Check(driver->MemcpyDtoH(workers.bytes(), device, 4096), "cuMemcpyDtoH");
    small.Add(copy.Nanoseconds());
  }
  if (status.ok()) {
    status = context.Check(driver->MemcpyDtoH(workers.bytes(), device, bytes), "cuMemcpyDtoH");
  }
  report.Fact(name, status.ok() && IsAll(fronts.bytes(), bytes, kWritten),
              std::string(status.message()));
  report.Times("segment: 4 KiB device to host, into it", small, "us");
  status = context.Check(driver->MemHostUnregister(workers.bytes()), "cuMemHostUnregister");
  if (!status.ok()) report.Error("segment: unregister", status);
}

void ReadOnly(const OwnContext& context, int fd, uint64_t bytes, ipc::cuda::DevicePtr device,
              Report& report) {
  const ipc::cuda::Driver& driver = context.driver();
  const View view(fd, bytes, PROT_READ);
  if (!view.ok()) {
    return report.Error("segment: read only", absl::ErrnoToStatus(errno, "cannot map"));
  }
  const absl::Status plain =
      context.Check(driver->MemHostRegister(view.bytes(), bytes, ipc::cuda::kHostRegisterDeviceMap),
                    "cuMemHostRegister");
  report.Told("segment: registering a read-only mapping",
              plain.ok() ? "succeeds" : std::string(plain.message()));
  absl::Status status = plain;
  if (!plain.ok()) {
    status = context.Check(driver->MemHostRegister(view.bytes(), bytes,
                                                   ipc::cuda::kHostRegisterDeviceMap |
                                                       ipc::cuda::kHostRegisterReadOnly),
                           "cuMemHostRegister, read only");
    report.Told("segment: registering a read-only mapping as read only",
                status.ok() ? "succeeds" : std::string(status.message()));
  }
  const bool registered = status.ok();
  const absl::Status copied =
      context.Check(driver->MemcpyHtoD(device, view.bytes(), bytes), "cuMemcpyHtoD");
  report.Fact("the device can be filled from a mapping that may only be read", copied.ok(),
              std::string(copied.message()));
  if (registered) static_cast<void>(driver->MemHostUnregister(view.bytes()));
}

}  // namespace

absl::Status MeasureRegisteredSegment(const Settings& settings, Report& report) {
  const absl::StatusOr<std::unique_ptr<OwnContext>> context = OwnContext::Open(settings.device);
  if (!context.ok()) return context.status();
  const ipc::cuda::Driver& driver = (*context)->driver();
  const uint64_t bytes = settings.Bytes(uint64_t{64} << 20);
  const ipc::UniqueFd fd(::memfd_create("baton-gpu-check", MFD_CLOEXEC));
  if (!fd || ::ftruncate(fd.get(), static_cast<off_t>(bytes)) != 0) {
    return absl::ErrnoToStatus(errno, "cannot have shared memory");
  }
  ipc::cuda::DevicePtr device = 0;
  absl::Status status = (*context)->Check(driver->MemAlloc(&device, bytes), "cuMemAlloc");
  if (status.ok()) {
    status = (*context)->Check(driver->MemsetD8(device, kWritten, bytes), "cuMemsetD8");
  }
  if (!status.ok()) return status;
  Writable(**context, fd.get(), bytes, device, report);
  ReadOnly(**context, fd.get(), bytes, device, report);
  return (*context)->Check(driver->MemFree(device), "cuMemFree");
}

}  // namespace baton::gpu_check
