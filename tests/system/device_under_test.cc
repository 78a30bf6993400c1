#include "tests/system/device_under_test.h"

#include <cstdlib>
#include <memory>
#include <string_view>

namespace baton::testing {

SimGpu* SimulatedGpu() {
  static const std::unique_ptr<SimGpu> gpu = []() -> std::unique_ptr<SimGpu> {
    const char* const device = std::getenv("BATON_TEST_DEVICE");
    if (device == nullptr || std::string_view(device) != "simgpu") return nullptr;
    auto made = std::make_unique<SimGpu>();
    made->UseInThisProcess();
    return made;
  }();
  return gpu.get();
}

std::string DeviceConfig() { return SimulatedGpu() == nullptr ? "" : "device: cuda:0\n"; }

std::map<std::string, std::string> DeviceEnvironment() {
  if (SimGpu* const gpu = SimulatedGpu()) return gpu->Variables();
  return {};
}

}  // namespace baton::testing
