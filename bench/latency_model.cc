// What the other end of a peer does, as a model: `skip` leaves its payload
// alone, `read` adds it up. The answer is 8 bytes.
#include <cstdint>
#include <span>
#include <vector>

#include "baton/model.h"
#include "bench/payload.h"

namespace {

constexpr size_t kRead = 1;

class LatencyModel final : public baton::Model {
 public:
  explicit LatencyModel(const baton::ModelContext&) {}
  std::vector<baton::Method> methods() const override {
    const baton::Signature signature{
        .inputs = {{"payload", baton::DType::kUInt8, {baton::kDynamicDim}}},
        .outputs = {{"sum", baton::DType::kUInt64, {1}}}};
    return {{.name = "skip", .signature = signature}, {.name = "read", .signature = signature}};
  }
  void RunMethod(size_t method, std::span<const baton::TensorView> inputs,
                 baton::Outputs& outputs) override {
    outputs.Allocate<uint64_t>(0, {1})[0] =
        method == kRead ? baton::bench::ReadPayload(inputs[0].bytes) : 0;
  }
};

}  // namespace

BATON_REGISTER_MODEL(LatencyModel)
