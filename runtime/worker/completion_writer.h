// Publishes completions of one channel.
//
// Thread safety: none; belongs to the serving thread.
#ifndef BATON_RUNTIME_WORKER_COMPLETION_WRITER_H_
#define BATON_RUNTIME_WORKER_COMPLETION_WRITER_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "ipc/channel_layout.h"
#include "ipc/ring.h"
#include "runtime/worker/answer.h"
#include "runtime/worker/channel_memory.h"

namespace baton::runtime {

class CompletionWriter {
 public:
  // `memory` must outlive this.
  explicit CompletionWriter(const ChannelMemory& memory) : memory_(memory) {}

  // From sequence `next` on, in the name of `generation`.
  void Begin(uint64_t generation, uint64_t next);
  uint64_t generation() const { return generation_; }

  struct Completion {
    uint64_t request_id = 0;
    std::span<std::byte> text;  // where an error's text goes
    uint64_t service_ns = 0;
    bool more = false;  // the request goes on
  };
  // The ring has room: the front sees to it (ipc/DESIGN.md, Rings). Wakes nobody.
  void Publish(const Completion& completion, const Answer& answer);

  // Has the line that the next one goes to brought here, to be written, meanwhile.
  void Prefetch() const { ring_.Prefetch(); }

 private:
  const ChannelMemory& memory_;
  uint64_t generation_ = 0;
  ipc::RingProducer<ipc::CompletionEntry> ring_;
};

}  // namespace baton::runtime

#endif  // BATON_RUNTIME_WORKER_COMPLETION_WRITER_H_
