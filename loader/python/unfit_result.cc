#include "loader/python/unfit_result.h"

#include <algorithm>
#include <utility>

namespace baton::python {

void UnfitResult::Keep(size_t method, std::span<const TensorView> inputs, pybind11::object result) {
  size_t bytes = 0;
  for (const TensorView& input : inputs) bytes += input.bytes.size();
  if (bytes > kMaxBytes) return;
  method_ = method;
  inputs_.clear();
  for (const TensorView& input : inputs) {
    inputs_.push_back({.dtype = input.dtype,
                       .shape = {input.shape.begin(), input.shape.end()},
                       .bytes = {input.bytes.begin(), input.bytes.end()}});
  }
  kept_ = std::chrono::steady_clock::now();
  result_ = std::move(result);
}

bool UnfitResult::Matches(std::span<const TensorView> inputs) const {
  return std::ranges::equal(inputs, inputs_, [](const TensorView& input, const Input& kept) {
    return input.dtype == kept.dtype && std::ranges::equal(input.shape, kept.shape) &&
           std::ranges::equal(input.bytes, kept.bytes);
  });
}

pybind11::object UnfitResult::Take(size_t method, std::span<const TensorView> inputs) {
  if (!result_) return {};
  const bool matches = fresh() && method == method_ && Matches(inputs);
  inputs_.clear();
  pybind11::object result = std::exchange(result_, {});
  if (!matches) result = {};
  return result;
}

bool UnfitResult::Has(size_t method, std::span<const TensorView> inputs) {
  if (!result_) return false;
  if (fresh()) return method == method_ && Matches(inputs);
  inputs_.clear();
  result_ = {};
  return false;
}

}  // namespace baton::python
