#include "runtime/worker/completion_writer.h"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "ipc/crash_point.h"

namespace baton::runtime {
namespace {

constexpr size_t kMaxErrorBytes = 4096;

}  // namespace

void CompletionWriter::Begin(uint64_t generation, uint64_t next) {
  generation_ = generation;
  ring_ = ipc::RingProducer<ipc::CompletionEntry>(memory_.completion_entries(),
                                                  memory_.completion_slots(), next);
}

void CompletionWriter::Publish(const Completion& completion, const Answer& answer) {
  uint32_t descriptor_bytes = answer.description.bytes;
  auto code = absl::StatusCode::kOk;
  if (!answer.status.ok()) {
    code = answer.status.code();
    const auto text = answer.status.message();
    descriptor_bytes =
        static_cast<uint32_t>(std::min({text.size(), completion.text.size(), kMaxErrorBytes}));
    if (descriptor_bytes > 0) std::memcpy(completion.text.data(), text.data(), descriptor_bytes);
  }
  ring_.Publish([&](ipc::CompletionEntry& entry) {
    entry.request_id = completion.request_id;
    entry.generation = generation_;
    entry.descriptor_token = answer.description.token;
    entry.needed_bytes = answer.needed_bytes;
    entry.descriptor_bytes = descriptor_bytes;
    entry.status_code = static_cast<uint16_t>(code);
    entry.flags = static_cast<uint16_t>((answer.dropped ? ipc::kCompletionDropped : 0) |
                                        (answer.stale_inputs ? ipc::kCompletionStaleInputs : 0) |
                                        (completion.more ? ipc::kCompletionMore : 0));
    entry.service_ns = completion.service_ns;
    entry.needed_device_bytes = answer.needed_device_bytes;
    BATON_CRASH_POINT("worker.completion_filled");
  });
  // Relaxed: a hint for the next worker, which trusts the stamps.
  memory_.worker().published.store(ring_.next(), std::memory_order_relaxed);
}

}  // namespace baton::runtime
