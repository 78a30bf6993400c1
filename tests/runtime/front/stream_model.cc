#include "tests/runtime/front/stream_model.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

namespace baton::test {
namespace {

TensorSpec Scalar(const char* name, bool optional = false, bool streamed = false) {
  return {.name = name,
          .dtype = DType::kInt64,
          .shape = {},
          .content = Content::kScalar,
          .optional = optional,
          .streamed = streamed};
}

int64_t Value(const TensorView& view, int64_t otherwise) {
  return view.dtype == DType::kInvalid ? otherwise : view.As<int64_t>()[0];
}

absl::Status Give(loader::OutputSink& outputs, int64_t value, int64_t size = 1) {
  absl::StatusOr<std::span<std::byte>> to = outputs.Allocate(0, std::span(&size, 1));
  if (!to.ok()) return to.status();
  std::fill_n(reinterpret_cast<int64_t*>(to->data()), size, value);
  return absl::OkStatus();
}

// Counts what runs of the model at once.
class Inside {
 public:
  explicit Inside(StreamModel& model) : model_(model) { Enter(); }
  ~Inside() { Leave(); }
  Inside(const Inside&) = delete;
  Inside& operator=(const Inside&) = delete;
  void Enter() {
    const int now = model_.inside.fetch_add(1) + 1;
    int most = model_.most_inside.load();
    while (most < now && !model_.most_inside.compare_exchange_weak(most, now)) {
    }
  }
  void Leave() { model_.inside.fetch_sub(1); }

 private:
  StreamModel& model_;
};

// Counts for the model what it gives.
class CountedStream : public loader::ModelStream {
 public:
  explicit CountedStream(StreamModel& model) : model_(model) { model_.started.fetch_add(1); }
  ~CountedStream() override {
    const Inside inside(model_);
    model_.destroyed.fetch_add(1);
  }
  absl::StatusOr<bool> Next(loader::OutputSink& outputs) override {
    Inside inside(model_);
    absl::StatusOr<bool> next = Try(outputs, inside);
    if (next.ok() && *next) model_.given.fetch_add(1);
    if (absl::IsResourceExhausted(next.status())) model_.refused.fetch_add(1);
    return next;
  }

 private:
  virtual absl::StatusOr<bool> Try(loader::OutputSink& outputs, Inside& inside) = 0;
  StreamModel& model_;
};

class Count final : public CountedStream {
 public:
  Count(StreamModel& model, std::span<const TensorView> inputs)
      : CountedStream(model),
        n_(Value(inputs[0], 0)),
        fail_(Value(inputs[1], -1)),
        size_(Value(inputs[2], 1)) {}

 private:
  absl::StatusOr<bool> Try(loader::OutputSink& outputs, Inside&) override {
    if (next_ == fail_) return absl::OutOfRangeError(absl::StrCat("no number ", next_));
    if (next_ == n_) return false;
    if (absl::Status given = Give(outputs, next_, size_); !given.ok()) return given;
    ++next_;
    return true;
  }
  const int64_t n_;
  const int64_t fail_;
  const int64_t size_;
  int64_t next_ = 0;
};

class Sum final : public CountedStream {
 public:
  Sum(StreamModel& model, loader::ItemSource& items, bool each)
      : CountedStream(model), items_(items), each_(each) {}

 private:
  absl::StatusOr<bool> Try(loader::OutputSink& outputs, Inside& inside) override {
    if (ended_) return false;
    for (;;) {
      inside.Leave();
      absl::StatusOr<std::optional<std::span<const TensorView>>> item = items_.Next();
      inside.Enter();
      if (!item.ok()) return item.status();
      ended_ = !item->has_value();
      if (ended_ && each_) return false;
      if (!ended_) sum_ += Value((**item)[0], 0);
      if (ended_ || each_) break;
    }
    if (absl::Status given = Give(outputs, sum_); !given.ok()) return given;
    return true;
  }
  loader::ItemSource& items_;
  const bool each_;
  int64_t sum_ = 0;
  bool ended_ = false;
};

}  // namespace

std::vector<Method> StreamMethods() {
  const std::vector<TensorSpec> y = {{.name = "y", .dtype = DType::kInt64, .shape = {kDynamicDim}}};
  return {{.name = "add", .signature = {.inputs = {Scalar("x")}, .outputs = y}},
          {.name = "count",
           .signature = {.inputs = {Scalar("n"), Scalar("fail", true), Scalar("size", true)},
                         .outputs = y},
           .streams_outputs = true},
          {.name = "sum",
           .signature = {.inputs = {Scalar("x", false, true)}, .outputs = y},
           .streams_inputs = true,
           .streams_outputs = true},
          {.name = "collect",
           .signature = {.inputs = {Scalar("x", false, true)}, .outputs = y},
           .streams_inputs = true}};
}

absl::Status StreamModel::RunMethod(size_t method, loader::CallContext&,
                                    std::span<const TensorView> inputs,
                                    loader::OutputSink& outputs) {
  if (method != kAdd) return absl::InternalError("a stream that is run once");
  const Inside inside(*this);
  return Give(outputs, Value(inputs[0], 0) + 1);
}

absl::StatusOr<std::unique_ptr<loader::ModelStream>> StreamModel::StartStream(
    size_t method, loader::CallContext&, std::span<const TensorView> inputs,
    loader::ItemSource& items) {
  const Inside inside(*this);
  if (method == kCount) return std::make_unique<Count>(*this, inputs);
  if (method == kAdd) return absl::InternalError("a call that is a stream");
  return std::make_unique<Sum>(*this, items, method == kSum);
}

}  // namespace baton::test
