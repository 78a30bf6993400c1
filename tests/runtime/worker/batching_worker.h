// A worker that batches, of one thread, whose clock and whose waiting a test has in
// its hands.
#ifndef BATON_TESTS_RUNTIME_WORKER_BATCHING_WORKER_H_
#define BATON_TESTS_RUNTIME_WORKER_BATCHING_WORKER_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "ipc/futex.h"
#include "loader/batching_policy.h"
#include "loader/model.h"
#include "runtime/worker/batch_gatherer.h"
#include "runtime/worker/channel_server.h"
#include "tests/runtime/front/fake_server.h"

namespace baton::test {

class BatchingWorker : public runtime::BatchSource {
 public:
  // For the channels that are open.
  BatchingWorker(FakeServer& server, loader::Model& model, const loader::BatchingPolicy& policy,
                 const runtime::ChannelDevice& device = {});

  // One turn of the loop.
  bool Turn() { return gatherer_.Turn(*this, model_, host_, server_.worker_page()); }

  // What happens in the waits of batches, one after the other; after the last one they
  // come back when their time is over.
  std::deque<std::function<void()>> waits;
  // Until when they were to wait, as nanoseconds from the worker's beginning.
  std::vector<int64_t> waited_until;
  int64_t clock_ns = 0;  // what has passed since then
  // What has passed in fact.
  int64_t RealNs() const { return ipc::MonotonicNs() - start_ns_; }
  bool command_waits = false;
  size_t command_after = SIZE_MAX;  // one waits when so many more channels were asked
  bool others_run = false;
  size_t turn = 0;  // whose it is
  PlainHost& host() { return host_; }

  size_t channels() const override { return channels_.size(); }
  runtime::ChannelServer* Next() override;
  size_t last() const override { return turn - 1; }
  void SetNext(size_t next) override { turn = next; }
  bool interrupted() const override { return command_waits; }
  bool may_wait() const override { return !others_run; }
  int64_t NowNs() override { return start_ns_ + clock_ns; }
  void AwaitRequest(int64_t until_ns) override;

 private:
  FakeServer& server_;
  loader::Model& model_;
  runtime::BatchGatherer gatherer_;
  const int64_t start_ns_ = ipc::MonotonicNs();
  PlainHost host_;
  std::vector<std::unique_ptr<runtime::ChannelServer>> channels_;
};

// y = 2 x, for any shape; remembers what each call was given.
class DoublingModel : public loader::Model {
 public:
  explicit DoublingModel(Signature signature = VectorSignature())
      : signature_(std::move(signature)) {}
  const Signature& signature() const override { return signature_; }
  uint64_t device_bytes() const override { return 0; }
  absl::Status Upload(const loader::DeviceRegion&) override { return absl::OkStatus(); }
  absl::Status Run(std::span<const TensorView> inputs, loader::OutputSink& outputs) override;

  bool remembers = true;
  // The elements of the first input of each call.
  std::vector<std::vector<float>> calls;
  const std::byte* last_input = nullptr;  // where it lay
  // What happens in a call, first; an error is the model's answer.
  std::function<absl::Status()> before = [] { return absl::OkStatus(); };

 private:
  const Signature signature_;
};

}  // namespace baton::test

#endif  // BATON_TESTS_RUNTIME_WORKER_BATCHING_WORKER_H_
