#include "tools/shmctl/json_tensor.h"

#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "capnp/compat/json.h"
#include "capnp/message.h"

namespace baton::shmctl {
namespace {

using JsonValue = capnp::json::Value;

// Beyond this a double skips integers: a number in JSON is not to be trusted.
constexpr double kLargestExact = 9007199254740992.0;  // 2^53

std::string Describe(JsonValue::Reader value) {
  switch (value.which()) {
    case JsonValue::NULL_:
      return "null";
    case JsonValue::BOOLEAN:
      return value.getBoolean() ? "true" : "false";
    case JsonValue::NUMBER:
      return absl::StrCat(value.getNumber());
    case JsonValue::STRING:
      return absl::StrCat("\"", std::string(value.getString().begin(), value.getString().size()),
                          "\"");
    case JsonValue::ARRAY:
      return "an array";
    default:
      return "an object";
  }
}

template <typename T>
std::optional<T> ParseInteger(capnp::Text::Reader text) {
  T number = 0;
  const auto [end, error] = std::from_chars(text.begin(), text.end(), number);
  if (error != std::errc() || end != text.end()) return std::nullopt;
  return number;
}

template <typename T>
std::optional<T> Integer(JsonValue::Reader value) {
  if (value.isString()) return ParseInteger<T>(value.getString());
  if (!value.isNumber()) return std::nullopt;
  const double number = value.getNumber();
  if (std::trunc(number) != number || std::abs(number) > kLargestExact) return std::nullopt;
  if constexpr (sizeof(T) < 8) {
    if (number < std::numeric_limits<T>::lowest() || number > std::numeric_limits<T>::max()) {
      return std::nullopt;
    }
  } else if (std::is_unsigned_v<T> && number < 0) {
    return std::nullopt;
  }
  return static_cast<T>(number);
}

template <typename T>
std::optional<T> Float(JsonValue::Reader value) {
  if (value.isString()) {
    const std::string text(value.getString().cStr());
    if (text == "NaN") return std::numeric_limits<T>::quiet_NaN();
    if (text == "Infinity") return std::numeric_limits<T>::infinity();
    if (text == "-Infinity") return -std::numeric_limits<T>::infinity();
    return std::nullopt;
  }
  if (!value.isNumber()) return std::nullopt;
  // The range is checked before the conversion: beyond it, that is undefined.
  if (std::abs(value.getNumber()) > std::numeric_limits<T>::max()) return std::nullopt;
  return static_cast<T>(value.getNumber());
}

std::optional<bool> Flag(JsonValue::Reader value) {
  if (!value.isBoolean()) return std::nullopt;
  return value.getBoolean();
}

class Parser {
 public:
  explicit Parser(const TensorSpec& spec) : tensor_{{spec.name, spec.dtype, {}}, {}} {}

  absl::Status Run(JsonValue::Reader root) {
    for (JsonValue::Reader at = root; at.isArray(); at = at.getArray()[0]) {
      if (tensor_.spec.shape.size() == kMaxRank) {
        return absl::InvalidArgumentError(
            absl::StrCat("arrays nested deeper than ", kMaxRank, " levels"));
      }
      tensor_.spec.shape.push_back(at.getArray().size());
      if (at.getArray().size() == 0) break;
    }
    return Walk(root, 0);
  }
  HostTensor Take() { return std::move(tensor_); }

 private:
  absl::Status Walk(JsonValue::Reader value, size_t depth) {
    if (depth == tensor_.spec.shape.size()) return Append(value);
    const auto size = static_cast<size_t>(tensor_.spec.shape[depth]);
    if (!value.isArray() || value.getArray().size() != size) {
      return absl::InvalidArgumentError(absl::StrCat(
          "not rectangular: at depth ", depth, " there is ",
          value.isArray() ? absl::StrCat("an array of ", value.getArray().size()) : Describe(value),
          " where the first one there is an array of ", size));
    }
    for (const JsonValue::Reader item : value.getArray()) {
      if (absl::Status status = Walk(item, depth + 1); !status.ok()) return status;
    }
    return absl::OkStatus();
  }

  absl::Status Append(JsonValue::Reader value) {
    switch (tensor_.spec.dtype) {
      case DType::kBool:
        return Store(Flag(value), value);
      case DType::kUInt8:
        return Store(Integer<uint8_t>(value), value);
      case DType::kInt8:
        return Store(Integer<int8_t>(value), value);
      case DType::kUInt16:
        return Store(Integer<uint16_t>(value), value);
      case DType::kInt16:
        return Store(Integer<int16_t>(value), value);
      case DType::kUInt32:
        return Store(Integer<uint32_t>(value), value);
      case DType::kInt32:
        return Store(Integer<int32_t>(value), value);
      case DType::kUInt64:
        return Store(Integer<uint64_t>(value), value);
      case DType::kInt64:
        return Store(Integer<int64_t>(value), value);
      case DType::kFloat32:
        return Store(Float<float>(value), value);
      case DType::kFloat64:
        return Store(Float<double>(value), value);
      default:
        return absl::InvalidArgumentError(absl::StrCat("input '", tensor_.spec.name, "' is ",
                                                       std::string(DTypeName(tensor_.spec.dtype)),
                                                       ": give it as .npy or .safetensors"));
    }
  }

  template <typename T>
  absl::Status Store(std::optional<T> element, JsonValue::Reader value) {
    if (!element) {
      return absl::InvalidArgumentError(absl::StrCat("element ", count_, " is ", Describe(value),
                                                     ", which is no ",
                                                     std::string(DTypeName(tensor_.spec.dtype))));
    }
    const size_t at = tensor_.bytes.size();
    tensor_.bytes.resize(at + sizeof(T));
    std::memcpy(tensor_.bytes.data() + at, &*element, sizeof(T));
    ++count_;
    return absl::OkStatus();
  }

  HostTensor tensor_;
  uint64_t count_ = 0;
};

}  // namespace

absl::StatusOr<HostTensor> ParseJsonTensor(std::string_view text, const TensorSpec& spec) {
  capnp::MallocMessageBuilder message;
  auto root = message.initRoot<JsonValue>();
  // kj throws for text that is no JSON.
  try {
    capnp::JsonCodec codec;
    codec.setMaxNestingDepth(2 * kMaxRank);
    codec.decodeRaw(kj::ArrayPtr<const char>(text.data(), text.size()), root);
  } catch (const kj::Exception& error) {
    return absl::InvalidArgumentError(
        absl::StrCat("no JSON: ", std::string(error.getDescription().cStr())));
  }
  Parser parser(spec);
  if (absl::Status status = parser.Run(root.asReader()); !status.ok()) return status;
  return parser.Take();
}

}  // namespace baton::shmctl
