// Stands in for a test that the build left out because ONNX Runtime, or a
// library that the ONNX examples need, was not found, so that the gap shows.
#include <cstdlib>
#include <string_view>

#include "gtest/gtest.h"

TEST(Onnx, IsInThisBuild) {
  const char* required = std::getenv("BATON_REQUIRE_ONNX");
  if (required != nullptr && std::string_view(required) == "1") {
    FAIL() << "BATON_REQUIRE_ONNX=1, but this build lacks what the test needs: run tools/setup";
  }
  GTEST_SKIP() << "this build lacks what the test needs: run tools/setup";
}
