#include "tests/runtime/worker/batching_worker.h"

#include <algorithm>
#include <utility>

namespace baton::test {

BatchingWorker::BatchingWorker(FakeServer& server, loader::Model& model,
                               const loader::BatchingPolicy& policy,
                               const runtime::ChannelDevice& device)
    : server_(server), model_(model), gatherer_(policy) {
  for (size_t i = 0; i < server.opened_channels(); ++i) {
    channels_.push_back(*runtime::ChannelServer::Map(i, server.Descriptors(i)));
    channels_.back()->Join(host_);
    if (device.device != nullptr) channels_.back()->UseDevice(device);
    if (!channels_.back()->Begin(1).ok()) std::abort();
  }
}

runtime::ChannelServer* BatchingWorker::Next() {
  const size_t now = turn < channels_.size() ? turn : 0;
  turn = now + 1;
  if (command_after > 0 && command_after != SIZE_MAX && --command_after == 0) command_waits = true;
  return channels_[now].get();
}

void BatchingWorker::AwaitRequest(int64_t until_ns) {
  waited_until.push_back(until_ns - start_ns_);
  if (waits.empty()) {
    clock_ns = until_ns - start_ns_;
    return;
  }
  const std::function<void()> wait = std::move(waits.front());
  waits.pop_front();
  wait();
}

absl::Status DoublingModel::Run(std::span<const TensorView> inputs, loader::OutputSink& outputs) {
  const std::span<const float> x = inputs[0].As<float>();
  if (remembers) calls.emplace_back(x.begin(), x.end());
  last_input = inputs[0].bytes.data();
  if (absl::Status status = before(); !status.ok()) return status;
  const absl::StatusOr<std::span<std::byte>> y = outputs.Allocate(0, inputs[0].shape);
  if (!y.ok()) return y.status();
  std::transform(x.begin(), x.end(), reinterpret_cast<float*>(y->data()),
                 [](float value) { return 2 * value; });
  return absl::OkStatus();
}

}  // namespace baton::test
