// Stages a model from the text of a config.yaml, and runs it without a worker.
#ifndef BATON_TESTS_LOADER_TEST_RUN_H_
#define BATON_TESTS_LOADER_TEST_RUN_H_

#include <cstdlib>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "gtest/gtest.h"

#include "loader/model.h"
#include "loader/model_config.h"
#include "tests/loader/heap_device.h"
#include "tests/loader/temp_dir.h"

namespace baton::loader {

// Of the library that tests/models builds as `name`.
inline std::string TestModel(const std::string& name) {
  const char* build = std::getenv("BATON_BINARY_DIR");
  EXPECT_NE(build, nullptr) << "run me with ctest, or set BATON_BINARY_DIR to the build folder";
  return std::string(build == nullptr ? "." : build) + "/tests/models/" + name + ".so";
}

inline absl::StatusOr<std::unique_ptr<Model>> StageFromYaml(const TempDir& dir,
                                                            const std::string& yaml) {
  dir.Write("config.yaml", yaml);
  absl::StatusOr<ModelConfig> config = LoadModelConfig(dir.path());
  if (!config.ok()) return config.status();
  return StageModel(*config);
}

// A tensor of `values`, which live as long as this.
template <typename T>
class TestTensor {
 public:
  TestTensor(std::vector<T> values, std::vector<int64_t> shape)
      : values_(std::move(values)), shape_(std::move(shape)) {}
  explicit TestTensor(std::vector<T> values)
      : values_(std::move(values)), shape_{static_cast<int64_t>(values_.size())} {}

  TensorView view() const {
    return {"data", DTypeOf<T>(), shape_, std::as_bytes(std::span(values_))};
  }

 private:
  std::vector<T> values_;
  std::vector<int64_t> shape_;
};

}  // namespace baton::loader

#endif  // BATON_TESTS_LOADER_TEST_RUN_H_
