// Prints the UUID of the first device, as the driver has it and as NVML has it:
// what a program sees that finds both libraries by their names.
#include <cstdio>
#include <string>

#include "ipc/cuda/driver.h"
#include "ipc/cuda/nvml.h"

int main() {
  using baton::ipc::cuda::Driver;
  using baton::ipc::cuda::Nvml;
  const auto driver = Driver::Get();
  const auto nvml = Nvml::Get();
  if (!driver.ok() || !nvml.ok()) return 1;
  baton::ipc::cuda::Uuid uuid{};
  if ((**driver)->DeviceGetUuid(&uuid, 0) != baton::ipc::cuda::kSuccess) return 1;
  const auto device = (*nvml)->DeviceAt(0);
  if (!device.ok()) return 1;
  const auto text = (*nvml)->UuidOf(*device);
  if (!text.ok()) return 1;
  std::printf("%s %s", baton::ipc::cuda::UuidText(uuid).c_str(), text->c_str());
  return 0;
}
