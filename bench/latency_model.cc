// What the other end of a peer does, as a model: `skip` leaves its payload
// alone, `read` adds it up. `pause` keeps its CPU for as many nanoseconds as the
// payload's first 8 bytes say, and answers with the time at its end, of
// CLOCK_MONOTONIC in nanoseconds. The answer is 8 bytes.
#include <time.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "baton/model.h"
#include "bench/payload.h"

namespace {

constexpr size_t kRead = 1;
constexpr size_t kPause = 2;

uint64_t NowNs() {
  timespec now;
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

uint64_t Pause(std::span<const std::byte> payload) {
  uint64_t pause_ns = 0;
  std::memcpy(&pause_ns, payload.data(), std::min(payload.size(), sizeof(pause_ns)));
  const uint64_t end_ns = NowNs() + pause_ns;
  for (;;) {
    const uint64_t now_ns = NowNs();
    if (now_ns >= end_ns) return now_ns;
  }
}

class LatencyModel final : public baton::Model {
 public:
  explicit LatencyModel(const baton::ModelContext&) {}
  std::vector<baton::Method> methods() const override {
    const baton::Signature signature{
        .inputs = {{"payload", baton::DType::kUInt8, {baton::kDynamicDim}}},
        .outputs = {{"sum", baton::DType::kUInt64, {1}}}};
    return {{.name = "skip", .signature = signature},
            {.name = "read", .signature = signature},
            {.name = "pause", .signature = signature}};
  }
  void RunMethod(size_t method, std::span<const baton::TensorView> inputs,
                 baton::Outputs& outputs) override {
    uint64_t& answer = outputs.Allocate<uint64_t>(0, {1})[0];
    answer = 0;
    if (method == kRead) answer = baton::bench::ReadPayload(inputs[0].bytes);
    if (method == kPause) answer = Pause(inputs[0].bytes);
  }
};

}  // namespace

BATON_REGISTER_MODEL(LatencyModel)
