// A model whose methods stream, for tests of streams; counts what happens to it.
#ifndef BATON_TESTS_RUNTIME_FRONT_STREAM_MODEL_H_
#define BATON_TESTS_RUNTIME_FRONT_STREAM_MODEL_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "loader/model.h"

namespace baton::test {

// All of int64:
//   add(x) -> y                    y = x + 1; not a stream
//   count(n, fail, size) -> y      0, 1, ... n - 1, each `size` times; an error in place of
//                                  number `fail`, where that is not negative
//   sum(x, x, ...) -> y, y, ...    after each item the sum so far
//   collect(x, x, ...) -> y        the sum, when there are no more
enum StreamMethod : uint32_t { kAdd = 0, kCount = 1, kSum = 2, kCollect = 3 };
std::vector<Method> StreamMethods();

class StreamModel : public loader::Model {
 public:
  explicit StreamModel(size_t max_streams = 1) : max_streams_(max_streams) {}

  const Signature& signature() const override { return methods_.front().signature; }
  std::span<const Method> methods() const override { return methods_; }
  uint64_t device_bytes() const override { return 0; }
  absl::Status Upload(const loader::DeviceRegion&) override { return absl::OkStatus(); }
  absl::Status Run(std::span<const TensorView>, loader::OutputSink&) override {
    return absl::InternalError("Run of a model that has methods");
  }
  absl::Status RunMethod(size_t method, loader::CallContext& call,
                         std::span<const TensorView> inputs, loader::OutputSink& outputs) override;
  absl::StatusOr<std::unique_ptr<loader::ModelStream>> StartStream(
      size_t method, loader::CallContext& call, std::span<const TensorView> inputs,
      loader::ItemSource& items) override;
  size_t max_streams() const override { return max_streams_; }

  // Read by tests while it is served.
  std::atomic<int> started{0};
  std::atomic<int> destroyed{0};
  std::atomic<int64_t> given{0};    // responses of streams
  std::atomic<int64_t> refused{0};  // that did not fit at first
  // Its code that runs in this moment, but for what waits for an item; and at most so far.
  std::atomic<int> inside{0};
  std::atomic<int> most_inside{0};

 private:
  const std::vector<Method> methods_ = StreamMethods();
  const size_t max_streams_;
};

}  // namespace baton::test

#endif  // BATON_TESTS_RUNTIME_FRONT_STREAM_MODEL_H_
