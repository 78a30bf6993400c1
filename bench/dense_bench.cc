// One dense layer on the CPU, by the reference and by OpenBLAS: where the two
// cross (kernels/DESIGN.md).
//
//   Dense/reference/<rows>/<inputs>/<outputs>, Dense/openblas/...
//
// Arguments are in the caches as they are when one model serves alone: nothing
// else runs between two products.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "bench/machine_name.h"
#include "kernels/dense.h"
#include "kernels/openblas/open_blas.h"

namespace baton::bench {
namespace {

using kernels::OpenBlas;

// `open_blas`: nullptr for the reference.
void Dense(benchmark::State& state, const OpenBlas* open_blas) {
  const auto rows = static_cast<size_t>(state.range(0));
  const auto inputs = static_cast<size_t>(state.range(1));
  const auto outputs = static_cast<size_t>(state.range(2));
  const std::vector<float> input(rows * inputs, 0.5f);
  const std::vector<float> weights(inputs * kernels::PaddedColumns(outputs), 0.25f);
  const std::vector<float> bias(kernels::PaddedColumns(outputs), 1.0f);
  std::vector<float> output(rows * outputs);
  const kernels::MatMulBiasArgs args = {.input = input.data(),
                                        .weights = weights.data(),
                                        .bias = bias.data(),
                                        .output = output.data(),
                                        .rows = rows,
                                        .inputs = inputs,
                                        .outputs = outputs};
  for (auto _ : state) {
    if (open_blas != nullptr) {
      open_blas->MatMulBias(args);
    } else {
      kernels::MatMulBias(args);
    }
    benchmark::DoNotOptimize(output.data());
    benchmark::ClobberMemory();
  }
  state.counters["GFLOP/s"] =
      benchmark::Counter(2e-9 * static_cast<double>(rows * inputs * outputs),
                         benchmark::Counter::kIsIterationInvariantRate);
  state.counters["pays"] = OpenBlas::Pays(rows, inputs, outputs) ? 1 : 0;
}

void Register(const std::string& name, const OpenBlas* open_blas) {
  benchmark::RegisterBenchmark(("Dense/" + name).c_str(),
                               [open_blas](benchmark::State& state) { Dense(state, open_blas); })
      ->ArgNames({"rows", "inputs", "outputs"})
      ->ArgsProduct({{1, 8, 16, 32}, {64, 128, 512, 1024}, {10, 32, 128, 1024}});
}

}  // namespace
}  // namespace baton::bench

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  benchmark::AddCustomContext("machine", baton::bench::MachineName());
  const auto open_blas = baton::kernels::OpenBlas::LoadFrom(BATON_OPENBLAS_FILE);
  baton::bench::Register("reference", nullptr);
  if (open_blas.ok()) baton::bench::Register("openblas", open_blas->get());
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return open_blas.ok() ? 0 : 1;
}
