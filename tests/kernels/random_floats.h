// Numbers for the tests of kernels: the same for the same seed.
#ifndef BATON_TESTS_KERNELS_RANDOM_FLOATS_H_
#define BATON_TESTS_KERNELS_RANDOM_FLOATS_H_

#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

namespace baton::kernels::cuda {

inline std::vector<float> RandomFloats(size_t count, uint32_t seed, float bound = 1.0f) {
  std::mt19937 engine(seed);
  std::uniform_real_distribution<float> values(-bound, bound);
  std::vector<float> result(count);
  for (float& value : result) value = values(engine);
  return result;
}

}  // namespace baton::kernels::cuda

#endif  // BATON_TESTS_KERNELS_RANDOM_FLOATS_H_
