// Stands in for the tests of Python models where the build left them out, so
// that the gap shows.
#include <cstdlib>
#include <string>
#include <string_view>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "loader/model.h"
#include "loader/model_config.h"

TEST(Python, WithoutItALoaderSaysSo) {
  baton::loader::ModelConfig config;
  config.directory = "/models/x";
  config.loader = "python";
  const absl::Status status = baton::loader::StageModel(config).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(status.message()),
              ::testing::AllOf(::testing::HasSubstr("/models/x"),
                               ::testing::HasSubstr("built without Python")));
}

TEST(Python, IsInThisBuild) {
  const char* required = std::getenv("BATON_REQUIRE_PYTHON");
  if (required != nullptr && std::string_view(required) == "1") {
    FAIL() << "BATON_REQUIRE_PYTHON=1, but this build lacks what the test needs: run tools/setup";
  }
  GTEST_SKIP() << "this build lacks what the test needs: run tools/setup";
}
