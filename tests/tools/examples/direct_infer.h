// Runs a model of the build folder's models/ in this process, for tests of the
// examples that are not about serving.
#ifndef BATON_TESTS_TOOLS_EXAMPLES_DIRECT_INFER_H_
#define BATON_TESTS_TOOLS_EXAMPLES_DIRECT_INFER_H_

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gtest/gtest.h"

#include "loader/model.h"
#include "loader/model_config.h"
#include "tests/loader/onnx/memory_sink.h"
#include "tools/examples/infer.h"

namespace baton::examples {

// BUILD/models/`name`
inline std::string ModelDirectory(const std::string& name) {
  const char* build = std::getenv("BATON_BINARY_DIR");
  return std::string(build == nullptr ? "." : build) + "/models/" + name;
}

// The model `name` as an Infer, which owns it.
inline absl::StatusOr<Infer> DirectInfer(const std::string& name) {
  auto config = loader::LoadModelConfig(ModelDirectory(name));
  if (!config.ok()) return config.status();
  auto staged = loader::StageModel(*config);
  if (!staged.ok()) return staged.status();
  const std::shared_ptr<loader::Model> model = *std::move(staged);
  if (absl::Status uploaded = model->Upload({}); !uploaded.ok()) return uploaded;
  return [model](std::span<const TensorView> given) -> absl::StatusOr<std::vector<OwnedTensor>> {
    const Signature& signature = model->signature();
    std::vector<TensorView> inputs;
    for (const TensorSpec& spec : signature.inputs) {
      const auto same_name = [&](const TensorView& view) { return view.name == spec.name; };
      const auto found = std::find_if(given.begin(), given.end(), same_name);
      if (found == given.end()) return absl::InvalidArgumentError("lacks input " + spec.name);
      inputs.push_back(*found);
    }
    loader::MemorySink sink(signature);
    if (absl::Status run = model->Run(inputs, sink); !run.ok()) return run;
    std::vector<OwnedTensor> outputs;
    for (size_t i = 0; i < signature.outputs.size(); ++i) {
      outputs.push_back({{signature.outputs[i].name, signature.outputs[i].dtype, sink[i].shape},
                         {sink[i].bytes.begin(), sink[i].bytes.end()}});
    }
    return outputs;
  };
}

// A test that needs downloaded files: skipped where one is missing, failed where
// BATON_REQUIRE_ONNX=1 says that none may be.
class DownloadedModelTest : public ::testing::Test {
 protected:
  void Require(const std::vector<std::string>& files) {
    const char* required = std::getenv("BATON_REQUIRE_ONNX");
    for (const std::string& file : files) {
      if (std::filesystem::exists(file)) continue;
      if (required != nullptr && std::string_view(required) == "1") {
        FAIL() << file << " is missing, and BATON_REQUIRE_ONNX=1: run tools/setup";
      }
      GTEST_SKIP() << file << " is missing: run tools/setup";
    }
  }
};

}  // namespace baton::examples

#endif  // BATON_TESTS_TOOLS_EXAMPLES_DIRECT_INFER_H_
