// A call that gives any number of results: an iterator in Python.
#ifndef BATON_RUNTIME_PYTHON_STREAM_OBJECT_H_
#define BATON_RUNTIME_PYTHON_STREAM_OBJECT_H_

#include <pybind11/pybind11.h>

#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "baton/stream.h"
#include "runtime/python/arguments.h"
#include "runtime/python/blocking_call.h"
#include "runtime/python/front_session.h"

namespace baton::python {

// The type `_front.Stream`. Results are copies: a stream has room for a few
// that are not released, so a caller who kept some views would wait for ever.
//
// Ownership: keeps a channel, which is its own or a CallQueue's; its end, or
// its last reference's, cancels the call.
// Thread safety: the caller holds the GIL. One thread at a time; Close may be
// called by another one, whose wish is met within 50 ms.
class StreamCall {
 public:
  // Starts it on a channel that the session's pool gives, and takes back.
  static absl::StatusOr<std::unique_ptr<StreamCall>> Open(
      const std::shared_ptr<FrontSession>& session, const MethodInfo& info,
      const CallSettings& settings, const Arguments& arguments);
  // Starts it on `channel`, which others use, too.
  static absl::StatusOr<std::unique_ptr<StreamCall>> Open(
      const std::shared_ptr<FrontSession>& session, const std::shared_ptr<SharedChannel>& channel,
      const MethodInfo& info, const CallSettings& settings, const Arguments& arguments);
  ~StreamCall();

  // The next result; waits for it without the GIL. Throws StopIteration at the
  // end, and after it.
  pybind11::object Next();
  // (True, result), (False, None) at the end, or None where nothing has come.
  pybind11::object TryRead();
  // False where the window is full.
  bool TryWrite(pybind11::handle item);
  void WritesDone();
  // Until something may be read or written, `fd` is readable, or `seconds` have
  // passed. Without the GIL. Not on a CallQueue's channel.
  void Wait(int fd, double seconds);
  // Cancels it where it has not ended. Idempotent.
  void Close();

 private:
  StreamCall(std::shared_ptr<FrontSession> session, std::shared_ptr<SharedChannel> channel,
             const MethodInfo& info, ResultDetail detail, bool pooled)
      : session_(std::move(session)),
        channel_(std::move(channel)),
        info_(info),
        detail_(detail),
        pooled_(pooled) {}

  absl::Status Start(Request&& request, const CallSettings& settings);
  void CheckFree() const;
  // What was read, or a thrown error; after both the call may have ended.
  pybind11::object Take(absl::StatusOr<Stream::ReadResult> read, bool* ended);
  void End(const absl::Status& status);

  const std::shared_ptr<FrontSession> session_;
  std::shared_ptr<SharedChannel> channel_;  // null after the end
  const MethodInfo& info_;
  const ResultDetail detail_;
  const bool pooled_;
  Stream stream_;
  bool waiting_ = false;  // in a call that has let go of the GIL
  bool closing_ = false;  // by another thread meanwhile
};

// What the call gives its caller: a Stream, or with a stream of items what
// baton._stream makes of it. Null: a Python error is set.
pybind11::object StartStream(const std::shared_ptr<FrontSession>& session, const MethodInfo& info,
                             const CallSettings& settings, const Arguments& arguments);

}  // namespace baton::python

#endif  // BATON_RUNTIME_PYTHON_STREAM_OBJECT_H_
