// The peer's side of peer.h.
#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "ipc/cuda/driver.h"
#include "tools/gpu_check/peer.h"
#include "tools/gpu_check/samples.h"
#include "tools/gpu_check/store_kernel.h"

namespace baton::gpu_check {
namespace {

using ipc::cuda::DevicePtr;
using ipc::cuda::Driver;
using ipc::cuda::Result;

// How much of each end of a range is compared.
constexpr uint64_t kLookedAt = 64 << 10;

class PeerSide {
 public:
  explicit PeerSide(unsigned device) : ordinal_(static_cast<int>(device)) {}

  void Handle(const PeerRequest& request, ipc::UniqueFd fd);
  const PeerReply& reply() const { return reply_; }
  ipc::UniqueFd TakeFd() { return std::move(fd_); }

 private:
  void Fail(const std::string& text) {
    std::snprintf(reply_.text, sizeof(reply_.text), "%s", text.c_str());
  }
  // False, and the reply says so, when that call failed.
  bool Check(Result result, const char* what) {
    if (result == ipc::cuda::kSuccess) return true;
    reply_.result = result;
    Fail(std::string(driver_->ToStatus(result, what).message()));
    return false;
  }
  uint64_t& v(size_t i) { return reply_.values[i]; }
  static uint64_t Time(const Stopwatch& since) {
    return static_cast<uint64_t>(since.Nanoseconds());
  }
  const Driver& driver() const { return *driver_; }

  void OpenContext();
  void Allocate(const PeerRequest& request);
  void CheckBytes(const PeerRequest& request);
  void Export(const PeerRequest& request);
  void ExportOften(const PeerRequest& request);
  void Open(const PeerRequest& request);
  void OpenOften(const PeerRequest& request);
  void Create(const PeerRequest& request);
  void Share();
  void Import(const PeerRequest& request, const ipc::UniqueFd& fd);
  bool Map(uint64_t bytes, int access);
  void Unmap(const PeerRequest& request);
  void WriteByKernel(const PeerRequest& request);
  template <typename Call>
  void Timed(const char* what, Call call) {
    const Stopwatch watch;
    if (Check(call(), what)) v(0) = Time(watch);
  }

  const int ordinal_;
  const Driver* driver_ = nullptr;
  ipc::cuda::AllocationHandle vmm_handle_ = 0;
  PeerReply reply_;
  ipc::UniqueFd fd_;
};

void PeerSide::OpenContext() {
  const Stopwatch load;
  const absl::StatusOr<const Driver*> driver = Driver::Get();
  if (!driver.ok()) return Fail(std::string(driver.status().message()));
  driver_ = *driver;
  v(0) = Time(load);
  const Stopwatch watch;
  ipc::cuda::Context context = nullptr;
  if (!Check((*driver_)->DevicePrimaryCtxRetain(&context, ordinal_), "cuDevicePrimaryCtxRetain") ||
      !Check((*driver_)->CtxSetCurrent(context), "cuCtxSetCurrent")) {
    return;
  }
  v(1) = Time(watch);
}

void PeerSide::Allocate(const PeerRequest& request) {
  const Stopwatch watch;
  DevicePtr address = 0;
  if (!Check(driver()->MemAlloc(&address, request.bytes), "cuMemAlloc")) return;
  v(0) = address;
  v(1) = Time(watch);
}

void PeerSide::CheckBytes(const PeerRequest& request) {
  const uint64_t bytes = std::min(request.bytes, kLookedAt);
  std::vector<unsigned char> seen(bytes);
  uint64_t differ = 0;
  for (const DevicePtr from : {request.address, request.address + request.bytes - bytes}) {
    if (!Check(driver()->MemcpyDtoH(seen.data(), from, bytes), "cuMemcpyDtoH")) return;
    differ +=
        static_cast<uint64_t>(std::count_if(seen.begin(), seen.end(), [&](unsigned char byte) {
          return byte != static_cast<unsigned char>(request.value);
        }));
  }
  v(0) = differ;
}

void PeerSide::Export(const PeerRequest& request) {
  Timed("cuIpcGetMemHandle",
        [&] { return driver()->IpcGetMemHandle(&reply_.handle, request.address); });
}

void PeerSide::ExportOften(const PeerRequest& request) {
  Samples samples;
  for (uint32_t i = 0; i < request.value; ++i) {
    Export(request);
    if (!reply_.ok()) return;
    samples.Add(static_cast<double>(v(0)));
  }
  v(0) = static_cast<uint64_t>(samples.Median());
  v(1) = static_cast<uint64_t>(samples.Most());
}

void PeerSide::Open(const PeerRequest& request) {
  const Stopwatch watch;
  DevicePtr address = 0;
  if (!Check(
          driver()->IpcOpenMemHandle(&address, request.handle, ipc::cuda::kIpcLazyEnablePeerAccess),
          "cuIpcOpenMemHandle")) {
    return;
  }
  v(0) = address;
  v(1) = Time(watch);
  DevicePtr base = 0;
  size_t bytes = 0;
  if (!Check(driver()->MemGetAddressRange(&base, &bytes, address), "cuMemGetAddressRange")) return;
  v(2) = base;
  v(3) = bytes;
}

void PeerSide::OpenOften(const PeerRequest& request) {
  Samples opens;
  Samples closes;
  for (uint32_t i = 0; i < request.value; ++i) {
    Open(request);
    if (!reply_.ok()) return;
    opens.Add(static_cast<double>(v(1)));
    const DevicePtr address = v(0);
    const Stopwatch watch;
    if (!Check(driver()->IpcCloseMemHandle(address), "cuIpcCloseMemHandle")) return;
    closes.Add(watch.Nanoseconds());
  }
  v(0) = static_cast<uint64_t>(opens.Median());
  v(1) = static_cast<uint64_t>(opens.Most());
  v(2) = static_cast<uint64_t>(closes.Median());
  v(3) = static_cast<uint64_t>(closes.Most());
}

bool PeerSide::Map(uint64_t bytes, int access) {
  const Stopwatch map;
  DevicePtr address = 0;
  if (!Check(driver()->MemAddressReserve(&address, bytes, 0, 0, 0), "cuMemAddressReserve") ||
      !Check(driver()->MemMap(address, bytes, 0, vmm_handle_, 0), "cuMemMap")) {
    return false;
  }
  v(0) = address;
  v(2) = Time(map);
  const Stopwatch set;
  const ipc::cuda::AccessDesc desc{
      .location = {.type = ipc::cuda::kLocationTypeDevice, .id = ordinal_}, .flags = access};
  if (!Check(driver()->MemSetAccess(address, bytes, &desc, 1), "cuMemSetAccess")) return false;
  v(3) = Time(set);
  return true;
}

void PeerSide::Create(const PeerRequest& request) {
  ipc::cuda::AllocationProp prop{};
  prop.type = ipc::cuda::kAllocationTypePinned;
  prop.requested_handle_types = ipc::cuda::kHandleTypePosixFd;
  prop.location = {.type = ipc::cuda::kLocationTypeDevice, .id = ordinal_};
  const Stopwatch watch;
  if (!Check(driver()->MemCreate(&vmm_handle_, request.bytes, &prop, 0), "cuMemCreate")) return;
  v(1) = Time(watch);
  Map(request.bytes, ipc::cuda::kAccessReadWrite);
}

void PeerSide::Share() {
  int fd = -1;
  Timed("cuMemExportToShareableHandle", [&] {
    return driver()->MemExportToShareableHandle(&fd, vmm_handle_, ipc::cuda::kHandleTypePosixFd, 0);
  });
  fd_.reset(fd);
}

void PeerSide::Import(const PeerRequest& request, const ipc::UniqueFd& fd) {
  const Stopwatch watch;
  // The descriptor's number is passed as the pointer's value.
  void* const shareable = reinterpret_cast<void*>(static_cast<uintptr_t>(fd.get()));
  if (!Check(driver()->MemImportFromShareableHandle(&vmm_handle_, shareable,
                                                    ipc::cuda::kHandleTypePosixFd),
             "cuMemImportFromShareableHandle")) {
    return;
  }
  v(1) = Time(watch);
  Map(request.bytes, static_cast<int>(request.value));
}

void PeerSide::Unmap(const PeerRequest& request) {
  const Stopwatch watch;
  if (!Check(driver()->MemUnmap(request.address, request.bytes), "cuMemUnmap") ||
      !Check(driver()->MemAddressFree(request.address, request.bytes), "cuMemAddressFree")) {
    return;
  }
  v(0) = Time(watch);
}

void PeerSide::WriteByKernel(const PeerRequest& request) {
  ipc::cuda::Module module = nullptr;
  ipc::cuda::Function function = nullptr;
  if (!Check(driver()->ModuleLoadData(&module, kStoreKernelPtx), "cuModuleLoadData")) return;
  v(0) = 1;
  if (!Check(driver()->ModuleGetFunction(&function, module, kStoreKernelName),
             "cuModuleGetFunction")) {
    return;
  }
  v(0) = 2;
  uint64_t address = request.address;
  uint32_t value = request.value * 0x01010101u;
  std::array<void*, 2> arguments = {&address, &value};
  if (!Check(
          driver()->LaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, nullptr, arguments.data(), nullptr),
          "cuLaunchKernel")) {
    return;
  }
  v(0) = 3;
  if (Check(driver()->CtxSynchronize(), "cuCtxSynchronize after a kernel")) v(0) = 4;
}

void PeerSide::Handle(const PeerRequest& request, ipc::UniqueFd fd) {
  reply_ = PeerReply();
  fd_.reset();
  if (request.verb == Verb::kOpenContext) return OpenContext();
  if (driver_ == nullptr) return Fail("the peer has no context yet");
  const auto value = static_cast<unsigned char>(request.value);
  switch (request.verb) {
    case Verb::kOpenContext:
      return;
    case Verb::kCloseContext:
      return Timed("cuDevicePrimaryCtxRelease",
                   [&] { return driver()->DevicePrimaryCtxRelease(ordinal_); });
    case Verb::kAllocate:
      return Allocate(request);
    case Verb::kFree:
      return Timed("cuMemFree", [&] { return driver()->MemFree(request.address); });
    case Verb::kWriteByFill:
    case Verb::kFill:
      return Timed("cuMemsetD8", [&] {
        const uint64_t bytes = request.verb == Verb::kFill ? request.bytes : 1;
        const Result set = driver()->MemsetD8(request.address, value, bytes);
        return set != ipc::cuda::kSuccess ? set : driver()->CtxSynchronize();
      });
    case Verb::kWriteByCopy:
      return Timed("cuMemcpyHtoD", [&] {
        const Result copied = driver()->MemcpyHtoD(request.address, &value, 1);
        return copied != ipc::cuda::kSuccess ? copied : driver()->CtxSynchronize();
      });
    case Verb::kWriteByKernel:
      return WriteByKernel(request);
    case Verb::kCheck:
      return CheckBytes(request);
    case Verb::kMemoryInfo: {
      size_t free = 0;
      size_t total = 0;
      Timed("cuMemGetInfo", [&] { return driver()->MemGetInfo(&free, &total); });
      v(2) = std::exchange(v(0), free);
      v(1) = total;
      return;
    }
    case Verb::kLegacyCapable: {
      unsigned capable = 0;
      Timed("cuPointerGetAttribute", [&] {
        return driver()->PointerGetAttribute(&capable, ipc::cuda::kPointerAttributeLegacyIpcCapable,
                                             request.address);
      });
      // A bool of the driver's: it may have written one byte of it.
      v(0) = (capable & 0xff) != 0;
      return;
    }
    case Verb::kExport:
      return Export(request);
    case Verb::kExportOften:
      return ExportOften(request);
    case Verb::kOpen:
      return Open(request);
    case Verb::kClose:
      return Timed("cuIpcCloseMemHandle",
                   [&] { return driver()->IpcCloseMemHandle(request.address); });
    case Verb::kOpenOften:
      return OpenOften(request);
    case Verb::kCreate:
      return Create(request);
    case Verb::kShare:
      return Share();
    case Verb::kImport:
      return Import(request, fd);
    case Verb::kUnmap:
      return Unmap(request);
    case Verb::kReleaseHandle:
      return Timed("cuMemRelease", [&] { return driver()->MemRelease(vmm_handle_); });
  }
  Fail("no such verb");
}

}  // namespace

int RunPeer(unsigned device) {
  const ipc::UniqueFd socket(kPeerSocket);
  PeerSide side(device);
  for (;;) {
    PeerRequest request;
    ipc::UniqueFd fd;
    if (!ReceivePacket(socket.get(), std::as_writable_bytes(std::span(&request, 1)), fd,
                       absl::InfiniteDuration())
             .ok()) {
      return 0;  // whoever told it what to do has gone
    }
    side.Handle(request, std::move(fd));
    const ipc::UniqueFd shared = side.TakeFd();
    if (!SendPacket(socket.get(), std::as_bytes(std::span(&side.reply(), 1)), shared.get()).ok()) {
      return 0;
    }
  }
}

}  // namespace baton::gpu_check
