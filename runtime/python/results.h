// Responses as Python objects.
#ifndef BATON_RUNTIME_PYTHON_RESULTS_H_
#define BATON_RUNTIME_PYTHON_RESULTS_H_

#include <pybind11/pybind11.h>

#include <memory>

#include "absl/status/statusor.h"

#include "baton/response.h"
#include "runtime/python/method_info.h"
#include "runtime/python/shared_channel.h"

namespace baton::python {

// What arrays that are views of a response refer to: its block is loaned again
// when the last of them has gone. A Python object (`_front.Lease`).
class Lease {
 public:
  Lease(std::shared_ptr<SharedChannel> channel, Response response)
      : channel_(std::move(channel)), response_(std::move(response)) {}
  ~Lease() {
    if (response_.valid()) channel_->Release(std::move(response_));
  }
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;

  const Response& response() const { return response_; }

 private:
  const std::shared_ptr<SharedChannel> channel_;
  Response response_;
};

// How much of a call's result its caller sees.
enum class ResultDetail : uint8_t {
  kValue,    // the value
  kFull,     // baton.Result: value, generation, service time, context
  kTensors,  // baton.Tensors: every output as a view, generation, service time, context
};

// Which arrays of a result are views that keep the response.
enum class Views : uint8_t { kLarge, kNone };

// The result of a call of `info`. Arrays are views that keep the response where
// all of it is more than 64 KiB (a smaller one would keep a block of that size)
// and more than half of the channel's room for responses is free (what is kept
// for long may not keep the next calls out); copies else. Those of kTensors are
// views always. The caller is inside a Use of
// `channel` and holds the GIL.
absl::StatusOr<pybind11::object> ToResult(const MethodInfo& info, ResultDetail detail,
                                          const std::shared_ptr<SharedChannel>& channel,
                                          Response response, Views views = Views::kLarge);

}  // namespace baton::python

#endif  // BATON_RUNTIME_PYTHON_RESULTS_H_
