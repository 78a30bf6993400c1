#include "bench/shown_rows.h"

#include <unistd.h>

#include <cstdio>

#include "bench/ping_pong.h"
#include "bench/plain_names.h"

namespace baton::bench {

absl::Status NeedTwoCpus() {
  if (::sysconf(_SC_NPROCESSORS_ONLN) >= 2) return absl::OkStatus();
  return absl::UnavailableError("it needs two CPUs: one for the front, one for the worker");
}

void BecomeTheFront(int cpu) {
  if (!PinThisThread(cpu)) std::fprintf(stderr, "cannot pin to CPU %d\n", cpu);
}

int ShowRows(const std::vector<std::string>& names,
             const std::function<void(benchmark::State&, const std::string&)>& show) {
  for (const std::string& name : names) {
    benchmark::RegisterBenchmark(name.c_str(),
                                 [&show, name](benchmark::State& state) { show(state, name); })
        ->UseManualTime()
        ->Iterations(1);
  }
  PlainNames reporter;
  benchmark::RunSpecifiedBenchmarks(&reporter);
  benchmark::Shutdown();
  return 0;
}

int GiveUp(const char* program, const absl::Status& why) {
  std::fprintf(stderr, "%s: %s\n", program, why.ToString().c_str());
  return 1;
}

}  // namespace baton::bench
