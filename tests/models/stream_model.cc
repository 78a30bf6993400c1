// A native model with methods that stream. Options:
//   max_streams   streams at once (default 1)
//   variable      what `state` says of the environment (default: nothing)
//
//   state() -> cancelled: int64[], pid: int64[], value: uint8[?]
//                  streams that were destroyed before their end; of this worker
//   count(n[, fail][, size]) -> y: int64[?], pid: int64[]
//                  0, 1, ... n - 1, each in `size` elements; throws in place of number `fail`
//   sum(x, x, ...) -> y: int64[?], pid: int64[]    the sum so far, after each item
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "baton/model.h"

namespace {

using baton::DType;
using baton::TensorSpec;
using baton::TensorView;

enum Which : size_t { kState, kCount, kSum };

int64_t Value(const TensorView& view, int64_t otherwise) {
  return view.dtype == DType::kInvalid ? otherwise : view.As<int64_t>()[0];
}

TensorSpec Scalar(const std::string& name, bool optional = false, bool streamed = false) {
  return {.name = name,
          .dtype = DType::kInt64,
          .shape = {},
          .content = baton::Content::kScalar,
          .optional = optional,
          .streamed = streamed,
          .type_text = "int",
          .default_text = optional ? "-1" : ""};
}

void Give(baton::Outputs& outputs, int64_t value, int64_t size) {
  const std::span<int64_t> y = outputs.Allocate<int64_t>(0, {size});
  std::fill(y.begin(), y.end(), value);
  outputs.Allocate<int64_t>(1, std::span<const int64_t>())[0] = ::getpid();
}

// Counts itself where it goes before its end.
class Counted : public baton::ModelStream {
 public:
  explicit Counted(int64_t& cancelled) : cancelled_(cancelled) {}
  ~Counted() override { cancelled_ += ended_ ? 0 : 1; }

 protected:
  bool ended_ = false;

 private:
  int64_t& cancelled_;
};

class Count final : public Counted {
 public:
  Count(int64_t& cancelled, std::span<const TensorView> inputs)
      : Counted(cancelled),
        n_(Value(inputs[0], 0)),
        fail_(Value(inputs[1], -1)),
        size_(Value(inputs[2], 1)) {}
  bool Next(baton::Outputs& outputs) override {
    if (next_ == fail_) {
      ended_ = true;
      throw std::runtime_error("no number " + std::to_string(next_));
    }
    ended_ = next_ == n_;
    if (ended_) return false;
    Give(outputs, next_, size_);
    ++next_;
    return true;
  }

 private:
  const int64_t n_;
  const int64_t fail_;
  const int64_t size_;
  int64_t next_ = 0;
};

class Sum final : public Counted {
 public:
  Sum(int64_t& cancelled, baton::Items& items) : Counted(cancelled), items_(items) {}
  bool Next(baton::Outputs& outputs) override {
    const auto item = items_.Next();
    ended_ = !item;
    if (ended_) return false;
    Give(outputs, sum_ += Value((*item)[0], 0), 1);
    return true;
  }

 private:
  baton::Items& items_;
  int64_t sum_ = 0;
};

class StreamModel final : public baton::Model {
 public:
  explicit StreamModel(const baton::ModelContext& context)
      : max_streams_(std::stoul(context.Option("max_streams", "1"))) {
    const char* value = std::getenv(context.Option("variable", "none").c_str());
    if (value != nullptr) value_ = value;
  }

  std::vector<baton::Method> methods() const override {
    const std::vector<TensorSpec> outputs = {
        {.name = "y", .dtype = DType::kInt64, .shape = {baton::kDynamicDim}}, Scalar("pid")};
    return {{.name = "state",
             .signature = {.inputs = {},
                           .outputs = {Scalar("cancelled"),
                                       Scalar("pid"),
                                       {.name = "value",
                                        .dtype = DType::kUInt8,
                                        .shape = {baton::kDynamicDim},
                                        .content = baton::Content::kText}}}},
            {.name = "count",
             .signature = {.inputs = {Scalar("n"), Scalar("fail", true), Scalar("size", true)},
                           .outputs = outputs},
             .streams_outputs = true,
             .doc = "Counts."},
            {.name = "sum",
             .signature = {.inputs = {Scalar("x", false, true)}, .outputs = outputs},
             .streams_inputs = true,
             .streams_outputs = true}};
  }
  size_t max_streams() const override { return max_streams_; }

  void RunMethod(size_t, std::span<const TensorView>, baton::Outputs& outputs) override {
    const std::span<const int64_t> scalar;
    outputs.Allocate<int64_t>(0, scalar)[0] = cancelled_;
    outputs.Allocate<int64_t>(1, scalar)[0] = ::getpid();
    const std::span<char> value = outputs.Allocate<char>(2, {static_cast<int64_t>(value_.size())});
    std::copy(value_.begin(), value_.end(), value.begin());
  }

  std::unique_ptr<baton::ModelStream> StartStream(size_t method, std::span<const TensorView> inputs,
                                                  baton::Items& items) override {
    if (method == kCount) return std::make_unique<Count>(cancelled_, inputs);
    return std::make_unique<Sum>(cancelled_, items);
  }

 private:
  const size_t max_streams_;
  std::string value_;
  int64_t cancelled_ = 0;
};

}  // namespace

BATON_REGISTER_MODEL(StreamModel)
