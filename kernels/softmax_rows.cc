#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>

#include "kernels/dense.h"
#include "kernels/x86_levels.h"

// libmvec, a part of glibc, has expf for a whole vector. Its header says so to the compiler only
// with -ffast-math, which would take NaN and infinity away too.
#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && defined(__GLIBC__)
extern "C" __attribute__((simd("notinbranch"), const)) float expf(float x) noexcept;
#endif

namespace baton::kernels {
namespace {

// Of kDenseLane values. One piece of code for all of them, whatever a compiler makes of it: a
// value's bits do not depend on where it stands.
BATON_AVX512_AVX2_OR_ANY
__attribute__((noinline)) void ExpLanes(float* lanes) {
  // Not unrolled: only of a loop the compiler makes a vector.
#pragma GCC unroll 1
  for (size_t i = 0; i < kDenseLane; ++i) lanes[i] = expf(lanes[i]);
}

// Of all at once: a row alone would leave most of a vector empty.
void Exp(float* values, size_t count) {
  size_t done = 0;
  for (; done + kDenseLane <= count; done += kDenseLane) ExpLanes(values + done);
  if (done == count) return;
  float lanes[kDenseLane] = {};
  std::copy(values + done, values + count, lanes);
  ExpLanes(lanes);
  std::copy(lanes, lanes + (count - done), values + done);
}

BATON_AVX2_OR_ANY
void SubtractLargest(std::span<float> values, size_t columns) {
  for (float* row = values.data(); row != values.data() + values.size(); row += columns) {
    float largest = row[0];
    for (size_t i = 1; i < columns; ++i) largest = largest < row[i] ? row[i] : largest;
    for (size_t i = 0; i < columns; ++i) row[i] -= largest;
  }
}

BATON_AVX2_OR_ANY
void DivideBySum(std::span<float> values, size_t columns) {
  for (float* row = values.data(); row != values.data() + values.size(); row += columns) {
    float sum = 0.0f;
    for (size_t i = 0; i < columns; ++i) sum += row[i];
    for (size_t i = 0; i < columns; ++i) row[i] /= sum;
  }
}

}  // namespace

void SoftmaxRows(std::span<float> values, size_t columns) {
  SubtractLargest(values, columns);
  Exp(values.data(), values.size());
  DivideBySum(values, columns);
}

}  // namespace baton::kernels
