// The result of a call whose block was too small, for when the caller asks
// again: so that a method runs once, whatever its result's size.
#ifndef BATON_LOADER_PYTHON_UNFIT_RESULT_H_
#define BATON_LOADER_PYTHON_UNFIT_RESULT_H_

#include <pybind11/pybind11.h>

#include <chrono>
#include <cstddef>
#include <span>
#include <vector>

#include "baton/tensor.h"

namespace baton::python {

// Holds one result: for the next call alone, or, where several calls run at once, until it
// is asked for, too old, or replaced. A call that asks again is not told
// from another one of the same method with the very same inputs; nor can a model
// tell them apart, so that either may have the result, and the other runs.
//
// Thread safety: with the GIL, which whatever destroys a result may give up: that is done
// last.
class UnfitResult {
 public:
  // Does nothing where the inputs take more than kMaxBytes.
  void Keep(size_t method, std::span<const TensorView> inputs, pybind11::object result);
  // The result, if these are the inputs and it is not older than kMaxAge; else
  // null. Forgets it in any case.
  pybind11::object Take(size_t method, std::span<const TensorView> inputs);

  // Whether Take would give it. What is too old is forgotten.
  bool Has(size_t method, std::span<const TensorView> inputs);

  static constexpr size_t kMaxBytes = 16 << 20;
  static constexpr std::chrono::seconds kMaxAge{5};

 private:
  struct Input {
    DType dtype = DType::kInvalid;
    std::vector<int64_t> shape;
    std::vector<std::byte> bytes;
  };
  bool Matches(std::span<const TensorView> inputs) const;
  bool fresh() const { return std::chrono::steady_clock::now() - kept_ <= kMaxAge; }

  size_t method_ = 0;
  std::vector<Input> inputs_;
  pybind11::object result_;
  std::chrono::steady_clock::time_point kept_;
};

}  // namespace baton::python

#endif  // BATON_LOADER_PYTHON_UNFIT_RESULT_H_
