#include "bench/experiment.h"

namespace baton::bench {

void Experiment::Run() {
  if (done_) return;
  done_ = true;
  for (int slice = 0; slice < kSlices; ++slice) {
    for (auto& [name, one] : subjects_) {
      one.failed = one.failed || !one.subject->Begin();
      // Untimed first: after the others, its lines are cold.
      Repeat(one, kWarmUp, nullptr);
      Repeat(one, kSamplesPerSlice, &one.samples);
      one.subject->End();
    }
  }
}

void Experiment::Repeat(One& one, int times, LatencySamples* samples) {
  for (int i = 0; i < times && !one.failed; ++i) {
    const uint64_t start = Ticks();
    one.failed = !one.subject->Once();
    if (samples != nullptr) samples->Add(Ticks() - start);
    one.failed = !one.subject->After() || one.failed;
  }
}

void Experiment::Report(benchmark::State& state, const std::string& name) {
  Run();
  One& one = subjects_.at(name);
  for (auto _ : state) state.SetIterationTime(one.samples.PercentileNs(0.5) * 1e-9);
  if (one.failed) state.SkipWithError("a request failed");
  one.samples.Report(state);
  if (const uint32_t requests = one.subject->requests(); requests > 0) {
    state.counters["per_second"] = requests * 1e9 / one.samples.PercentileNs(0.5);
  }
  state.counters["samples"] = static_cast<double>(one.samples.size());
}

double Experiment::MedianNs(const std::string& name) {
  Run();
  One& one = subjects_.at(name);
  return one.failed ? 0 : one.samples.PercentileNs(0.5);
}

}  // namespace baton::bench
