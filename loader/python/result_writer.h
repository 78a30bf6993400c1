// What a method returns, on its way into the loaned block.
//
// Thread safety: one thread, with the GIL.
#ifndef BATON_LOADER_PYTHON_RESULT_WRITER_H_
#define BATON_LOADER_PYTHON_RESULT_WRITER_H_

#include <pybind11/pybind11.h>

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "loader/model.h"
#include "loader/python/method_plan.h"

namespace baton::python {

// Writes one response. While it lives, baton.empty_output on this thread lends
// the memory of its sink. What was lent is taken back at its end: an array that
// somebody still has gets a private copy of its bytes to point to.
class ResultWriter {
 public:
  // Both must outlive this.
  ResultWriter(const MethodPlan& plan, loader::OutputSink& sink);
  ~ResultWriter();
  ResultWriter(const ResultWriter&) = delete;
  ResultWriter& operator=(const ResultWriter&) = delete;

  // Writes `result`: each output once, none that is where it belongs already.
  // RESOURCE_EXHAUSTED when the block is too small, after all sizes have been
  // asked for; INTERNAL when the result is not what the annotation promises.
  // In the call's context (CallContextVars::Scope): what set_output_context was
  // told goes with it.
  absl::Status Write(const pybind11::object& result);

  // `result` and what goes with it, for when the caller asks again; and the
  // same written then, in whatever context.
  pybind11::object ForLater(const pybind11::object& result) const;
  absl::Status WriteLater(const pybind11::object& kept);

  // The array of empty_output. Throws what Python is to see.
  pybind11::object Lend(const std::string& name, const std::vector<int64_t>& shape,
                        pybind11::handle dtype);

  // Of the call that this thread runs; nullptr: none.
  static ResultWriter* OfThisThread();

 private:
  struct Loan {
    size_t output = 0;
    pybind11::object array;
    pybind11::object keeper;     // the array's base; owns the copy, once there is one
    std::byte* block = nullptr;  // nullptr: it did not fit, the array has memory of its own
    DType dtype = DType::kInvalid;
    std::vector<int64_t> shape;
    uint64_t bytes = 0;
  };

  absl::StatusOr<std::span<std::byte>> Allocate(size_t output, DType dtype,
                                                std::span<const int64_t> shape);
  absl::Status Write(const pybind11::object& result, const pybind11::object& context);
  pybind11::object Context() const;
  absl::Status Split(const pybind11::object& result, std::vector<pybind11::object>& values) const;
  absl::Status WriteOutput(size_t output, pybind11::object value);
  void TakeBack(Loan& loan);

  const MethodPlan& plan_;
  loader::OutputSink& sink_;
  ResultWriter* const outer_;
  std::vector<Loan> loans_;
  absl::Status exhausted_;  // the sink's first refusal for size
};

}  // namespace baton::python

#endif  // BATON_LOADER_PYTHON_RESULT_WRITER_H_
