// How fast host bytes get to the device and back, by the ways there are without
// an upload ring, and what pinning costs.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <functional>
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

using ipc::cuda::DevicePtr;

// Shared memory with every page there: as file pages in the page cache are.
class HostPages {
 public:
  explicit HostPages(uint64_t bytes) : bytes_(bytes) {
    const ipc::UniqueFd fd(::memfd_create("baton-gpu-check", MFD_CLOEXEC));
    if (!fd || ::ftruncate(fd.get(), static_cast<off_t>(bytes)) != 0) return;
    void* const mapped =
        ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd.get(), 0);
    if (mapped == MAP_FAILED) return;
    memory_ = mapped;
    std::memset(memory_, 0x42, bytes);
  }
  ~HostPages() {
    if (memory_ != nullptr) ::munmap(memory_, bytes_);
  }
  HostPages(const HostPages&) = delete;
  HostPages& operator=(const HostPages&) = delete;
  void* memory() const { return memory_; }

 private:
  const uint64_t bytes_;
  void* memory_ = nullptr;
};

// The best of a few, in GB/s (10^9 bytes); what fails is a row, and 0.
double Bandwidth(const OwnContext& context, Report& report, const std::string& name, uint64_t bytes,
                 const std::function<ipc::cuda::Result()>& copy) {
  double best = 0;
  for (int i = 0; i < 4; ++i) {  // the first one warms up
    const Stopwatch watch;
    ipc::cuda::Result result = copy();
    if (result == ipc::cuda::kSuccess) result = context.driver()->CtxSynchronize();
    const double gigabytes_per_second = static_cast<double>(bytes) / watch.Nanoseconds();
    if (const absl::Status status = context.Check(result, name); !status.ok()) {
      report.Error(name, status);
      return 0;
    }
    if (i > 0) best = std::max(best, gigabytes_per_second);
  }
  report.Measured(name, best, "GB/s", absl::StrCat(bytes >> 20, " MiB at a time, best of 3"));
  return best;
}

// What it costs to pin memory that is there, and to let go of it.
void MeasureRegistration(const OwnContext& context, void* memory, uint64_t bytes, Report& report) {
  const double gigabytes = static_cast<double>(bytes) / 1e9;
  const Stopwatch watch;
  absl::Status status =
      context.Check(context.driver()->MemHostRegister(memory, bytes, 0), "cuMemHostRegister");
  if (!status.ok()) return report.Error("pinning: cuMemHostRegister", status);
  const double seconds = watch.Nanoseconds() / 1e9 / gigabytes;
  report.Measured("pinning: cuMemHostRegister", seconds, "s/GB");
  report.FactOfHardware("pinning costs more than uploading through pinned memory (0.02 s/GB)",
                        seconds > 0.02, absl::StrCat(FigureText(seconds), " s/GB"));
  const Stopwatch unregister;
  status = context.Check(context.driver()->MemHostUnregister(memory), "cuMemHostUnregister");
  if (!status.ok()) return report.Error("pinning: cuMemHostUnregister", status);
  report.Measured("pinning: cuMemHostUnregister", unregister.Nanoseconds() / 1e9 / gigabytes,
                  "s/GB");
}

struct Copies {
  DevicePtr device = 0;
  uint64_t bytes = 0;
  void* pinned = nullptr;
  void* pages = nullptr;
};

void MeasureCopies(const OwnContext& context, const Copies& copies, Report& report) {
  const ipc::cuda::Driver& driver = context.driver();
  const uint64_t bytes = copies.bytes;
  const double pinned = Bandwidth(context, report, "upload: pinned", bytes, [&] {
    return driver->MemcpyHtoDAsync(copies.device, copies.pinned, bytes, nullptr);
  });
  Bandwidth(context, report, "download: pinned", bytes,
            [&] { return driver->MemcpyDtoHAsync(copies.pinned, copies.device, bytes, nullptr); });
  const std::unique_ptr<std::byte[]> heap(new std::byte[bytes]);
  std::memset(heap.get(), 0x24, bytes);
  const double pageable = Bandwidth(context, report, "upload: pageable", bytes, [&] {
    return driver->MemcpyHtoD(copies.device, heap.get(), bytes);
  });
  Bandwidth(context, report, "download: pageable", bytes,
            [&] { return driver->MemcpyDtoH(heap.get(), copies.device, bytes); });
  Bandwidth(context, report, "upload: shared pages, as the page cache's", bytes,
            [&] { return driver->MemcpyHtoD(copies.device, copies.pages, bytes); });
  if (pinned == 0 || pageable == 0) return;
  report.Measured("upload: pinned / pageable", pinned / pageable, "");
  report.FactOfHardware("pinned uploads are at least twice as fast as pageable ones",
                        pinned >= 2 * pageable);
}

}  // namespace

absl::Status MeasureUploads(const Settings& settings, Report& report) {
  const absl::StatusOr<std::unique_ptr<OwnContext>> context = OwnContext::Open(settings.device);
  if (!context.ok()) return context.status();
  const ipc::cuda::Driver& driver = (*context)->driver();
  Copies copies{.bytes = settings.Bytes(uint64_t{1} << 30)};
  absl::Status status =
      (*context)->Check(driver->MemAlloc(&copies.device, copies.bytes), "cuMemAlloc");
  if (!status.ok()) return status;
  const HostPages pages(copies.bytes);
  if (pages.memory() == nullptr) {
    return absl::ErrnoToStatus(
        errno, absl::StrCat("cannot have ", copies.bytes, " bytes of shared memory"));
  }
  copies.pages = pages.memory();
  const Stopwatch watch;
  status =
      (*context)->Check(driver->MemHostAlloc(&copies.pinned, copies.bytes, 0), "cuMemHostAlloc");
  if (!status.ok()) return status;
  report.Measured("pinning: cuMemHostAlloc",
                  watch.Nanoseconds() / static_cast<double>(copies.bytes), "s/GB");
  MeasureCopies(**context, copies, report);
  MeasureRegistration(**context, copies.pages, copies.bytes, report);
  const Stopwatch free;
  status = (*context)->Check(driver->MemFreeHost(copies.pinned), "cuMemFreeHost");
  if (status.ok()) {
    report.Measured("pinning: cuMemFreeHost",
                    free.Nanoseconds() / static_cast<double>(copies.bytes), "s/GB");
  }
  status.Update((*context)->Check(driver->MemFree(copies.device), "cuMemFree"));
  return status;
}

}  // namespace baton::gpu_check
