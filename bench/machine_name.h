// What a benchmark's figures belong to.
#ifndef BATON_BENCH_MACHINE_NAME_H_
#define BATON_BENCH_MACHINE_NAME_H_

#include <string>

namespace baton::bench {

// How many CPUs this process may use, the processor's model and the kernel, as /proc and uname have
// them: "2 CPUs, AMD EPYC 9R14, Linux 6.18.5". For the context of a benchmark's JSON, as `machine`.
std::string MachineName();

}  // namespace baton::bench

#endif  // BATON_BENCH_MACHINE_NAME_H_
