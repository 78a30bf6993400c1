#include "ipc/spin_budget.h"

#include <sched.h>

#include <algorithm>

namespace baton::ipc {
namespace {

// One long wait must not outweigh the many short ones before it.
constexpr int64_t kCutOff = 4;
// Each wait moves the average by 1/8.
constexpr int64_t kWeight = 8;
// Spin this much longer than waits take on average, so that usual jitter does
// not end in a sleep.
constexpr int64_t kMargin = 2;
// Where spinning pays at all, the least is half of what a sleep and a wake cost: less loses more to
// one needless sleep than many spins cost.
constexpr int64_t kMinSpinNs = 25'000;

int UsableCpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  // Fails with EINVAL on machines of more CPUs than the set has room for.
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return 2;
  return CPU_COUNT(&set);
}

}  // namespace

SpinBudget::SpinBudget(int64_t max_ns)
    : max_ns_(std::max<int64_t>(max_ns, 0)), budget_ns_(max_ns_) {}

SpinBudget SpinBudget::ForThisThread(int64_t max_ns) {
  return SpinBudget(UsableCpus() > 1 ? max_ns : 0);
}

void SpinBudget::Observe(int64_t waited_ns, bool slept) {
  // Two sides that both sleep see each other's wake-up in every wait. Without
  // this they would never find out that spinning is worth while.
  if (slept) waited_ns -= max_ns_;
  waited_ns = std::clamp<int64_t>(waited_ns, 0, kCutOff * max_ns_);
  mean_ns_ += (waited_ns - mean_ns_) / kWeight;
  if (mean_ns_ > max_ns_) {
    budget_ns_ = 0;
  } else {
    budget_ns_ = std::min(max_ns_, std::max(kMinSpinNs, kMargin * mean_ns_));
  }
}

}  // namespace baton::ipc
