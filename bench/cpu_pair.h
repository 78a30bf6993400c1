// The two CPUs that a benchmark of two processes runs on, and the machine's name.
#ifndef BATON_BENCH_CPU_PAIR_H_
#define BATON_BENCH_CPU_PAIR_H_

#include <string>

namespace baton::bench {

struct CpuPair {
  int front = 0;
  int peer = 0;  // equal to `front` where this process may use one CPU only
};

// Two CPUs that this process may run on: of different cores where there are
// such, else two threads of one core.
CpuPair ChooseCpus();

// The processor's model and the kernel, as /proc and uname have them.
std::string MachineName();

}  // namespace baton::bench

#endif  // BATON_BENCH_CPU_PAIR_H_
