#include "runtime/python/stream_object.h"

#include <poll.h>

#include <algorithm>
#include <utility>

#include "runtime/python/python_error.h"
#include "runtime/python/results.h"

namespace baton::python {

namespace py = pybind11;

namespace {

constexpr absl::Duration kSignalPeriod = absl::Milliseconds(50);
constexpr int kReadsWithGil = 100;  // see AwaitOutcome

}  // namespace

absl::StatusOr<std::unique_ptr<StreamCall>> StreamCall::Open(
    const std::shared_ptr<FrontSession>& session, const MethodInfo& info,
    const CallSettings& settings, const Arguments& arguments) {
  absl::Status full;
  for (int attempt = 0; attempt < 2; ++attempt) {
    absl::StatusOr<std::shared_ptr<SharedChannel>> channel =
        session->Take(arguments.request_bytes());
    if (!channel.ok()) return channel.status();
    std::unique_ptr<StreamCall> call(
        new StreamCall(session, *std::move(channel), info, settings.detail, /*pooled=*/true));
    absl::Status started;
    {
      const SharedChannel::Use use(*call->channel_);
      absl::StatusOr<Request> request = arguments.Fill(*call->channel_);
      started = request.ok() ? call->Start(*std::move(request), settings) : request.status();
    }
    if (started.ok()) return call;
    // Full of what others keep of it: it ends with that, and another one is tried.
    if (absl::IsResourceExhausted(started)) call->channel_.reset();
    call->End(started);
    if (!absl::IsResourceExhausted(started)) return started;
    full = started;
  }
  return full;
}

absl::StatusOr<std::unique_ptr<StreamCall>> StreamCall::Open(
    const std::shared_ptr<FrontSession>& session, const std::shared_ptr<SharedChannel>& channel,
    const MethodInfo& info, const CallSettings& settings, const Arguments& arguments) {
  std::unique_ptr<StreamCall> call(
      new StreamCall(session, channel, info, settings.detail, /*pooled=*/false));
  const SharedChannel::Use use(*channel);
  absl::StatusOr<Request> request = arguments.Fill(*channel);
  if (!request.ok()) return request.status();
  if (absl::Status started = call->Start(*std::move(request), settings); !started.ok()) {
    return started;
  }
  return call;
}

absl::Status StreamCall::Start(Request&& request, const CallSettings& settings) {
  absl::StatusOr<Stream> stream = channel_->channel().OpenStream(
      std::move(request), StreamOptions{.timeout = settings.stream_timeout});
  if (!stream.ok()) return stream.status();
  stream_ = *std::move(stream);
  return absl::OkStatus();
}

StreamCall::~StreamCall() { Close(); }

void StreamCall::CheckFree() const {
  ThrowIfError(session_->CheckUsable());
  if (waiting_) throw py::value_error("another thread reads this stream already");
}

void StreamCall::End(const absl::Status& status) {
  if (channel_ == nullptr) return;
  std::shared_ptr<SharedChannel> channel = std::move(channel_);
  channel_ = nullptr;
  if (channel->fork_guard().forked()) {
    static_cast<void>(new Stream(std::move(stream_)));  // the parent's
    return;
  }
  {
    const SharedChannel::Use use(*channel);
    stream_ = Stream();
  }
  if (pooled_ && !absl::IsDataLoss(status)) session_->Return(std::move(channel));
}

void StreamCall::Close() {
  if (waiting_) {
    closing_ = true;
    return;
  }
  End(absl::OkStatus());
}

py::object StreamCall::Take(absl::StatusOr<Stream::ReadResult> read, bool* ended) {
  *ended = !read.ok() || read->found == Stream::Found::kEnd;
  if (!read.ok()) {
    End(read.status());
    ThrowStatus(read.status());
  }
  if (read->found == Stream::Found::kEnd) {
    End(absl::OkStatus());
    return py::none();
  }
  absl::StatusOr<py::object> result = absl::UnknownError("");
  {
    const SharedChannel::Use use(*channel_);
    result = ToResult(info_, detail_, channel_, std::move(read->response), Views::kNone);
  }
  return ValueOrThrow(std::move(result));
}

py::object StreamCall::Next() {
  CheckFree();
  absl::StatusOr<Stream::ReadResult> read = Stream::ReadResult{};
  bool interrupted = false;
  if (channel_ == nullptr) throw py::stop_iteration();
  {
    const SharedChannel::Use use(*channel_);
    const auto nothing = [&read] { return read.ok() && read->found == Stream::Found::kNothing; };
    for (int i = 0; nothing() && i < kReadsWithGil; ++i) read = stream_.TryRead();
    waiting_ = true;
    while (nothing() && !interrupted && !closing_) {
      {
        const py::gil_scoped_release release;
        read = stream_.Read(kSignalPeriod);
      }
      interrupted = PyErr_CheckSignals() != 0;
    }
    waiting_ = false;
  }
  if (interrupted || closing_) {
    {
      const SharedChannel::Use use(*channel_);
      const absl::StatusOr<Stream::ReadResult> gone = std::move(read);
    }
    End(absl::OkStatus());
    if (interrupted) throw py::error_already_set();
    throw py::stop_iteration();
  }
  bool ended = false;
  py::object result = Take(std::move(read), &ended);
  if (ended) throw py::stop_iteration();
  return result;
}

py::object StreamCall::TryRead() {
  CheckFree();
  if (channel_ == nullptr) return py::make_tuple(false, py::none());
  absl::StatusOr<Stream::ReadResult> read = Stream::ReadResult{};
  {
    const SharedChannel::Use use(*channel_);
    read = stream_.TryRead();
  }
  if (read.ok() && read->found == Stream::Found::kNothing) return py::none();
  bool ended = false;
  py::object result = Take(std::move(read), &ended);
  return py::make_tuple(!ended, std::move(result));
}

bool StreamCall::TryWrite(py::handle item) {
  CheckFree();
  if (channel_ == nullptr) return true;  // the end is what is read next
  Arguments arguments(info_, Arguments::Part::kItem);
  if (!arguments.BindItem(item.ptr())) throw py::error_already_set();
  ThrowIfError(arguments.Encode(nullptr));
  const SharedChannel::Use use(*channel_);
  absl::StatusOr<Request> request = arguments.Fill(stream_);
  absl::Status written = request.ok() ? stream_.TryWrite(*std::move(request)) : request.status();
  if (absl::IsResourceExhausted(written)) return false;
  if (absl::IsInvalidArgument(written)) ThrowStatus(written);
  return true;  // any other error is the stream's end, which is read, too
}

void StreamCall::WritesDone() {
  CheckFree();
  if (channel_ == nullptr) return;
  const SharedChannel::Use use(*channel_);
  static_cast<void>(stream_.WritesDone());  // what fails is read, too
}

void StreamCall::Wait(int fd, double seconds) {
  CheckFree();
  if (channel_ == nullptr) return;
  const std::shared_ptr<SharedChannel> channel = channel_;
  {
    const SharedChannel::Use use(*channel);
    if (channel->channel().Arm()) return;
  }
  struct pollfd waits[] = {{.fd = channel->channel().event_fd(), .events = POLLIN, .revents = 0},
                           {.fd = fd, .events = POLLIN, .revents = 0}};
  waiting_ = true;
  {
    const py::gil_scoped_release release;
    static_cast<void>(::poll(waits, 2, static_cast<int>(std::clamp(seconds, 0.0, 1.0) * 1000)));
  }
  waiting_ = false;
  {
    const SharedChannel::Use use(*channel);
    channel->channel().ClearEvent();
  }
  if (PyErr_CheckSignals() != 0) throw py::error_already_set();
  if (closing_) End(absl::OkStatus());
}

py::object StartStream(const std::shared_ptr<FrontSession>& session, const MethodInfo& info,
                       const CallSettings& settings, const Arguments& arguments) {
  if (absl::Status usable = session->CheckUsable(); !usable.ok()) {
    return py::reinterpret_steal<py::object>(SetStatusError(usable));
  }
  absl::StatusOr<std::unique_ptr<StreamCall>> call =
      StreamCall::Open(session, info, settings, arguments);
  if (!call.ok()) return py::reinterpret_steal<py::object>(SetStatusError(call.status()));
  py::object stream = py::cast(*std::move(call));
  if (!info.method.streams_inputs) return stream;
  return py::module_::import("baton._stream")
      .attr("call_fed")(stream, py::handle(arguments.stream()), info.method.streams_outputs);
}

}  // namespace baton::python
