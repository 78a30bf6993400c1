// Stands in for a test that needs ONNX Runtime where the build found none, so
// that the gap shows.
#include <cstdlib>
#include <string_view>

#include "gtest/gtest.h"

TEST(Onnx, IsInThisBuild) {
  const char* required = std::getenv("BATON_REQUIRE_ONNX");
  if (required != nullptr && std::string_view(required) == "1") {
    FAIL() << "BATON_REQUIRE_ONNX=1, but this build found no ONNX Runtime: run tools/setup";
  }
  GTEST_SKIP() << "this build found no ONNX Runtime: run tools/setup";
}
