#include "tools/shmctl/output_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "loader/npy.h"
#include "loader/safetensors.h"
#include "tests/system/test_server.h"

namespace baton::shmctl {
namespace {

using ::testing::ElementsAre;

TEST(OutputFilesTest, NamesStayInsideTheDirectoryAndDiffer) {
  const std::string long_name(255, 'n');
  std::vector<TensorView> outputs(7);
  outputs[0].name = "scores";
  outputs[1].name = "../../etc/passwd";
  outputs[2].name = "scores";
  outputs[3].name = "";
  outputs[4].name = ".hidden";
  outputs[5].name = "a b\n";
  outputs[6].name = long_name;
  EXPECT_THAT(OutputFileNames(outputs), ElementsAre("scores", "_.._.._etc_passwd", "scores-2", "_",
                                                    "_.hidden", "a_b_", std::string(200, 'n')));
}

TEST(OutputFilesTest, WritesWhatWasAnswered) {
  const testing::TempDirectory temp;
  const std::vector<float> values = {1, 2, 3};
  const std::vector<uint16_t> brain = {0x3f80};
  const std::vector<int64_t> three = {3};
  const std::vector<int64_t> one = {1};
  const std::vector<TensorView> outputs = {
      {"f", DType::kFloat32, three, std::as_bytes(std::span(values))},
      {"b", DType::kBFloat16, one, std::as_bytes(std::span(brain))}};
  const auto paths = WriteOutputs(outputs, temp.path() + "/new/folder");
  ASSERT_TRUE(paths.ok()) << paths.status();
  ASSERT_EQ(paths->size(), 2u);

  const auto array = loader::LoadNpy((*paths)[0]);
  ASSERT_TRUE(array.ok()) << array.status();
  EXPECT_EQ(array->dtype, DType::kFloat32);
  EXPECT_EQ(array->shape, three);
  EXPECT_TRUE(std::ranges::equal(array->bytes, outputs[0].bytes));

  // NumPy has no bfloat16.
  const auto file = loader::SafetensorsFile::Open((*paths)[1]);
  ASSERT_TRUE(file.ok()) << file.status();
  ASSERT_EQ(file->tensors().size(), 1u);
  EXPECT_EQ(file->tensors()[0].spec, (TensorSpec{"b", DType::kBFloat16, {1}}));
}

TEST(OutputFilesTest, ADirectoryThatCannotBe) {
  const testing::TempDirectory temp;
  const std::string file = temp.Write("file", "");
  EXPECT_TRUE(absl::IsFailedPrecondition(WriteOutputs({}, file + "/below").status()));
}

}  // namespace
}  // namespace baton::shmctl
