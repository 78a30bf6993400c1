// The serving loop of a worker that batches: what BatchGatherer is to it.
#include <algorithm>
#include <memory>

#include "runtime/worker/batch_gatherer.h"
#include "runtime/worker/serving_loop.h"

namespace baton::runtime {
namespace {

// How long before a batch is due a sleep for it ends: what a wake-up may take.
constexpr int64_t kWakeUpNs = 60'000;

// How many channels before its turn a channel's ring is prefetched.
constexpr size_t kAhead = 4;

}  // namespace

// The channels in turn, from where the loop stands.
class ServingLoop::Batches final : public BatchSource {
 public:
  explicit Batches(ServingLoop& loop) : loop_(loop), applied_(loop.applied_) {}

  size_t channels() const override { return loop_.channels_.size(); }
  ChannelServer* Next() override {
    const size_t now = loop_.next_ < channels() ? loop_.next_ : 0;
    loop_.next_ = now + 1;
    // Each front has just written its own line: they come from its CPU one after the other, unless
    // they are asked for before they are looked at.
    const size_t ahead = now + kAhead;
    if (ahead < channels()) loop_.channels_[ahead].server->Prefetch();
    const Channel& channel = loop_.channels_[now];
    return channel.removal ? nullptr : channel.server.get();
  }
  size_t last() const override { return loop_.next_ - 1; }
  void SetNext(size_t next) override { loop_.next_ = next; }
  bool interrupted() const override {
    return loop_.commands_.pending() || loop_.applied_ != applied_;
  }
  bool may_wait() const override { return loop_.active_calls == 0; }
  int64_t NowNs() override { return loop_.clock.NowNs(); }
  void AwaitRequest(int64_t until_ns) override { loop_.AwaitForBatch(until_ns); }

 private:
  ServingLoop& loop_;
  const uint64_t applied_;
};

ServingLoop::~ServingLoop() = default;

void ServingLoop::UseBatching(const loader::BatchingPolicy& policy) {
  gatherer_ = policy.on() ? std::make_unique<BatchGatherer>(policy) : nullptr;
}

bool ServingLoop::BatchTurn(loader::Model& model) {
  bool stepped = false;
  if (active_calls > 0) {
    const uint64_t applied = applied_;
    stepped = StepCalls();
    // A step may have taken long, or waited.
    if (commands_.pending() || applied_ != applied) return true;
    if (!HasRoom()) return stepped;
  }
  Batches source(*this);
  return gatherer_->Turn(source, model, *this, page_) || stepped;
}

void ServingLoop::AwaitForBatch(int64_t until_ns) {
  const auto wanted = [this] { return Wanted(); };
  const int64_t start = clock.NowNs();
  Heartbeat(start);
  const int64_t spin_ns = std::min(gather_spin_.budget_ns(), until_ns - start);
  const ipc::SpinOutcome spun = ipc::SpinUntil(wanted, start, spin_ns);
  if (spun.came) {
    gather_spin_.Observe(spun.waited_ns, /*slept=*/false);
    return;
  }
  int64_t now = clock.NowNs();
  // A sleep may last longer than it was meant to: the end is spun, where spinning is right at all.
  const int64_t awake_ns = may_spin_ ? kWakeUpNs : 0;
  if (until_ns - now > awake_ns) {
    sleep_.SleepFor(wanted, until_ns - now - awake_ns);
  } else {
    static_cast<void>(ipc::SpinUntil(wanted, now, until_ns - now));
  }
  now = clock.NowNs();
  gather_spin_.Observe(now - start, /*slept=*/true);
}

}  // namespace baton::runtime
