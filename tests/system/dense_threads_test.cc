// A worker with dense layers on the CPU has the same threads, whether OpenBLAS computes them or
// not, and whatever the environment says of threads.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "loader/safetensors.h"
#include "tests/system/test_server.h"

namespace baton::testing {
namespace {

constexpr int64_t kRows = 64;
constexpr int64_t kInputs = 512;

struct WorkerSeen {
  size_t threads = 0;
  bool has_open_blas = false;
};

// After an answer to a batch, of a model with one layer.
WorkerSeen Serve(int64_t outputs) {
  const TempDirectory temp;
  ::mkdir((temp.path() + "/run").c_str(), 0700);
  const std::vector<float> weights(static_cast<size_t>(outputs * kInputs), 0.5f);
  const loader::TensorToSave tensor = {{"layers.0.weight", DType::kFloat32, {outputs, kInputs}},
                                       std::as_bytes(std::span(weights))};
  EXPECT_TRUE(loader::SaveSafetensors(temp.path() + "/model.safetensors", {&tensor, 1}).ok());
  temp.Write("config.yaml", "loader: dense\ndense: {activations: [none]}\n");
  TestServerOptions options;
  options.directory = temp.path();
  options.run_directory = temp.path() + "/run";
  options.env = {{"OMP_NUM_THREADS", "4"}, {"OPENBLAS_NUM_THREADS", "4"}};
  const auto server = TestServer::Start(options);
  EXPECT_TRUE(server.ok()) << server.status();
  if (!server.ok()) return {};
  const auto front = (*server)->Attach();
  EXPECT_TRUE(front.ok()) << front.status();
  auto channel = (*front)->OpenChannel();
  EXPECT_TRUE(channel.ok()) << channel.status();
  auto request = channel->NewRequest({{"input", DType::kFloat32, {kRows, kInputs}}});
  EXPECT_TRUE(request.ok()) << request.status();
  std::ranges::fill(request->input<float>("input"), 1.0f);
  const auto response = channel->Call(*std::move(request), {.timeout = absl::Minutes(1)});
  EXPECT_TRUE(response.ok()) << response.status();
  if (!response.ok()) return {};
  EXPECT_EQ(response->output<float>("output").back(), kInputs * 0.5f);
  const std::string proc = absl::StrCat("/proc/", (*server)->WorkerOf(1));
  std::ifstream maps(proc + "/maps");
  const std::filesystem::directory_iterator tasks(proc + "/task");
  return {.threads = static_cast<size_t>(std::distance(begin(tasks), end(tasks))),
          .has_open_blas = absl::StrContains(std::string(std::istreambuf_iterator<char>(maps), {}),
                                             "libbaton_openblas.so")};
}

TEST(DenseThreadsTest, OpenBlasAddsNone) {
  const WorkerSeen small = Serve(10);
  const WorkerSeen large = Serve(256);
  EXPECT_FALSE(small.has_open_blas);
  EXPECT_TRUE(large.has_open_blas);
  EXPECT_GT(small.threads, 0u);
  EXPECT_EQ(large.threads, small.threads);
}

}  // namespace
}  // namespace baton::testing
