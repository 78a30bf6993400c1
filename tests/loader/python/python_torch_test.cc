// A model of torch's, on the CPU. Skipped where torch is not installed.
#include <cstdlib>
#include <string>
#include <string_view>

#include "absl/strings/match.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "tests/loader/python/python_call.h"

namespace baton::loader {
namespace {

TEST(PythonTorchTest, A9ATorchModel) {
  auto model = StartPythonModel(PythonModelDirectory("torch_linear"));
  if (!model.ok() &&
      absl::StrContains(std::string(model.status().message()), "No module named 'torch'")) {
    const char* required = std::getenv("BATON_REQUIRE_PYTHON");
    if (required != nullptr && std::string_view(required) == "1") {
      FAIL() << "BATON_REQUIRE_PYTHON=1, but there is no torch: run tools/setup";
    }
    GTEST_SKIP() << "there is no torch here: tools/setup gets it";
  }
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(CallPython(**model, "predict", "{'x': np.array([1, 2, 3], np.float32)}").value_or("?"),
            "array([14.,  3.], dtype=float32)");
  EXPECT_EQ(CallPython(**model, "tensors", "{'x': np.arange(3)}").value_or("?"),
            "array([0, 2, 4])");
  (*model)->Cleanup();
}

}  // namespace
}  // namespace baton::loader
