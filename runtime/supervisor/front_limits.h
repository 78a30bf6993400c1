// How many fronts a server takes, and how large their channels may be.
#ifndef BATON_RUNTIME_SUPERVISOR_FRONT_LIMITS_H_
#define BATON_RUNTIME_SUPERVISOR_FRONT_LIMITS_H_

#include <cstdint>

namespace baton::runtime {

struct FrontLimits {
  uint32_t max_sessions = 1024;  // fronts and clients
  uint32_t max_channels = 4096;  // of all fronts
  uint32_t max_channels_per_session = 512;
  uint64_t max_segment_bytes = uint64_t{512} << 30;
};

}  // namespace baton::runtime

#endif  // BATON_RUNTIME_SUPERVISOR_FRONT_LIMITS_H_
