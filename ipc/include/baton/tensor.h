// Tensors as Baton describes them: a name, a dtype, a shape, and bytes that
// stay where they are.
//
// Plain values, no synchronisation: share them between threads as you would
// share a std::vector.
#ifndef BATON_TENSOR_H_
#define BATON_TENSOR_H_

#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace baton {

// Element types. The numbers are part of the wire format: never renumber.
enum class DType : uint8_t {
  kInvalid = 0,
  kBool = 1,
  kUInt8 = 2,
  kInt8 = 3,
  kUInt16 = 4,
  kInt16 = 5,
  kUInt32 = 6,
  kInt32 = 7,
  kUInt64 = 8,
  kInt64 = 9,
  kFloat16 = 10,
  kBFloat16 = 11,
  kFloat32 = 12,
  kFloat64 = 13,
  kAny = 255,  // in a signature only: each request chooses
};

// The highest number in use; a larger one read from a peer is invalid.
inline constexpr uint8_t kMaxDType = 13;
// A tensor has at most this many dimensions.
inline constexpr size_t kMaxRank = 8;
// A request or a response carries at most this many tensors.
inline constexpr size_t kMaxTensors = 64;
// Names are at most this many bytes.
inline constexpr size_t kMaxNameBytes = 255;
// A dimension of a signature whose size each request chooses.
inline constexpr int64_t kDynamicDim = -1;
// As the only entry of a signature's shape: each request chooses its rank, too.
inline constexpr int64_t kAnyRank = -2;

// Bytes per element; 0 for kInvalid and for numbers that are no dtype.
constexpr size_t DTypeBytes(DType dtype) {
  switch (dtype) {
    case DType::kBool:
    case DType::kUInt8:
    case DType::kInt8:
      return 1;
    case DType::kUInt16:
    case DType::kInt16:
    case DType::kFloat16:
    case DType::kBFloat16:
      return 2;
    case DType::kUInt32:
    case DType::kInt32:
    case DType::kFloat32:
      return 4;
    case DType::kUInt64:
    case DType::kInt64:
    case DType::kFloat64:
      return 8;
    case DType::kInvalid:
    case DType::kAny:
      break;
  }
  return 0;
}

// "float32", "int64", ..., "any"; "invalid" for anything else. Static storage.
std::string_view DTypeName(DType dtype);
// The reverse of DTypeName; kInvalid when `name` is none of them.
DType DTypeFromName(std::string_view name);

// The dtype of a C++ element type: DTypeOf<float>() == DType::kFloat32.
template <typename T>
constexpr DType DTypeOf() {
  if constexpr (std::is_same_v<T, bool>) return DType::kBool;
  if constexpr (std::is_same_v<T, uint8_t>) return DType::kUInt8;
  if constexpr (std::is_same_v<T, int8_t>) return DType::kInt8;
  if constexpr (std::is_same_v<T, uint16_t>) return DType::kUInt16;
  if constexpr (std::is_same_v<T, int16_t>) return DType::kInt16;
  if constexpr (std::is_same_v<T, uint32_t>) return DType::kUInt32;
  if constexpr (std::is_same_v<T, int32_t>) return DType::kInt32;
  if constexpr (std::is_same_v<T, uint64_t>) return DType::kUInt64;
  if constexpr (std::is_same_v<T, int64_t>) return DType::kInt64;
  if constexpr (std::is_same_v<T, float>) return DType::kFloat32;
  if constexpr (std::is_same_v<T, double>) return DType::kFloat64;
  return DType::kInvalid;
}

// Elements of `shape`: the product of its dimensions, 1 for a scalar.
// nullopt when a dimension is negative or the product overflows.
constexpr std::optional<uint64_t> ElementCount(std::span<const int64_t> shape) {
  uint64_t count = 1;
  for (int64_t dim : shape) {
    if (dim < 0) return std::nullopt;
    const auto size = static_cast<uint64_t>(dim);
    if (size != 0 && count > std::numeric_limits<uint64_t>::max() / size) return std::nullopt;
    count *= size;
  }
  return count;
}

// Bytes of a dense row-major tensor; nullopt on overflow, a negative
// dimension or an invalid dtype.
constexpr std::optional<uint64_t> TensorBytes(DType dtype, std::span<const int64_t> shape) {
  const std::optional<uint64_t> count = ElementCount(shape);
  const uint64_t item = DTypeBytes(dtype);
  if (!count || item == 0 || *count > std::numeric_limits<uint64_t>::max() / item) {
    return std::nullopt;
  }
  return *count * item;
}

// What the bytes of a tensor mean to a language that has more than tensors.
// Nothing in Baton's C++ looks at it but kSecret. The numbers are part of the
// wire format: never renumber.
enum class Content : uint8_t {
  kTensor = 0,
  kScalar = 1,  // rank 0: a number or a bool
  kText = 2,    // uint8[?], UTF-8
  kBytes = 3,   // uint8[?]
  kImage = 4,   // uint8[?, ?, ?]: height, width, channels
  kJson = 5,    // uint8[?], UTF-8
  kValue = 6,   // uint8[?]: a Value (loader/schema/value.capnp): lists, tuples, named fields
  kSecret = 7,  // uint8[?]: overwritten with zeros as soon as the request has ended
};
inline constexpr uint8_t kMaxContent = 7;
// "tensor", "scalar", ..., "secret"; "invalid" for anything else. Static storage.
std::string_view ContentName(Content content);

// What a tensor must look like. In a signature a dimension may be
// kDynamicDim, the shape {kAnyRank} and the dtype kAny; in a request or a
// response they may not, and only name, dtype and shape count there.
struct TensorSpec {
  std::string name = {};
  DType dtype = DType::kInvalid;
  std::vector<int64_t> shape = {};
  Content content = Content::kTensor;
  bool optional = false;  // an input that a request may leave out
  bool streamed = false;  // an input that comes with each item of a stream, not with its start
  // For people: the type as the model's language writes it ("list[str]"), and
  // the default of an optional input likewise. Often empty.
  std::string type_text = {};
  std::string default_text = {};

  friend bool operator==(const TensorSpec&, const TensorSpec&) = default;
};

// "image: float32[1, 64]"; a dynamic dimension prints as "?", any rank as "...".
std::string ToString(const TensorSpec& spec);

// Whether a tensor of this dtype and shape is what `spec` asks for.
bool Fits(const TensorSpec& spec, DType dtype, std::span<const int64_t> shape);

// What one method takes and gives, in order.
struct Signature {
  std::vector<TensorSpec> inputs;
  std::vector<TensorSpec> outputs;

  friend bool operator==(const Signature&, const Signature&) = default;
};

// The inputs that come with each item of a stream, or those that do not, in order.
std::vector<TensorSpec> InputsOf(const Signature& signature, bool streamed);

// Something that a model can be asked to do. A model has one method at least;
// where it says nothing of methods, one that is called "predict".
struct Method {
  std::string name;
  Signature signature;
  bool streams_inputs = false;   // takes any number of items (inputs that are `streamed`)
  bool streams_outputs = false;  // gives any number of responses
  std::string doc = {};          // for people; may be empty

  bool streams() const { return streams_inputs || streams_outputs; }
  friend bool operator==(const Method&, const Method&) = default;
};
// Whether who calls the one can as well call the other: all is the same but for
// the texts that are for people.
bool SameCalls(std::span<const Method> one, std::span<const Method> other);
// A model has at most this many methods.
inline constexpr size_t kMaxMethods = 256;

// A tensor in memory that somebody else owns: dense, row-major, aligned to at
// least 128 bytes. Valid for as long as that owner says (a Request, a
// Response, a call of Model::Run).
struct TensorView {
  std::string_view name = {};
  DType dtype = DType::kInvalid;
  std::span<const int64_t> shape = {};
  // Empty where the CPU cannot read it: on a GPU.
  std::span<const std::byte> bytes = {};
  // Where it lies on a GPU, for the primary context there of this process; 0
  // on the host.
  uint64_t device_address = 0;
  int32_t device_ordinal = -1;  // of that GPU, as this process counts them

  // The elements as T; an empty span when T is not the dtype.
  template <typename T>
  std::span<const T> As() const {
    if (DTypeOf<T>() != dtype) return {};
    return {reinterpret_cast<const T*>(bytes.data()), bytes.size() / sizeof(T)};
  }
};

}  // namespace baton

#endif  // BATON_TENSOR_H_
