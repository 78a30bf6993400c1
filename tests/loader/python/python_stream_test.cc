#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "tests/loader/python/python_call.h"

namespace baton::loader {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

std::string Message(const absl::Status& status) { return std::string(status.message()); }

class PythonStreamTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto model = StartPythonModel(PythonModelDirectory("streaming"));
    ASSERT_TRUE(model.ok()) << model.status();
    model_ = *std::move(model);
  }
  std::string Log() { return CallPython(*model_, "log", "{}").value_or("no log"); }

  std::unique_ptr<Model> model_;
};

// A7: the generator runs only as far as it is asked to.
TEST_F(PythonStreamTest, A7TheFirstChunkComesBeforeTheGeneratorEnds) {
  PythonStreamCall call(*model_, "generate", "{'text': 'x'}");
  ASSERT_TRUE(call.started().ok()) << call.started();
  EXPECT_EQ(Log(), "[]");
  EXPECT_EQ(call.Next().value_or("?"), "'x0'");
  EXPECT_EQ(Log(), "['at 0']");
  EXPECT_EQ(call.Next().value_or("?"), "'x1'");
  EXPECT_EQ(call.Next().value_or("?"), "'x2'");
  EXPECT_EQ(call.Next().value_or("?"), "<end>");
  EXPECT_EQ(call.Next().value_or("?"), "<end>");
}

TEST_F(PythonStreamTest, A7OutputOneComesBeforeItemTwo) {
  PythonStreamCall call(*model_, "stream", "{'prefix': '-'}", {"'a'", "''"});
  EXPECT_EQ(call.Next().value_or("?"), "'-a'");
  EXPECT_EQ(call.items_taken(), 1u);
  EXPECT_EQ(call.Next().value_or("?"), "'-'");
  EXPECT_EQ(call.Next().value_or("?"), "'end'");
  EXPECT_EQ(call.Next().value_or("?"), "<end>");
}

TEST_F(PythonStreamTest, ItemsAndResponsesOfNamedFields) {
  PythonStreamCall call(*model_, "scored", "{}", {"NamedFields(name='n', score=2)"});
  EXPECT_EQ(call.Next().value_or("?"), "NamedFields(name='n', double=4.0)");
  EXPECT_EQ(call.Next().value_or("?"), "<end>");
}

TEST_F(PythonStreamTest, ManyItemsOneResponse) {
  PythonStreamCall call(*model_, "total", "{}", {"1", "2", "39"});
  EXPECT_EQ(call.Next().value_or("?"), "42");
  EXPECT_EQ(call.Next().value_or("?"), "<end>");
}

TEST_F(PythonStreamTest, AnyIteratorWillDo) {
  PythonStreamCall call(*model_, "listed", "{'text': 'ab'}");
  EXPECT_EQ(call.Next().value_or("?"), "'a'");
  PythonStreamCall none(*model_, "no_iterator", "{'text': 'ab'}");
  const absl::Status status = none.Next().status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(Message(status), HasSubstr("returned no iterator"));
}

TEST_F(PythonStreamTest, A8AnExceptionMidStream) {
  PythonStreamCall call(*model_, "fails_midway", "{'text': 'that'}");
  EXPECT_EQ(call.Next().value_or("?"), "'that'");
  const absl::Status status = call.Next().status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnknown);
  EXPECT_THAT(Message(status), AllOf(HasSubstr("fails_midway: ValueError: enough of that"),
                                     HasSubstr("Traceback"), HasSubstr("raise ValueError")));
  EXPECT_EQ(call.Next().value_or("?"), "<end>");
}

TEST_F(PythonStreamTest, ACancelledGeneratorIsClosed) {
  PythonStreamCall call(*model_, "generate", "{'text': 'x'}");
  EXPECT_EQ(call.Next().value_or("?"), "'x0'");
  call.Destroy();
  EXPECT_EQ(Log(), "['at 0', 'closed']");
}

TEST_F(PythonStreamTest, TheCallersEndIsTheStreamsStatus) {
  for (const char* method : {"stream", "swallows"}) {
    PythonStreamCall call(*model_, method, "{}", {"'a'"});
    EXPECT_TRUE(call.Next().ok());
    call.EndItems(absl::CancelledError("the caller has gone"));
    EXPECT_EQ(call.Next().status(), absl::CancelledError("the caller has gone"));
    EXPECT_EQ(call.Next().value_or("?"), "<end>");
  }
  EXPECT_EQ(Log(), "['CallEnded']");
}

TEST_F(PythonStreamTest, AResponseThatDoesNotFitIsGivenAgain) {
  PythonStreamCall call(*model_, "generate", "{'text': 'x' * 100, 'times': 2}");
  EXPECT_EQ(call.Next(64).value_or("?"), "<too small>");
  EXPECT_EQ(Log(), "['at 0']");
  EXPECT_THAT(call.Next().value_or("?"), HasSubstr("xx0'"));
  EXPECT_EQ(Log(), "[]");
  EXPECT_THAT(call.Next().value_or("?"), HasSubstr("xx1'"));

  PythonStreamCall arrays(*model_, "arrays", "{'count': 2}");
  EXPECT_EQ(arrays.Next(8).value_or("?"), "<too small>");
  EXPECT_EQ(arrays.Next().value_or("?"), "array([0, 0, 0, 0], dtype=int32)");
  EXPECT_EQ(arrays.Next().value_or("?"), "array([1, 1, 1, 1], dtype=int32)");
  EXPECT_EQ(arrays.Next().value_or("?"), "<end>");
}

TEST_F(PythonStreamTest, SecretsAreThereInEveryPiece) {
  PythonStreamCall call(*model_, "secret", "{'name': 'KEY'}", {}, "{\"KEY\": \"a-b\"}");
  EXPECT_EQ(call.Next().value_or("?"), "'a-b'");
  PythonStreamCall other(*model_, "secret", "{'name': 'KEY'}");
  EXPECT_EQ(other.Next().value_or("?"), "'none'");
  EXPECT_EQ(call.Next().value_or("?"), "'a-b'");
}

TEST_F(PythonStreamTest, WhatStreamsIsNotRunAndTheOtherWayRound) {
  EXPECT_EQ(CallPython(*model_, "generate", "{'text': 'x'}").status().code(),
            absl::StatusCode::kInvalidArgument);
  PythonStreamCall call(*model_, "as_list", "{'text': 'x'}");
  EXPECT_EQ(call.started().code(), absl::StatusCode::kInvalidArgument);
  PythonStreamCall missing(*model_, "generate", "{}");
  EXPECT_THAT(Message(missing.started()), HasSubstr("'text' is missing"));
}

}  // namespace
}  // namespace baton::loader
