// The two CPUs that a benchmark of two processes runs on.
#ifndef BATON_BENCH_CPU_PAIR_H_
#define BATON_BENCH_CPU_PAIR_H_

#include <sched.h>

#include <vector>

namespace baton::bench {

struct CpuPair {
  int front = 0;
  int peer = 0;  // equal to `front` where this process may use one CPU only
};

// Two CPUs that this process may run on: of different cores where there are
// such, else two threads of one core.
CpuPair ChooseCpus();

// All others than `pair.peer` that this process may run on, `pair.front` first:
// that one alone where there are no more.
std::vector<int> FrontCpus(const CpuPair& pair);

// While it lives the calling thread may run on all CPUs again: for what is made
// on a pinned thread, and would learn from it that there is but one.
class Unpinned {
 public:
  Unpinned();
  ~Unpinned();
  Unpinned(const Unpinned&) = delete;
  Unpinned& operator=(const Unpinned&) = delete;

 private:
  cpu_set_t pinned_;
};

}  // namespace baton::bench

#endif  // BATON_BENCH_CPU_PAIR_H_
