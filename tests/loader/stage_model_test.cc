#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "loader/model.h"
#include "loader/model_config.h"

namespace baton::loader {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(StageModelTest, UnknownLoaderListsTheKnownOnes) {
  ModelConfig config;
  config.directory = "/models/x";
  config.loader = "tensorflow";
  const absl::Status status = StageModel(config).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(
      std::string(status.message()),
      AllOf(HasSubstr("/models/x"), HasSubstr("'tensorflow'"), HasSubstr("native, onnx, dense")));
}

TEST(StageModelTest, EveryKnownLoaderIsDispatched) {
  for (const char* loader : {"native", "onnx", "dense"}) {
    ModelConfig config;
    config.directory = "/models/x";
    config.file = "/models/x/none";
    config.loader = loader;
    const absl::Status status = StageModel(config).status();
    EXPECT_FALSE(status.ok());
    // This build may have left onnx out, and then says how to get it.
    if (status.code() == absl::StatusCode::kUnimplemented) {
      EXPECT_THAT(std::string(status.message()),
                  AllOf(HasSubstr("'onnx'"), HasSubstr("tools/setup")));
    } else {
      EXPECT_THAT(std::string(status.message()), HasSubstr("/models/x/none"));
    }
  }
}

}  // namespace
}  // namespace baton::loader
