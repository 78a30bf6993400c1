#include "ipc/cuda/driver.h"

#include <dlfcn.h>

#include <string>

#include "absl/strings/str_cat.h"

namespace baton::ipc::cuda {
namespace {

constexpr char kLibrary[] = "libcuda.so.1";

std::string VersionText(int version) {
  return absl::StrCat(version / 1000, ".", version % 1000 / 10);
}

absl::Status CannotInitialise(const Driver& driver, Result result) {
  const std::string what(driver.ToStatus(result, "cuInit").message());
  switch (result) {
    case kNoDevice:
    case kInvalidDevice:
      return absl::UnavailableError(absl::StrCat(
          "the NVIDIA driver finds no GPU (", what,
          "). Is CUDA_VISIBLE_DEVICES empty, or was the container started without --gpus? Use "
          "device: host where there is none"));
    case kSystemDriverMismatch:
      return absl::FailedPreconditionError(
          absl::StrCat("the NVIDIA driver's library and its kernel module differ in version (",
                       what, "). Reboot, or reload the module"));
    default:
      return absl::FailedPreconditionError(absl::StrCat("the NVIDIA driver does not start (", what,
                                                        "). Does nvidia-smi work here?"));
  }
}

}  // namespace

absl::StatusOr<const Driver*> Driver::Get() {
  static const absl::StatusOr<const Driver*> driver = Load();
  return driver;
}

absl::StatusOr<const Driver*> Driver::Load() {
  // Never closed: the driver has threads and exit handlers of its own.
  void* const library = ::dlopen(kLibrary, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const char* const why = ::dlerror();
    return absl::NotFoundError(
        absl::StrCat("no NVIDIA driver (", why == nullptr ? kLibrary : why,
                     "). Install one, start the container with --gpus, or use device: host"));
  }
  static Driver driver;
#define BATON_RESOLVE(member, symbol, parameters)                                      \
  driver.table_.member =                                                               \
      reinterpret_cast<decltype(driver.table_.member)>(::dlsym(library, symbol));      \
  if (driver.table_.member == nullptr) {                                               \
    return absl::FailedPreconditionError(                                              \
        absl::StrCat("the NVIDIA driver lacks ", symbol, ": version ",                 \
                     cuda::VersionText(kOldestDriverVersion), " or later is needed")); \
  }
  BATON_CUDA_DRIVER_FUNCTIONS(BATON_RESOLVE)
#undef BATON_RESOLVE
  driver.carries_runtime_ = ::dlsym(library, "cuGetExportTable") != nullptr;
  // Before cuInit, which an old driver may refuse in words of its own.
  if (driver.table_.DriverGetVersion(&driver.version_) != kSuccess ||
      driver.version_ < kOldestDriverVersion) {
    return absl::FailedPreconditionError(
        absl::StrCat("the NVIDIA driver is for CUDA ", driver.VersionText(), ": ",
                     cuda::VersionText(kOldestDriverVersion), " or later is needed. Upgrade it"));
  }
  if (const Result result = driver.table_.Init(0); result != kSuccess) {
    return CannotInitialise(driver, result);
  }
  return &driver;
}

std::string Driver::VersionText() const { return cuda::VersionText(version_); }

absl::Status Driver::ToStatus(Result result, std::string_view what) const {
  if (result == kSuccess) return absl::OkStatus();
  const char* name = nullptr;
  const char* text = nullptr;
  if (table_.GetErrorName(result, &name) != kSuccess || name == nullptr) name = "unknown error";
  if (table_.GetErrorString(result, &text) != kSuccess || text == nullptr) text = "";
  const std::string message = absl::StrCat(std::string(what), ": ", name, " (", result, ")",
                                           *text == '\0' ? "" : ", ", text);
  switch (result) {
    case kOutOfMemory:
      return absl::ResourceExhaustedError(message);
    case kInvalidValue:
    case kInvalidHandle:
      return absl::InvalidArgumentError(message);
    case kNoDevice:
    case kInvalidDevice:
      return absl::UnavailableError(message);
    case kNotFound:
      return absl::NotFoundError(message);
    case kNotPermitted:
      return absl::PermissionDeniedError(message);
    case kNotSupported:
      return absl::UnimplementedError(message);
    case kInvalidImage:
    case kNoBinaryForGpu:
    case kUnsupportedPtxVersion:
    case kSystemDriverMismatch:
      return absl::FailedPreconditionError(message);
    default:
      return absl::InternalError(message);
  }
}

}  // namespace baton::ipc::cuda
