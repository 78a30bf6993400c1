// Writes small .onnx files for tests: just enough of ONNX's protobuf messages,
// encoded by hand, so that tests need neither protobuf nor Python.
#ifndef BATON_TESTS_LOADER_ONNX_TINY_ONNX_H_
#define BATON_TESTS_LOADER_ONNX_TINY_ONNX_H_

#include <cstdint>
#include <string>
#include <vector>

namespace baton::loader {

// TensorProto.DataType
enum class OnnxType : uint64_t {
  kFloat = 1,
  kUInt8 = 2,
  kInt8 = 3,
  kUInt16 = 4,
  kInt16 = 5,
  kInt32 = 6,
  kInt64 = 7,
  kString = 8,
  kBool = 9,
  kFloat16 = 10,
  kDouble = 11,
  kUInt32 = 12,
  kUInt64 = 13,
  kBFloat16 = 16,
};

class TinyOnnx {
 public:
  // A dimension below zero is dynamic and has no name.
  TinyOnnx& Input(const std::string& name, OnnxType type, const std::vector<int64_t>& shape) {
    Message(graph_, 11, ValueInfo(name, TensorType(type, shape)));
    return *this;
  }
  TinyOnnx& Output(const std::string& name, OnnxType type, const std::vector<int64_t>& shape) {
    Message(graph_, 12, ValueInfo(name, TensorType(type, shape)));
    return *this;
  }
  // An output of type sequence(tensor(type)).
  TinyOnnx& SequenceOutput(const std::string& name, OnnxType type) {
    std::string sequence, value;
    Message(sequence, 1, TensorType(type, {}));
    Message(value, 4, sequence);
    Message(graph_, 12, ValueInfo(name, value));
    return *this;
  }
  TinyOnnx& Node(const std::string& op, const std::vector<std::string>& inputs,
                 const std::vector<std::string>& outputs) {
    std::string node;
    for (const std::string& input : inputs) Message(node, 1, input);
    for (const std::string& output : outputs) Message(node, 2, output);
    Message(node, 3, op + std::to_string(++nodes_));
    Message(node, 4, op);
    Message(graph_, 1, node);
    return *this;
  }
  // The bytes of a .onnx file.
  std::string Serialize() const {
    std::string graph = graph_, opset, model;
    Message(graph, 2, "tiny");
    Varint(opset, 2, 13);
    Varint(model, 1, 7);  // ir_version
    Message(model, 7, graph);
    Message(model, 8, opset);
    return model;
  }

 private:
  static void Raw(std::string& to, uint64_t value) {
    for (; value >= 0x80; value >>= 7) to.push_back(static_cast<char>(value | 0x80));
    to.push_back(static_cast<char>(value));
  }
  static void Varint(std::string& to, uint64_t field, uint64_t value) {
    Raw(to, field << 3);
    Raw(to, value);
  }
  static void Message(std::string& to, uint64_t field, const std::string& bytes) {
    Raw(to, field << 3 | 2);
    Raw(to, bytes.size());
    to += bytes;
  }
  static std::string TensorType(OnnxType type, const std::vector<int64_t>& dims) {
    std::string shape, tensor, value;
    for (int64_t dim : dims) {
      std::string dimension;
      if (dim >= 0) Varint(dimension, 1, static_cast<uint64_t>(dim));
      Message(shape, 1, dimension);
    }
    Varint(tensor, 1, static_cast<uint64_t>(type));
    Message(tensor, 2, shape);
    Message(value, 1, tensor);
    return value;
  }
  static std::string ValueInfo(const std::string& name, const std::string& type) {
    std::string value;
    Message(value, 1, name);
    Message(value, 2, type);
    return value;
  }

  std::string graph_;
  int nodes_ = 0;
};

}  // namespace baton::loader

#endif  // BATON_TESTS_LOADER_ONNX_TINY_ONNX_H_
