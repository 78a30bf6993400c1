#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "tests/loader/python/python_call.h"
#include "tests/loader/temp_dir.h"

namespace baton::loader {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

std::string Message(const absl::Status& status) { return std::string(status.message()); }

class PythonModelTest : public ::testing::Test {
 protected:
  void Start(const std::string& directory) {
    auto model = StartPythonModel(directory);
    ASSERT_TRUE(model.ok()) << model.status();
    model_ = *std::move(model);
  }
  void StartNamed(const std::string& name) { Start(PythonModelDirectory(name)); }

  std::string Call(const std::string& method, const std::string& arguments = "{}",
                   const PythonCallOptions& options = {}) {
    auto result = CallPython(*model_, method, arguments, options);
    return result.ok() ? *result : result.status().ToString();
  }
  absl::Status Error(const std::string& method, const std::string& arguments = "{}",
                     const PythonCallOptions& options = {}) {
    return CallPython(*model_, method, arguments, options).status();
  }

  std::unique_ptr<Model> model_;
};

// A1: the model of the README, by both import paths.
TEST_F(PythonModelTest, A1RunsAClassAsItIs) {
  for (const char* import : {"baton.models", "clarifai.runners.models.model_class"}) {
    const TempDir dir;
    dir.Write("model.py", std::string("from ") + import +
                              " import ModelClass\n"
                              "class MyModel(ModelClass):\n"
                              "    def __init__(self):\n"
                              "        super().__init__()\n"
                              "        self.model = str.upper\n"
                              "    @ModelClass.method\n"
                              "    def predict(self, text: str) -> str:\n"
                              "        return self.model(text)\n");
    dir.Write("config.yaml", "loader: python\n");
    Start(dir.path());
    EXPECT_EQ(Call("predict", "{'text': 'abc'}"), "'ABC'");
    model_->Cleanup();  // it has none
  }
}

TEST_F(PythonModelTest, A1ServesADirectoryOfTheSdk) {
  StartNamed("sdk");
  EXPECT_EQ(Call("predict", "{'text': 'you'}"), "'hello you from a file'");
  EXPECT_EQ(Call("describe", "{'image': Image.from_numpy(np.zeros((3, 2, 3), np.uint8))}"),
            "NamedFields(height=3, hint='')");
  EXPECT_EQ(Call("repeat", "{'text': 'ab'}"), "'abab'");
  EXPECT_EQ(Call("repeat", "{'text': 'ab', 'times': 1}"), "'ab'");
}

TEST_F(PythonModelTest, ModelsThatTellOfTheirAnswersHaveAnOutputForIt) {
  StartNamed("sdk");
  for (const Method& method : model_->methods()) {
    ASSERT_EQ(method.signature.outputs.back().name, "baton.context") << method.name;
    EXPECT_EQ(method.signature.outputs.back().content, Content::kJson) << method.name;
  }
  StartNamed("echo");
  for (const Method& method : model_->methods()) {
    EXPECT_NE(method.signature.outputs.back().name, "baton.context") << method.name;
  }
}

TEST_F(PythonModelTest, A2MethodsAndTheirSignatures) {
  StartNamed("echo");
  const auto methods = model_->methods();
  EXPECT_EQ(methods[0].name, "predict");
  EXPECT_EQ(methods[1].name, "inherited");
  EXPECT_EQ(methods[1].doc, "From the base class.");
  const TensorSpec value{"value", DType::kInt64, {}, Content::kScalar, true, false, "int", "3"};
  EXPECT_EQ(methods[1].signature.inputs[0], value);
  const TensorSpec secrets{"baton.secrets", DType::kUInt8, {kDynamicDim}, Content::kSecret, true};
  EXPECT_EQ(methods[1].signature.inputs[1], secrets);
  EXPECT_EQ(Call("inherited", "{'value': 0}"), "0");
  EXPECT_EQ(Call("inherited"), "3");
  StartNamed("streaming");
  const Method& stream = model_->methods()[MethodNumber(*model_, "stream")];
  EXPECT_TRUE(stream.streams_inputs && stream.streams_outputs);
  EXPECT_TRUE(stream.signature.inputs[0].streamed);
  EXPECT_FALSE(stream.signature.inputs[1].streamed);
  EXPECT_EQ(stream.signature.inputs[0].content, Content::kText);
}

// A12 in part: what the environment holds when the model is made.
TEST_F(PythonModelTest, A3LoadsOnceAfterInitAndCleansUpOnce) {
  const TempDir dir;
  ::setenv("COUNTING_FILE", dir.File("log").c_str(), 1);
  ::setenv("COUNTING_SECRET", "there", 1);
  StartNamed("counting");
  EXPECT_EQ(Call("predict"), "'init:there load'");
  EXPECT_EQ(Call("predict"), "'init:there load'");
  model_->Cleanup();
  model_->Cleanup();
  EXPECT_EQ(Error("predict").code(), absl::StatusCode::kFailedPrecondition);
  model_.reset();
  std::stringstream log;
  log << std::ifstream(dir.File("log")).rdbuf();
  EXPECT_EQ(log.str(), "cleanup\n");
}

TEST_F(PythonModelTest, IsMadeAtAdmissionWhereTheConfigSaysSo) {
  const TempDir dir;
  dir.Write("model.py",
            "from baton.models import ModelClass\n"
            "class Bad(ModelClass):\n"
            "    def load_model(self):\n"
            "        raise RuntimeError('no device')\n"
            "    @ModelClass.method\n"
            "    def predict(self) -> str:\n"
            "        return ''\n");
  const absl::Status staged = StageDirectory(dir.path()).status();
  EXPECT_EQ(staged.code(), absl::StatusCode::kUnknown);
  EXPECT_THAT(Message(staged),
              AllOf(HasSubstr("RuntimeError: no device"), HasSubstr("model.py:4")));
  dir.Write("config.yaml", "loader: python\npython: {construct: admission}\n");
  auto model = StageDirectory(dir.path());
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_THAT(Message((*model)->Upload({})), HasSubstr("RuntimeError: no device"));
  dir.Write("config.yaml", "loader: python\npython: {construct: sometimes}\n");
  EXPECT_THAT(Message(StageDirectory(dir.path()).status()), HasSubstr("'sometimes'"));
}

TEST_F(PythonModelTest, A5RoundTripsPlainTypes) {
  StartNamed("echo");
  EXPECT_EQ(Call("predict", "{'text': 'grüße \\U0001F600 \\x00.'}"), "'grüße 😀 \\x00.'");
  EXPECT_EQ(Call("predict", "{'text': ''}"), "''");
  EXPECT_EQ(Call("data", "{'value': bytes(range(4))}"), "b'\\x00\\x01\\x02\\x03'");
  EXPECT_EQ(Call("data", "{'value': b''}"), "b''");
  EXPECT_EQ(Call("integer", "{'value': -2**63}"), "-9223372036854775808");
  EXPECT_EQ(Call("integer", "{'value': 0}"), "0");
  EXPECT_EQ(Call("number", "{'value': 0.1}"), "0.1");
  EXPECT_EQ(Call("number", "{'value': float('nan')}"), "nan");
  EXPECT_EQ(Call("number", "{'value': 2}"), "2.0");
  EXPECT_EQ(Call("boolean", "{'value': False}"), "False");
  EXPECT_EQ(Call("boolean", "{'value': True}"), "True");
  EXPECT_EQ(Call("single", "{'value': 0.5}"), "0.5");
  EXPECT_EQ(Call("nothing"), "None");
}

TEST_F(PythonModelTest, A5RoundTripsArrays) {
  StartNamed("echo");
  EXPECT_EQ(Call("array", "{'value': np.arange(6, dtype=np.int16).reshape(2, 3)}"),
            "array([[0, 1, 2],\n       [3, 4, 5]], dtype=int16)");
  EXPECT_EQ(Call("array", "{'value': np.zeros((0, 3), np.float16)}"),
            "array([], shape=(0, 3), dtype=float16)");
  EXPECT_EQ(Call("array", "{'value': np.array(5, np.uint64)}"), "array(5, dtype=uint64)");
  EXPECT_EQ(Call("array", "{'value': np.array([True, False])}"), "array([ True, False])");
  EXPECT_EQ(Call("array", "{'value': np.arange(8)[::3]}"), "array([0, 3, 6])");
  EXPECT_EQ(Call("array", "{'value': np.arange(2, dtype='>i4')}"), "array([0, 1], dtype=int32)");
  EXPECT_EQ(Call("floats", "{'value': [[1, 2]]}"), "array([[1., 2.]], dtype=float32)");
  EXPECT_THAT(Message(Error("floats", "{'value': np.zeros((2, 3), np.float32)}")),
              AllOf(HasSubstr("floats returned"), HasSubstr("'output'")));
}

TEST_F(PythonModelTest, A5RoundTripsComposites) {
  StartNamed("echo");
  const std::string any =
      "{'a': [None, True, 0, -1, 2**80, -2**64, 0.0, '', b'', ()], 3: (1, [2]), (1, 2): {}}";
  EXPECT_EQ(Call("anything", "{'value': " + any + "}"),
            "{'a': [None, True, 0, -1, 1208925819614629174706176, -18446744073709551616, 0.0, '', "
            "b'', ()], 3: (1, [2]), (1, 2): {}}");
  EXPECT_EQ(Call("anything", "{'value': [np.float32(0.5), np.arange(3), np.zeros((0, 2))]}"),
            "[0.5, array([0, 1, 2]), array([], shape=(0, 2), dtype=float64)]");
  EXPECT_EQ(Call("anything", "{'value': [type(x).__name__ for x in [np.float32(1)]]}"),
            "['float32']");
  EXPECT_EQ(Call("mapping", "{'value': {}}"), "{}");
  EXPECT_EQ(Call("words", "{'value': []}"), "[]");
  EXPECT_EQ(Call("words", "{'value': ('a', '')}"), "['a', '']");
  EXPECT_EQ(Call("nested", "{'value': {'k': [(1, None), [2, 3]]}}"),
            "{'k': [(1, None), (2, 3.0)]}");
  EXPECT_EQ(Call("pair", "{'a': '', 'b': np.zeros(1)}"), "('', array([0.]))");
  EXPECT_EQ(Call("fields", "{'value': NamedFields(name='n', score=0, box=[1])}"),
            "NamedFields(name='n', score=0.0, box=[1])");
  EXPECT_EQ(Call("json", "{'value': {'a': [1, None, 'ü']}}"), "{'a': [1, None, 'ü']}");
  EXPECT_EQ(Call("maybe"), "None");
  EXPECT_EQ(Call("maybe", "{'value': ''}"), "''");
}

TEST_F(PythonModelTest, A5RoundTripsMedia) {
  StartNamed("echo");
  const std::string image = "Image.from_numpy(np.arange(12, dtype=np.uint8).reshape(2, 2, 3))";
  EXPECT_EQ(Call("image", "{'value': " + image + "}"), "Image(pixels=<array (2, 2, 3)>)");
  EXPECT_EQ(Call("images", "{'value': [[], [" + image + ", Image(bytes=b'png'), Image(url='u')]]}"),
            "[[], [Image(pixels=<array (2, 2, 3)>), Image(bytes=<3 bytes>), Image(url='u')]]");
  EXPECT_EQ(Call("audio", "{'value': Audio(bytes=b'wav')}"), "Audio(bytes=<3 bytes>)");
  EXPECT_EQ(Call("text", "{'value': Text('')}"), "''");
  EXPECT_EQ(Call("frame", "{'value': Frame(time=0.0, image=" + image +
                              ", regions=[Region(box=[0.0, 0.1, 0.2, 1.0], "
                              "concepts=[Concept('cat', 0.5)])])}"),
            "Frame(time=0.0, image=Image(pixels=<array (2, 2, 3)>), regions=[Region(box=[0.0, 0.1, "
            "0.2, 1.0], concepts=[Concept(name='cat', value=0.5)])])");
}

TEST_F(PythonModelTest, A6DefaultsAreHonouredAndABatchKeepsItsOrder) {
  StartNamed("echo");
  EXPECT_EQ(Call("defaults"), "['', 0, 0.5, 4, [1, 2]]");
  EXPECT_EQ(Call("defaults", "{'a': 'x', 'd': None, 'e': []}"), "['x', 0, 0.5, None, []]");
  EXPECT_EQ(Call("batch", "{'values': list(range(5))}"), "[0, 1, 4, 9, 16]");
}

TEST_F(PythonModelTest, WhatIsNotOfTheTypeIsTheCallersError) {
  StartNamed("echo");
  const absl::Status missing = Error("predict");
  EXPECT_EQ(missing.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(Message(missing),
              AllOf(StartsWith("python model 'echo': predict"), HasSubstr("'text' is missing")));
  const absl::Status wrong = Error("words", "{'value': ['a', 1]}");
  EXPECT_EQ(wrong.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(Message(wrong), AllOf(HasSubstr("'value'"), HasSubstr("[1]: expected str, not int")));
  EXPECT_THAT(Message(Error("fields", "{'value': NamedFields(name='')}")),
              HasSubstr("'score' is missing"));
  EXPECT_THAT(Message(Error("fields", "{'value': NamedFields(nme='')}")), HasSubstr("'nme'"));
}

// A5: as views, which cannot be written to.
TEST_F(PythonModelTest, A5ArraysAreViewsOfTheRequest) {
  StartNamed("arrays");
  EXPECT_THAT(Call("writes", "{'x': np.zeros(2)}"), HasSubstr("read-only"));
  EXPECT_THAT(Call("unlocks", "{'x': np.zeros(2)}"), HasSubstr("cannot set WRITEABLE"));
  // Where the block cannot be kept it is a copy, which may be written to.
  EXPECT_EQ(Call("writes", "{'x': np.zeros(2)}", {.can_keep = false}), "'written'");
  EXPECT_EQ(std::stoull(Call("address", "{'x': np.zeros(2)}")) % 128, 0u);
  EXPECT_EQ(std::stoull(Call("keep_in_list", "{'x': [np.zeros(2)]}")) % 128, 0u);
  EXPECT_EQ(KeptBlocks(), 1);
  EXPECT_EQ(Call("transposed", "{'x': np.arange(4).reshape(2, 2)}"),
            "array([[0, 2],\n       [1, 3]])");
}

TEST_F(PythonModelTest, AViewThatIsKeptKeepsItsBlock) {
  StartNamed("arrays");
  EXPECT_EQ(Call("keep", "{'x': np.full(1000, 2.0)}"), "None");
  EXPECT_EQ(KeptBlocks(), 1);
  EXPECT_EQ(Call("kept_sum"), "1998.0");
  EXPECT_EQ(Call("forget"), "None");
  EXPECT_EQ(KeptBlocks(), 0);
  EXPECT_EQ(Call("keep", "{'x': np.full(1000, 2.0)}", {.can_keep = false}), "None");
  EXPECT_EQ(KeptBlocks(), 0);
  EXPECT_EQ(Call("kept_sum"), "1998.0");
}

TEST_F(PythonModelTest, AnEmptyOutputIsTheLoanedBlock) {
  StartNamed("arrays");
  EXPECT_EQ(Call("in_place", "{'n': 3}"), "array([0., 1., 2.], dtype=float32)");
  EXPECT_EQ(Call("in_place", "{'n': 0}"), "array([], dtype=float32)");
  EXPECT_EQ(Call("other_array", "{'n': 2}"), "array([3., 3.], dtype=float32)");
  EXPECT_THAT(Call("other_shape", "{'n': 2}"), HasSubstr("empty_output was asked for"));
  EXPECT_THAT(Call("no_such_output"), HasSubstr("has no output 'outptu'"));
  EXPECT_THAT(Call("in_place", "{'n': -1}"), HasSubstr("which that is not"));
  EXPECT_THAT(Call("in_place", "{'n': 4096}", {.block_bytes = 64}), HasSubstr("needs 16384"));
  // One that is kept turns into an array of its own.
  EXPECT_EQ(Call("keeps_output", "{'n': 4}"), "array([1., 1., 1., 1.], dtype=float32)");
  EXPECT_EQ(Call("lent_sum"), "8.0");
  EXPECT_THAT(Call("complex"), HasSubstr("complex64 cannot be sent"));
}

TEST_F(PythonModelTest, TellsTheSizeThatWouldHaveDone) {
  StartNamed("echo");
  EXPECT_THAT(Call("pair", "{'a': 'x' * 200, 'b': np.zeros(100)}", {.block_bytes = 128}),
              HasSubstr("needs 1152"));  // 256 + 896: both, on 128-byte boundaries
}

TEST_F(PythonModelTest, AMethodRunsOnceAlsoWhereItsResultDidNotFit) {
  StartNamed("arrays");
  const PythonCallOptions small = {.block_bytes = 64};
  EXPECT_THAT(Call("counted", "{'n': 9}", small), HasSubstr("needs 128"));
  EXPECT_EQ(Call("counted", "{'n': 9}"), "array([1, 1, 1, 1, 1, 1, 1, 1, 1])");
  // Once; and not for other inputs, nor for another method's call between.
  EXPECT_EQ(Call("counted", "{'n': 1}"), "array([2])");
  EXPECT_THAT(Call("counted", "{'n': 9}", small), HasSubstr("needs 128"));
  EXPECT_EQ(Call("counted", "{'n': 1}"), "array([4])");
  EXPECT_THAT(Call("counted", "{'n': 9}", small), HasSubstr("needs 128"));
  EXPECT_EQ(Call("forget"), "None");
  EXPECT_THAT(Call("counted", "{'n': 9}"), HasSubstr("array([6, 6"));
  // Not where the answer would be another caller's own.
  EXPECT_THAT(Call("counted", "{'n': 9}", {.block_bytes = 64, .secrets = "{}"}),
              HasSubstr("needs 128"));
  EXPECT_THAT(Call("counted", "{'n': 9}"), HasSubstr("array([8, 8"));
}

TEST_F(PythonModelTest, A9LocksFilesThreadsAndThreadLocals) {
  StartNamed("stateful");
  EXPECT_EQ(Call("predict", "{'line': 1}"), "'second'");
  EXPECT_EQ(Call("local_value"), "'of the thread that made it'");
  // The thread runs while nobody calls, and while a method waits.
  EXPECT_EQ(Call("wait_for_ticks", "{'more': 3}"), "True");
  EXPECT_EQ(Call("wait_for_ticks", "{'more': 3}"), "True");
}

TEST_F(PythonModelTest, A10PathsWithQuotesAndSpaces) {
  const TempDir dir;
  const std::string odd = dir.path() + "/it's \"a\" model $(dir) ü";
  std::filesystem::copy(PythonModelDirectory("sdk"), odd, std::filesystem::copy_options::recursive);
  Start(odd);
  EXPECT_EQ(Call("predict", "{'text': 'you'}"), "'hello you from a file'");
  EXPECT_FALSE(std::filesystem::exists(odd + "/1/__pycache__"));
}

TEST_F(PythonModelTest, ErrorsHaveTheTraceback) {
  StartNamed("failing");
  const absl::Status status = Error("predict", "{'text': 'lost'}");
  EXPECT_EQ(status.code(), absl::StatusCode::kUnknown);
  EXPECT_THAT(Message(status),
              AllOf(StartsWith("python model 'failing': predict: KeyError: 'lost' ("),
                    HasSubstr("model.py:14)"), HasSubstr("Traceback"),
                    HasSubstr("return self._deep(text, depth - 1)")));
  EXPECT_LT(Message(status).size(), 4096u);
  EXPECT_LT(Message(Error("long_error")).size(), 4096u);
}

TEST_F(PythonModelTest, ExitAndInterruptEndTheCallOnly) {
  StartNamed("failing");
  EXPECT_THAT(Message(Error("leave")), HasSubstr("SystemExit: 3"));
  EXPECT_THAT(Message(Error("interrupt")), HasSubstr("KeyboardInterrupt"));
  EXPECT_EQ(Error("wrong_type").code(), absl::StatusCode::kInternal);
  EXPECT_THAT(Message(Error("wrong_type")), HasSubstr("expected str, not int"));
  EXPECT_THAT(Message(Error("wrong_fields")), HasSubstr("[1]: expected int, not str"));
  EXPECT_THAT(Message(Error("wrong_tuple")), HasSubstr("expected a tuple of 2, not 3"));
  model_->Cleanup();  // raises: is logged
}

TEST_F(PythonModelTest, ACallsSecretsAreItsOwn) {
  StartNamed("failing");
  ::unsetenv("KEY");
  const absl::Status told = Error("tells_secret", "{}", {.secrets = "{\"KEY\": \"swordfish-1\"}"});
  EXPECT_THAT(Message(told), AllOf(HasSubstr("the key is ***"), Not(HasSubstr("swordfish"))));
  EXPECT_EQ(::getenv("KEY"), nullptr);
  EXPECT_THAT(Message(Error("tells_secret")), HasSubstr("TypeError"));  // None: not there any more
  const absl::Status bad = Error("leave", "{}", {.secrets = "{\"KEY\": swordfish-1}"});
  EXPECT_EQ(bad.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(Message(bad), AllOf(HasSubstr("'baton.secrets'"), Not(HasSubstr("swordfish"))));
}

TEST_F(PythonModelTest, WhatIsPrintedBecomesLines) {
  ::testing::internal::CaptureStderr();
  StartNamed("printing");
  EXPECT_EQ(Call("predict", "{'text': 'x'}"), "'x'");
  EXPECT_EQ(Call("raw"), "''");
  EXPECT_EQ(Call("tell", "{'name': 'KEY'}", {.secrets = "{\"KEY\": \"swordfish-1\"}"}), "''");
  const std::string log = ::testing::internal::GetCapturedStderr();
  const std::string name = "python model 'printing': ";
  for (const char* line : {"imported", "line of x", "no newline", "to stderr", "from a thread",
                           "bytes", "it is ***"}) {
    EXPECT_THAT(log, HasSubstr(name + line + "\n"));
  }
  EXPECT_THAT(log, Not(HasSubstr("swordfish")));
}

}  // namespace
}  // namespace baton::loader
