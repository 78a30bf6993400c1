// The iterator that a method gets for its streaming input.
#ifndef BATON_LOADER_PYTHON_ITEM_FEED_H_
#define BATON_LOADER_PYTHON_ITEM_FEED_H_

#include <pybind11/pybind11.h>

#include <thread>

#include "absl/status/status.h"

#include "loader/model.h"
#include "loader/python/method_plan.h"

namespace baton::python {

// Shared by the stream, which detaches it at its end, and by the model's code,
// which may keep it.
//
// Thread safety: with the GIL. Next waits without it. Items are to be asked for
// on the thread of the call; on another one it is a RuntimeError.
class ItemFeed {
 public:
  // `plan` and `source` must live until Detach.
  ItemFeed(const MethodPlan& plan, loader::ItemSource& source)
      : plan_(&plan), source_(&source), thread_(std::this_thread::get_id()) {}

  // The next item, a private copy. Throws what Python is to see: StopIteration,
  // baton.CallEnded when the call is over for its caller, ValueError for an
  // item that is none of the annotated type.
  pybind11::object Next();
  void Detach() { source_ = nullptr; }

  // Why the caller's end ended it; the stream's status then.
  const absl::Status& ended() const { return ended_; }
  bool had_bad_item() const { return had_bad_item_; }

 private:
  const MethodPlan* plan_;
  loader::ItemSource* source_;
  const std::thread::id thread_;
  bool over_ = false;
  bool had_bad_item_ = false;
  absl::Status ended_;
};

}  // namespace baton::python

#endif  // BATON_LOADER_PYTHON_ITEM_FEED_H_
