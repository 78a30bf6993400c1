// A context of the measurement's own process, for as long as the object lives.
#ifndef BATON_TOOLS_GPU_CHECK_MEASUREMENTS_OWN_CONTEXT_H_
#define BATON_TOOLS_GPU_CHECK_MEASUREMENTS_OWN_CONTEXT_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "ipc/cuda/driver.h"

namespace baton::gpu_check {

// Current to the thread that made it.
class OwnContext {
 public:
  static absl::StatusOr<std::unique_ptr<OwnContext>> Open(unsigned device) {
    const absl::StatusOr<const ipc::cuda::Driver*> driver = ipc::cuda::Driver::Get();
    if (!driver.ok()) return driver.status();
    std::unique_ptr<OwnContext> own(new OwnContext(**driver, static_cast<int>(device)));
    ipc::cuda::Context context = nullptr;
    absl::Status status =
        own->Check(own->driver_->DevicePrimaryCtxRetain(&context, own->device_), "a context");
    if (!status.ok()) return status;
    own->retained_ = true;
    status = own->Check(own->driver_->CtxSetCurrent(context), "cuCtxSetCurrent");
    if (!status.ok()) return status;
    return own;
  }
  ~OwnContext() {
    if (retained_) static_cast<void>(driver_->DevicePrimaryCtxRelease(device_));
  }
  OwnContext(const OwnContext&) = delete;
  OwnContext& operator=(const OwnContext&) = delete;

  const ipc::cuda::Driver& driver() const { return driver_; }
  absl::Status Check(ipc::cuda::Result result, const std::string& what) const {
    return driver_.ToStatus(result, what);
  }

 private:
  OwnContext(const ipc::cuda::Driver& driver, int device) : driver_(driver), device_(device) {}
  const ipc::cuda::Driver& driver_;
  const int device_;
  bool retained_ = false;
};

}  // namespace baton::gpu_check

#endif  // BATON_TOOLS_GPU_CHECK_MEASUREMENTS_OWN_CONTEXT_H_
