// Where log lines go: a descriptor that may be a pipe which nobody empties.
//
// A line that would have to wait is dropped, and the number of those dropped is
// said in the place of the first of them, once something can be written again:
// no process of a server stops because of its log. Lines keep their order. A
// line has at most PIPE_BUF bytes (a longer one is cut), so that a pipe takes
// it whole or not at all and lines of several processes do not mix.
//
// Thread safety: any thread.
#ifndef BATON_RUNTIME_STDERR_SINK_H_
#define BATON_RUNTIME_STDERR_SINK_H_

#include <cstdint>
#include <mutex>
#include <string_view>

#include "ipc/unique_fd.h"
#include "spdlog/sinks/base_sink.h"

namespace baton::runtime {

class StderrSink final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  // Writes to `fd`, which is not owned. Keeps a descriptor of its own where
  // that is what lets a write to a pipe not wait.
  explicit StderrSink(int fd);

 protected:
  void sink_it_(const spdlog::details::log_msg& message) override;
  void flush_() override {}

 private:
  // False when it would have to wait.
  bool Write(std::string_view line);

  const int fd_;
  ipc::UniqueFd own_;  // the same pipe, by a description that does not block
  bool file_ = false;  // never full for long: written as it is
  uint64_t dropped_ = 0;
};

}  // namespace baton::runtime

#endif  // BATON_RUNTIME_STDERR_SINK_H_
