// What a Python method that does nothing costs, beside a worker's own part of a round trip: reading
// the inputs, the call, writing the results. The array's bytes are not touched, so its size does
// not count.
#include <stdlib.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "benchmark/benchmark.h"

#include "loader/model.h"
#include "loader/model_config.h"

namespace {

constexpr char kModel[] =
    "import baton\n"
    "import numpy as np\n"
    "from baton.models import ModelClass\n"
    "class Null(ModelClass):\n"
    "    @ModelClass.method\n"
    "    def text(self, text: str) -> str:\n"
    "        return text\n"
    "    @ModelClass.method\n"
    "    def array(self, x: np.ndarray) -> int:\n"
    "        return 0\n"
    "    @ModelClass.method\n"
    "    def in_place(self, x: np.ndarray) -> np.ndarray:\n"
    "        return baton.empty_output('output', x.shape, x.dtype)\n";

std::unique_ptr<baton::loader::Model> StartNullModel() {
  std::string folder = (std::filesystem::temp_directory_path() / "baton_bench.XXXXXX").string();
  if (::mkdtemp(folder.data()) == nullptr) std::abort();
  std::ofstream(folder + "/model.py") << kModel;
  auto config = baton::loader::LoadModelConfig(folder);
  auto model = baton::loader::StageModel(*config);
  std::filesystem::remove_all(folder);
  if (!model.ok() || !(*model)->Upload({}).ok()) {
    std::fprintf(stderr, "%s\n", model.status().ToString().c_str());
    std::exit(1);
  }
  return *std::move(model);
}

baton::loader::Model& NullModel() {
  static auto& model = *StartNullModel().release();
  return model;
}

// Memory that every response is written to.
class Sink final : public baton::loader::OutputSink {
 public:
  explicit Sink(size_t bytes = 65536) : memory_(bytes) {}
  absl::StatusOr<std::span<std::byte>> Allocate(size_t, std::span<const int64_t> shape) override {
    const uint64_t elements = baton::ElementCount(shape).value_or(0);
    return std::span(memory_).first(std::max<uint64_t>(elements, 8));
  }
  absl::StatusOr<std::span<std::byte>> AllocateAs(size_t output, baton::DType,
                                                  std::span<const int64_t> shape) override {
    return Allocate(output, shape);
  }

 private:
  std::vector<std::byte> memory_;
};

class Context final : public baton::loader::CallContext {
 public:
  std::shared_ptr<void> KeepInputs() override { return std::make_shared<int>(0); }
};

void Run(benchmark::State& state, size_t method, const baton::TensorView& input) {
  Sink sink(std::max<size_t>(65536, input.bytes.size()));
  Context context;
  const std::vector<baton::TensorView> inputs = {
      input, {.name = "baton.secrets", .shape = {}, .bytes = {}}};
  for (auto _ : state) {
    const absl::Status status = NullModel().RunMethod(method, context, inputs, sink);
    if (!status.ok()) {
      state.SkipWithError(status.ToString().c_str());
      break;
    }
  }
}

void PythonText(benchmark::State& state) {
  alignas(128) const char text[] = "sixty-four bytes of text, which is what most requests would be";
  const int64_t shape[] = {sizeof(text) - 1};
  Run(state, 0,
      {"text", baton::DType::kUInt8, shape, std::as_bytes(std::span(text, sizeof(text) - 1))});
}
BENCHMARK(PythonText);

void PythonArray(benchmark::State& state) {
  const std::vector<std::byte> bytes(static_cast<size_t>(state.range(0)));
  const int64_t shape[] = {state.range(0)};
  Run(state, 1, {"x", baton::DType::kUInt8, shape, bytes});
}
BENCHMARK(PythonArray)->Arg(64)->Arg(16 << 20);

// As large an output, through baton.empty_output: nothing is copied, nor touched.
void PythonInPlace(benchmark::State& state) {
  const std::vector<std::byte> bytes(static_cast<size_t>(state.range(0)));
  const int64_t shape[] = {state.range(0)};
  Run(state, 2, {"x", baton::DType::kUInt8, shape, bytes});
}
BENCHMARK(PythonInPlace)->Arg(64)->Arg(64 << 20);

}  // namespace

BENCHMARK_MAIN();
