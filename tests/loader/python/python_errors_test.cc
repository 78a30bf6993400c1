// A4: what is wrong with a model's code is said before it serves.
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "tests/loader/python/python_call.h"
#include "tests/loader/temp_dir.h"

namespace baton::loader {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr char kHead[] =
    "from typing import *\n"
    "import numpy as np\n"
    "from baton.models import ModelClass\n";

class PythonErrorsTest : public ::testing::Test {
 protected:
  absl::Status Stage(const std::string& text, const std::string& file = "model.py") {
    dir_.Write(file, kHead + text);
    dir_.Write("config.yaml", "loader: python\n");
    return StageDirectory(dir_.path()).status();
  }
  // Of a class M whose one method is `definition`.
  std::string OfMethod(const std::string& definition) {
    const absl::Status status = Stage("class M(ModelClass):\n    @ModelClass.method\n    " +
                                      definition + "\n        ...\n");
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << definition;
    EXPECT_THAT(std::string(status.message()), HasSubstr("M.m (model.py:5)")) << definition;
    return std::string(status.message());
  }
  TempDir dir_;
};

TEST_F(PythonErrorsTest, A4NoModelClass) {
  const absl::Status status = Stage("class M:\n    pass\n");
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("/model.py: defines no model"), HasSubstr("ModelClass")));
}

TEST_F(PythonErrorsTest, A4TwoModelClassesAreNamed) {
  const std::string two =
      "class A(ModelClass):\n    @ModelClass.method\n    def f(self) -> str: ...\n"
      "class B(ModelClass):\n    @ModelClass.method\n    def f(self) -> str: ...\n";
  const absl::Status status = Stage(two, "1/model.py");
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("/1/model.py: defines 2 models: A (line 4), B (line 7)")));
}

TEST_F(PythonErrorsTest, AClassAndItsBaseAreOneModel) {
  EXPECT_TRUE(Stage("class A(ModelClass):\n    @ModelClass.method\n    def f(self) -> str: ...\n"
                    "class B(A):\n    pass\n")
                  .ok());
}

TEST_F(PythonErrorsTest, A4AnnotationsThatAreMissingOrMeanNothing) {
  EXPECT_THAT(OfMethod("def m(self, x) -> str:"), HasSubstr("'x' has no annotation"));
  EXPECT_THAT(OfMethod("def m(self, x: str):"), HasSubstr("does not say what it returns"));
  EXPECT_THAT(OfMethod("def m(self, *x: str) -> str:"), HasSubstr("'x' stands for any number"));
  EXPECT_THAT(
      OfMethod("def m(self, x: Callable) -> str:"),
      AllOf(HasSubstr("'x'"), HasSubstr("`Callable`"), HasSubstr("no type that can be sent")));
  EXPECT_THAT(OfMethod("def m(self, x: List[complex]) -> str:"), HasSubstr("`List[complex]`"));
  EXPECT_THAT(OfMethod("def m(self, x: 'Nobody') -> str:"), HasSubstr("'Nobody' is not defined"));
  EXPECT_THAT(OfMethod("def m(self) -> Iterator:"), HasSubstr("does not say what of"));
  EXPECT_THAT(OfMethod("def m(self) -> Annotated[np.ndarray, np.complex64]:"),
              HasSubstr("complex64"));
  EXPECT_THAT(OfMethod("async def m(self) -> str:"), HasSubstr("asynchronous"));
  EXPECT_THAT(OfMethod("def m(self) -> AsyncIterator[str]:"), HasSubstr("asynchronous"));
}

TEST_F(PythonErrorsTest, A4TwoStreamsIn) {
  EXPECT_THAT(OfMethod("def m(self, a: Iterator[str], b: Iterator[int]) -> Iterator[str]:"),
              AllOf(HasSubstr("two streams, 'a' and 'b'"), HasSubstr("NamedFields")));
  EXPECT_THAT(OfMethod("def m(self, a: Iterator[str] = ()) -> Iterator[str]:"),
              HasSubstr("no default"));
}

TEST_F(PythonErrorsTest, NoMethod) {
  EXPECT_THAT(std::string(Stage("class M(ModelClass):\n    pass\n").message()),
              HasSubstr("M has no method for callers"));
}

TEST_F(PythonErrorsTest, WhatTheFileItselfRaises) {
  const absl::Status syntax = Stage("def f(:\n");
  EXPECT_EQ(syntax.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(syntax.message()), HasSubstr("SyntaxError"));
  const absl::Status import = Stage("import no_such_module\n");
  EXPECT_EQ(import.code(), absl::StatusCode::kUnknown);
  EXPECT_THAT(std::string(import.message()),
              AllOf(HasSubstr("importing "), HasSubstr("No module named 'no_such_module'"),
                    HasSubstr("model.py:4")));
  EXPECT_THAT(std::string(Stage("raise SystemExit(2)\n").message()), HasSubstr("SystemExit: 2"));
}

TEST_F(PythonErrorsTest, AFileOfAnotherName) {
  dir_.Write("other.txt",
             "from baton.models import ModelClass\n"
             "class M(ModelClass):\n"
             "    @ModelClass.method\n"
             "    def f(self) -> str: ...\n");
  dir_.Write("config.yaml", "loader: python\nfile: other.txt\n");
  EXPECT_TRUE(StageDirectory(dir_.path()).ok());
  dir_.Write("config.yaml",
             "loader: python\nfile: other.txt\nsignature: {inputs: [], outputs: "
             "[{name: x, dtype: uint8, shape: [1]}]}\n");
  EXPECT_THAT(std::string(StageDirectory(dir_.path()).status().message()),
              HasSubstr("signature: leave it out"));
}

TEST_F(PythonErrorsTest, TheSdkIsNeverShadowed) {
  dir_.Write("clarifai/__init__.py", "");
  dir_.Write("clarifai/runners/__init__.py", "");
  const absl::Status status = Stage("from clarifai.runners.models.model_class import ModelClass\n");
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("No module named 'clarifai.runners.models'"));
}

TEST_F(PythonErrorsTest, AModelClassOfTheSdkItselfIsServed) {
  for (const char* package : {"clarifai", "clarifai/runners", "clarifai/runners/models"}) {
    dir_.Write(std::string(package) + "/__init__.py", "");
  }
  dir_.Write("clarifai/runners/models/model_class.py",
             "class ModelClass:\n"
             "    @staticmethod\n"
             "    def method(f):\n"
             "        f._theirs = True\n"
             "        return f\n"
             "    @classmethod\n"
             "    def _get_method_infos(cls):\n"
             "        return {n: f for n, f in vars(cls).items() if hasattr(f, '_theirs')}\n");
  dir_.Write("model.py",
             "from clarifai.runners.models.model_class import ModelClass\n"
             "class M(ModelClass):\n"
             "    @ModelClass.method\n"
             "    def shout(self, text: str) -> str:\n"
             "        return text.upper()\n");
  auto model = StartPythonModel(dir_.path());
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(CallPython(**model, "shout", "{'text': 'a'}").value_or("?"), "'A'");
}

}  // namespace
}  // namespace baton::loader
