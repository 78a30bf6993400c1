// The device that tests of the whole system serve on: the host, or with
// BATON_TEST_DEVICE=simgpu in the environment a simulated GPU of the test
// process's own. The same tests run on both.
#ifndef BATON_TESTS_SYSTEM_DEVICE_UNDER_TEST_H_
#define BATON_TESTS_SYSTEM_DEVICE_UNDER_TEST_H_

#include <map>
#include <string>

#include "tests/simgpu/sim_gpu.h"

namespace baton::testing {

// nullptr: on the host. Made, and this process put on it, with the first call.
SimGpu* SimulatedGpu();

// A line of config.yaml, or nothing.
std::string DeviceConfig();

// What a process that is started with an environment of its own needs, too.
std::map<std::string, std::string> DeviceEnvironment();

}  // namespace baton::testing

#endif  // BATON_TESTS_SYSTEM_DEVICE_UNDER_TEST_H_
