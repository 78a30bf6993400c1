// Bytes that nobody could have written, and what cannot be sent.
#include "loader/python/value_codec.h"

#include <pybind11/eval.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "loader/python/interpreter.h"
#include "tests/loader/python/python_call.h"

namespace baton::python {
namespace {

namespace py = pybind11;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

const TensorSpec kValue{"v", DType::kUInt8, {kDynamicDim}, Content::kValue};

class ValueCodecTest : public ::testing::Test {
 protected:
  // The backend's library starts the interpreter.
  static void SetUpTestSuite() {
    const auto model = loader::StageDirectory(loader::PythonModelDirectory("echo"));
    ASSERT_TRUE(model.ok()) << model.status();
  }

  static py::object Eval(const std::string& text) {
    py::dict names;
    py::exec("import numpy as np", names);
    return py::eval(text, names);
  }
  static std::string Refusal(const TensorSpec& spec, const std::string& text) {
    const Gil gil;
    const absl::Status status = Encode(spec, Eval(text)).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_EQ(PyErr_Occurred(), nullptr);
    return std::string(status.message());
  }
  // Aligned as blocks are.
  struct Bytes {
    alignas(128) std::byte data[4096];
    size_t size = 0;
  };
  static void EncodeValue(const std::string& text, Bytes& to) {
    const absl::StatusOr<Encoded> encoded = Encode(kValue, Eval(text));
    ASSERT_TRUE(encoded.ok()) << encoded.status();
    ASSERT_LE(encoded->bytes(), sizeof(to.data));
    to.size = encoded->bytes();
    encoded->Write(to.data);
  }
  static absl::StatusOr<py::object> DecodeValue(const Bytes& bytes, size_t size) {
    const int64_t shape[] = {static_cast<int64_t>(size)};
    return Decode(kValue, {"v", DType::kUInt8, shape, {bytes.data, size}}, py::none());
  }
};

TEST_F(ValueCodecTest, RefusesWhatCannotBeSent) {
  EXPECT_THAT(Refusal(kValue, "[{1}]"), AllOf(StartsWith("'v': "), HasSubstr("type set")));
  EXPECT_THAT(Refusal(kValue, "1j"), HasSubstr("type complex"));
  EXPECT_THAT(Refusal(kValue, "'\\ud800'"), HasSubstr("UnicodeEncodeError"));
  EXPECT_THAT(Refusal(kValue, "np.array(['a'])"), HasSubstr("cannot be sent"));
  EXPECT_THAT(Refusal(kValue, "eval('[' * 65 + ']' * 65)"), HasSubstr("more than 64"));
  EXPECT_THAT(Refusal(kValue, "(lambda x: (x.append(x), x)[1])([])"), HasSubstr("more than 64"));
  const TensorSpec text{"t", DType::kUInt8, {kDynamicDim}, Content::kText};
  EXPECT_THAT(Refusal(text, "b'a'"), HasSubstr("expected str, not bytes"));
  const TensorSpec number{"n", DType::kUInt8, {}, Content::kScalar};
  EXPECT_THAT(Refusal(number, "256"), HasSubstr("does not fit uint8"));
  EXPECT_THAT(Refusal(number, "-1"), HasSubstr("does not fit uint8"));
  EXPECT_THAT(Refusal(number, "'1'"), HasSubstr("expected int, not str"));
  const TensorSpec array{"a", DType::kFloat32, {2, kDynamicDim}, Content::kTensor};
  EXPECT_THAT(Refusal(array, "np.zeros((3, 1), np.float32)"), HasSubstr("float32[2, ?]"));
  EXPECT_THAT(Refusal(array, "np.zeros((2, 1), np.complex64)"), HasSubstr("complex64"));
  EXPECT_THAT(Refusal({"i", DType::kInt32, {kAnyRank}}, "np.zeros(2)"),
              HasSubstr("not of float64"));
}

TEST_F(ValueCodecTest, ViewsHangOnTheirOwner) {
  const Gil gil;
  Bytes bytes;
  EncodeValue("[np.arange(3), [np.ones(2, np.float32)]]", bytes);
  const py::object owner = Eval("object()");
  const int64_t shape[] = {static_cast<int64_t>(bytes.size)};
  auto value = Decode(kValue, {"v", DType::kUInt8, shape, {bytes.data, bytes.size}}, owner);
  ASSERT_TRUE(value.ok()) << value.status();
  const py::object array = (*value)[py::int_(0)];
  EXPECT_TRUE(py::object(array.attr("base")).is(owner));
  EXPECT_FALSE(array.attr("flags").attr("writeable").cast<bool>());
  const auto address = array.attr("ctypes").attr("data").cast<uintptr_t>();
  EXPECT_EQ(address % 128, 0u);
  EXPECT_GE(address, reinterpret_cast<uintptr_t>(bytes.data));
  EXPECT_LT(address, reinterpret_cast<uintptr_t>(bytes.data) + bytes.size);
}

// R6: whatever is read, it is a status or a value.
TEST_F(ValueCodecTest, NoBytesDoHarm) {
  const Gil gil;
  Bytes good;
  EncodeValue("{'a': [1, 'x', np.arange(4), (None, 2**70)], 'b': b'123'}", good);
  for (size_t size = 0; size < good.size; ++size) {
    EXPECT_FALSE(DecodeValue(good, size).ok()) << size;
    EXPECT_EQ(PyErr_Occurred(), nullptr);
  }
  ASSERT_TRUE(DecodeValue(good, good.size).ok());
  uint64_t random = 1;
  for (int round = 0; round < 20000; ++round) {
    Bytes bad = good;
    for (int edit = 0; edit < 1 + round % 4; ++edit) {
      random = random * 6364136223846793005u + 1442695040888963407u;
      bad.data[(random >> 33) % bad.size] = static_cast<std::byte>(random >> 24);
    }
    static_cast<void>(DecodeValue(bad, bad.size));
    ASSERT_EQ(PyErr_Occurred(), nullptr);
  }
}

TEST_F(ValueCodecTest, BrokenTextsAndJson) {
  const Gil gil;
  const std::string broken = "\xff";
  const int64_t shape[] = {1};
  const TensorView tensor{"t", DType::kUInt8, shape, std::as_bytes(std::span(broken))};
  for (const Content content : {Content::kText, Content::kJson}) {
    const TensorSpec spec{"t", DType::kUInt8, {kDynamicDim}, content};
    const absl::Status status = Decode(spec, tensor, py::none()).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr("UnicodeDecodeError"));
  }
}

}  // namespace
}  // namespace baton::python
