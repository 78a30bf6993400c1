// A request whose inputs the caller writes where the model reads them.
#ifndef BATON_RUNTIME_PYTHON_LOANED_REQUEST_H_
#define BATON_RUNTIME_PYTHON_LOANED_REQUEST_H_

#include <pybind11/pybind11.h>

#include <memory>

#include "baton/request.h"
#include "runtime/python/method_object.h"

namespace baton::python {

// The type `_front.LoanedRequest`. Its arrays stay readable and writable for
// as long as somebody has them; what is written there after the call may be
// read by this call or by a later one.
//
// Ownership: keeps a channel of its own out of its session's until it goes.
// Thread safety: the caller holds the GIL.
class LoanedRequest {
 public:
  // `shapes`: for each input a pair of a dtype's name and a shape.
  static std::unique_ptr<LoanedRequest> Make(pybind11::handle method, const pybind11::dict& shapes);
  ~LoanedRequest();

  // By name: writable numpy arrays, uninitialised.
  const pybind11::dict& arrays() const { return arrays_; }
  // As the method's call, once; results are baton.Tensors.
  pybind11::object Call();

 private:
  LoanedRequest(const MethodState& state, std::shared_ptr<SharedChannel> channel, Request request)
      : state_(state), channel_(std::move(channel)), request_(std::move(request)) {}

  const MethodState state_;
  std::shared_ptr<SharedChannel> channel_;
  Request request_;
  pybind11::dict arrays_;
};

}  // namespace baton::python

#endif  // BATON_RUNTIME_PYTHON_LOANED_REQUEST_H_
