// Reports benchmarks under the names they were registered with: the library
// adds "/iterations:1/manual_time" where samples are taken elsewhere.
#ifndef BATON_BENCH_PLAIN_NAMES_H_
#define BATON_BENCH_PLAIN_NAMES_H_

#include <benchmark/benchmark.h>

#include <memory>
#include <vector>

namespace baton::bench {

// Passes everything on to the reporter that --benchmark_format asks for.
class PlainNames final : public benchmark::BenchmarkReporter {
 public:
  bool ReportContext(const Context& context) override { return inner_->ReportContext(context); }
  void ReportRuns(const std::vector<Run>& runs) override {
    std::vector<Run> plain = runs;
    for (Run& run : plain) {
      run.run_name.iterations.clear();
      run.run_name.time_type.clear();
    }
    inner_->ReportRuns(plain);
  }
  void Finalize() override { inner_->Finalize(); }

 private:
  std::unique_ptr<benchmark::BenchmarkReporter> inner_{benchmark::CreateDefaultDisplayReporter()};
};

}  // namespace baton::bench

#endif  // BATON_BENCH_PLAIN_NAMES_H_
