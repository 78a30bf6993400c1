#include "kernels/cast.h"

#include "kernels/float_bits.h"

namespace baton::kernels {
namespace {

template <FloatType kFrom, FloatType kTo>
void CastBetween(const CastArgs& args) {
  const auto* const from = static_cast<const FloatBits<kFrom>*>(args.input);
  auto* const to = static_cast<FloatBits<kTo>*>(args.output);
  for (size_t i = 0; i < args.count; ++i) to[i] = ConvertFloatBits<kFrom, kTo>(from[i]);
}

template <FloatType kFrom>
void CastFrom(const CastArgs& args) {
  switch (args.output_type) {
    case FloatType::kFloat32:
      return CastBetween<kFrom, FloatType::kFloat32>(args);
    case FloatType::kFloat16:
      return CastBetween<kFrom, FloatType::kFloat16>(args);
    case FloatType::kBfloat16:
      return CastBetween<kFrom, FloatType::kBfloat16>(args);
  }
}

}  // namespace

void Cast(const CastArgs& args) {
  switch (args.input_type) {
    case FloatType::kFloat32:
      return CastFrom<FloatType::kFloat32>(args);
    case FloatType::kFloat16:
      return CastFrom<FloatType::kFloat16>(args);
    case FloatType::kBfloat16:
      return CastFrom<FloatType::kBfloat16>(args);
  }
}

}  // namespace baton::kernels
