// One request from a shell: every kind of input file, and every kind of mistake.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <numeric>
#include <string>
#include <vector>

#include "loader/npy.h"
#include "loader/safetensors.h"
#include "tests/tools/shmctl/json_reader.h"
#include "tests/tools/shmctl/shmctl_process.h"

namespace baton::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class InferTest : public ShmctlTest {
 protected:
  std::string Npy(const std::string& name, DType dtype, const std::vector<int64_t>& shape,
                  std::span<const std::byte> bytes) {
    const std::string path = temp_.path() + "/" + name;
    const absl::Status saved = loader::SaveNpy(path, dtype, shape, bytes);
    EXPECT_TRUE(saved.ok()) << saved;
    return path;
  }
  std::string Bytes(const std::string& name, const std::vector<uint8_t>& values) {
    return Npy(name, DType::kUInt8, {static_cast<int64_t>(values.size())},
               std::as_bytes(std::span(values)));
  }
};

TEST_F(InferTest, EveryKindOfFile) {
  ShmctlProcess server = Serve({"behaviour: echo"});
  const std::vector<uint8_t> values = {5, 6, 7};
  const loader::TensorToSave tensor = {{"data", DType::kUInt8, {3}},
                                       std::as_bytes(std::span(values))};
  const std::string safetensors = temp_.path() + "/data.safetensors";
  ASSERT_TRUE(loader::SaveSafetensors(safetensors, {&tensor, 1}).ok());
  for (const std::string& file :
       {Bytes("data.npy", values), safetensors, temp_.Write("data.json", "[5, 6, 7]")}) {
    const ShmctlResult text = Run({"infer", "probe", "--input", "data=" + file});
    EXPECT_EQ(text.exit_code, 0) << text.err;
    EXPECT_THAT(text.out, HasSubstr("data: uint8[3] = [5, 6, 7]\ngeneration 1, ")) << file;
    // The server's name may come after the option, too.
    const ShmctlResult json = Run({"infer", "--input", "data=" + file, "probe", "--json"});
    EXPECT_EQ(json.exit_code, 0) << json.err;
    const JsonReader report(json.out);
    EXPECT_EQ(report.Keys(),
              (std::set<std::string>{"server", "generation", "serviceNs", "outputs"}));
    EXPECT_EQ(report["generation"].Number(), 1);
    ASSERT_EQ(report["outputs"].size(), 1u);
    const JsonReader output = report["outputs"][0];
    EXPECT_EQ(output.Keys(),
              (std::set<std::string>{"name", "dtype", "shape", "values", "file", "omitted"}));
    EXPECT_EQ(output["dtype"].Text(), "uint8");
    EXPECT_THAT(output["shape"].Numbers(), ElementsAre(3));
    EXPECT_THAT(output["values"].Numbers(), ElementsAre(5, 6, 7));
  }
}

// Larger than any of the defaults of a channel, both ways.
TEST_F(InferTest, LargeTensorsGoThroughFiles) {
  ShmctlProcess server = Serve({"behaviour: echo"});
  std::vector<uint8_t> values(20 << 20);
  std::iota(values.begin(), values.end(), 0);
  const std::string input = Bytes("large.npy", values);
  const std::string folder = temp_.path() + "/out";
  const std::vector<std::string> ask = {
      "infer", "probe", "--input", "data=" + input, "--response-bytes", std::to_string(24 << 20)};
  std::vector<std::string> args = ask;
  args.insert(args.end(), {"--output-dir", folder, "--json"});
  const ShmctlResult result = Run(args);
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const JsonReader output = JsonReader(result.out)["outputs"][0];
  EXPECT_EQ(output["file"].Text(), folder + "/data.npy");
  EXPECT_EQ(output["values"].size(), 0u);
  const auto array = loader::LoadNpy(folder + "/data.npy");
  ASSERT_TRUE(array.ok()) << array.status();
  EXPECT_TRUE(std::ranges::equal(array->bytes, std::as_bytes(std::span(values))));

  args = ask;
  args.push_back("--json");
  EXPECT_TRUE(JsonReader(Run(args).out)["outputs"][0]["omitted"].True());
  EXPECT_THAT(Run(ask).out, HasSubstr("20971520 values: --output-dir"));
  const ShmctlResult small = Run({"infer", "probe", "--input", "data=" + input});
  EXPECT_EQ(small.exit_code, 1);
  EXPECT_THAT(small.err, HasSubstr("RESOURCE_EXHAUSTED"));
}

// Bad input of every kind has a clear error, and the server goes on serving.
TEST_F(InferTest, MistakesAreToldAndHarmNothing) {
  ShmctlProcess server = Serve({"behaviour: echo"});
  const std::string good = Bytes("good.npy", {1});
  const std::vector<float> floats = {1};
  const std::string wrong_dtype =
      Npy("floats.npy", DType::kFloat32, {1}, std::as_bytes(std::span(floats)));
  const std::vector<uint8_t> four = {1, 2, 3, 4};
  const std::string wrong_shape =
      Npy("matrix.npy", DType::kUInt8, {2, 2}, std::as_bytes(std::span(four)));
  const std::string corrupt = temp_.Write("corrupt.npy", "\x93NUMPY nothing of the kind");
  const std::string cut = Bytes("cut.npy", {1, 2, 3});
  std::filesystem::resize_file(cut, std::filesystem::file_size(cut) - 1);
  struct Case {
    std::vector<std::string> args;
    std::string expected;
  };
  const std::vector<Case> cases = {
      {{"--input", "data=" + wrong_dtype}, "data: uint8[?]"},
      {{"--input", "data=" + wrong_shape}, "data: uint8[?]"},
      {{"--input", "image=" + good}, "no input 'image': its inputs are data: uint8[?]"},
      {{}, "'data' is missing"},
      {{"--input", "data=" + corrupt}, "corrupt.npy"},
      {{"--input", "data=" + cut}, "cut.npy"},
      {{"--input", "data=/nowhere/x.npy"}, "/nowhere/x.npy"},
      {{"--input", "data=" + temp_.Write("bad.json", "[1, 300]")}, "element 1 is 300"},
      {{"--input", "data=" + good, "--output-dir", good}, "good.npy"},
  };
  for (const Case& mistake : cases) {
    std::vector<std::string> args = {"infer", "probe", "--json"};
    args.insert(args.end(), mistake.args.begin(), mistake.args.end());
    const ShmctlResult result = Run(args);
    EXPECT_EQ(result.exit_code, 1) << ::testing::PrintToString(args);
    EXPECT_EQ(result.out, "") << ::testing::PrintToString(args);
    EXPECT_THAT(result.err, ::testing::StartsWith("shmctl: "));
    EXPECT_THAT(result.err, HasSubstr(mistake.expected));
    const ShmctlResult after = Run({"infer", "probe", "--input", "data=" + good});
    EXPECT_EQ(after.exit_code, 0) << after.err;
    EXPECT_THAT(after.out, HasSubstr("= [1]\ngeneration 1, "));
  }
}

// A request whose worker dies is told as such; the next one meets another worker.
TEST_F(InferTest, AWorkerThatCrashes) {
  ShmctlProcess server = Serve({"behaviour: crash"});
  const std::string bad = temp_.Write("bad.json", "[666]");
  const ShmctlResult crashed = Run({"infer", "probe", "--input", "data=" + bad});
  EXPECT_EQ(crashed.exit_code, 1);
  EXPECT_THAT(crashed.err, HasSubstr("ABORTED"));
  const std::string good = temp_.Write("good.json", "[1]");
  const ShmctlResult after = Run({"infer", "probe", "--input", "data=" + good, "--json"});
  EXPECT_EQ(after.exit_code, 0) << after.err;
  EXPECT_EQ(JsonReader(after.out)["generation"].Number(), 2);
}

TEST_F(InferTest, ATimeoutIsKept) {
  ShmctlProcess server = Serve({"behaviour: hang"});
  const std::string bad = temp_.Write("bad.json", "[666]");
  const ShmctlResult late = Run({"infer", "probe", "--input", "data=" + bad, "--timeout", "2"});
  EXPECT_EQ(late.exit_code, 1);
  EXPECT_THAT(late.err, HasSubstr("DEADLINE_EXCEEDED"));
}

}  // namespace
}  // namespace baton::testing
