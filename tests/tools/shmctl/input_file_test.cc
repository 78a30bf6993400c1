#include "tools/shmctl/input_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "loader/npy.h"
#include "loader/safetensors.h"
#include "tests/system/test_server.h"
#include "tools/shmctl/exit_code.h"

namespace baton::shmctl {
namespace {

using ::testing::HasSubstr;

class InputFileTest : public ::testing::Test {
 protected:
  std::string Path(const std::string& name) const { return temp_.path() + "/" + name; }
  std::vector<std::byte> Bytes(const std::vector<float>& values) const {
    std::vector<std::byte> bytes(values.size() * sizeof(float));
    std::memcpy(bytes.data(), values.data(), bytes.size());
    return bytes;
  }

  testing::TempDirectory temp_;
  const Signature signature_ = {
      .inputs = {{"a", DType::kFloat32, {kDynamicDim, 2}}, {"b", DType::kInt64, {kDynamicDim}}},
      .outputs = {}};
};

TEST_F(InputFileTest, Arguments) {
  const auto plain = ParseInputArgument("pixels=/tmp/seven.npy");
  ASSERT_TRUE(plain.ok()) << plain.status();
  EXPECT_EQ(plain->name, "pixels");
  EXPECT_EQ(plain->path, "/tmp/seven.npy");
  const auto more = ParseInputArgument("x=a=b.npy");
  ASSERT_TRUE(more.ok()) << more.status();
  EXPECT_EQ(more->path, "a=b.npy");
  for (const char* bad : {"", "=", "x=", "=file.npy", "file.npy"}) {
    EXPECT_EQ(ExitCodeOf(ParseInputArgument(bad).status()), ExitCode::kUsage) << bad;
  }
}

TEST_F(InputFileTest, Npy) {
  const std::vector<int64_t> shape = {1, 2};
  ASSERT_TRUE(loader::SaveNpy(Path("a.npy"), DType::kFloat32, shape, Bytes({1, 2})).ok());
  const auto tensor = LoadInput({"a", Path("a.npy")}, signature_);
  ASSERT_TRUE(tensor.ok()) << tensor.status();
  EXPECT_EQ(tensor->spec, (TensorSpec{"a", DType::kFloat32, {1, 2}}));
  EXPECT_EQ(tensor->bytes, Bytes({1, 2}));
}

TEST_F(InputFileTest, SafetensorsByNameOrTheOnlyOne) {
  const std::vector<std::byte> first = Bytes({1, 2});
  const std::vector<std::byte> second = Bytes({3, 4});
  const std::vector<loader::TensorToSave> both = {{{"other", DType::kFloat32, {1, 2}}, first},
                                                  {{"a", DType::kFloat32, {2, 1}}, second}};
  ASSERT_TRUE(loader::SaveSafetensors(Path("two.safetensors"), both).ok());
  ASSERT_TRUE(loader::SaveSafetensors(Path("one.safetensors"), {&both[0], 1}).ok());

  const auto by_name = LoadInput({"a", Path("two.safetensors")}, signature_);
  ASSERT_TRUE(by_name.ok()) << by_name.status();
  EXPECT_EQ(by_name->spec, (TensorSpec{"a", DType::kFloat32, {2, 1}}));
  EXPECT_EQ(by_name->bytes, second);

  const auto only = LoadInput({"a", Path("one.safetensors")}, signature_);
  ASSERT_TRUE(only.ok()) << only.status();
  EXPECT_EQ(only->spec.name, "a");
  EXPECT_EQ(only->bytes, first);

  const auto missing = LoadInput({"b", Path("two.safetensors")}, signature_);
  EXPECT_TRUE(absl::IsNotFound(missing.status())) << missing.status();
  EXPECT_THAT(std::string(missing.status().message()), HasSubstr("other"));
}

TEST_F(InputFileTest, JsonTakesTheSignaturesDtype) {
  const auto tensor = LoadInput({"b", temp_.Write("b.json", "[1, \"2\"]\n")}, signature_);
  ASSERT_TRUE(tensor.ok()) << tensor.status();
  EXPECT_EQ(tensor->spec, (TensorSpec{"b", DType::kInt64, {2}}));
  const auto bad = LoadInput({"b", temp_.Write("bad.json", "[1.5]")}, signature_);
  EXPECT_THAT(std::string(bad.status().message()), HasSubstr("bad.json: element 0 is 1.5"));
}

TEST_F(InputFileTest, ErrorsNameTheFile) {
  for (const std::string name : {"none.npy", "none.safetensors", "none.json"}) {
    const auto missing = LoadInput({"a", Path(name)}, signature_);
    EXPECT_TRUE(absl::IsNotFound(missing.status())) << missing.status();
    EXPECT_THAT(std::string(missing.status().message()), HasSubstr(name));
  }
  const auto kind = LoadInput({"a", temp_.Write("a.txt", "1")}, signature_);
  EXPECT_THAT(std::string(kind.status().message()), HasSubstr(".npy, .safetensors or .json"));
  const auto huge =
      LoadInput({"b", temp_.Write("b.json", std::string((16 << 20) + 1, ' '))}, signature_);
  EXPECT_THAT(std::string(huge.status().message()), HasSubstr("write it as .npy"));
}

TEST_F(InputFileTest, NamesAreThoseOfTheModel) {
  const auto unknown = LoadInput({"c", Path("c.npy")}, signature_);
  EXPECT_THAT(std::string(unknown.status().message()),
              HasSubstr("no input 'c': its inputs are a: float32[?, 2], b: int64[?]"));
  const std::string file = temp_.Write("b.json", "[1]");
  const std::vector<std::string> twice = {"b=" + file, "b=" + file};
  EXPECT_EQ(ExitCodeOf(LoadInputs(twice, signature_).status()), ExitCode::kUsage);
}

}  // namespace
}  // namespace baton::shmctl
