// What is known of a generation's device memory after its worker was reaped.
#ifndef BATON_RUNTIME_SUPERVISOR_DEVICE_VERDICT_H_
#define BATON_RUNTIME_SUPERVISOR_DEVICE_VERDICT_H_

#include <sys/types.h>

#include <string>
#include <vector>

namespace baton::runtime {

// Every way of not knowing has its own verdict; "freed" is never one of them.
struct DeviceVerdict {
  bool answered = false;  // the helper has said so itself
  bool freed = false;
  bool mapped = false;           // some process maps it
  std::string text = "unknown";  // "freed", "pinned-by <pid>", "driver-held", "unknown"
  std::string source;            // how it is known
  std::string detail;            // of what is not known: why
  std::vector<pid_t> holders;    // who maps it, as far as they could be seen
};

}  // namespace baton::runtime

#endif  // BATON_RUNTIME_SUPERVISOR_DEVICE_VERDICT_H_
