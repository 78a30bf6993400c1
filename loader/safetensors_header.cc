#include "loader/safetensors_header.h"

#include <algorithm>
#include <cmath>
#include <exception>
#include <set>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "capnp/compat/json.h"
#include "capnp/message.h"
#include "kj/exception.h"

namespace baton::loader {
namespace {

using ::capnp::JsonValue;

constexpr char kMetadataKey[] = "__metadata__";
// Object, tensor, shape: no deeper, so that a header of brackets ends early.
constexpr size_t kMaxNesting = 8;
constexpr double kMaxExactInteger = 9007199254740992.0;  // 2^53: JSON numbers are doubles

constexpr struct {
  const char* name;
  DType dtype;
} kDTypes[] = {{"BOOL", DType::kBool},   {"U8", DType::kUInt8},      {"I8", DType::kInt8},
               {"U16", DType::kUInt16},  {"I16", DType::kInt16},     {"U32", DType::kUInt32},
               {"I32", DType::kInt32},   {"U64", DType::kUInt64},    {"I64", DType::kInt64},
               {"F16", DType::kFloat16}, {"BF16", DType::kBFloat16}, {"F32", DType::kFloat32},
               {"F64", DType::kFloat64}};

std::string Text(::capnp::Text::Reader text) { return std::string(text.begin(), text.size()); }

absl::Status TensorError(const std::string& name, const std::string& message) {
  return absl::InvalidArgumentError(
      absl::StrCat("tensor '", absl::Utf8SafeCEscape(name), "': ", message));
}

// A number that counts something; nullopt for anything else.
std::optional<uint64_t> Count(JsonValue::Reader value) {
  if (!value.isNumber()) return std::nullopt;
  const double number = value.getNumber();
  if (!(number >= 0) || number >= kMaxExactInteger || number != std::floor(number)) {
    return std::nullopt;
  }
  return static_cast<uint64_t>(number);
}

absl::Status ReadDType(JsonValue::Reader value, StoredTensor& tensor) {
  const std::string name = value.isString() ? Text(value.getString()) : "";
  for (const auto& entry : kDTypes) {
    if (name == entry.name) tensor.spec.dtype = entry.dtype;
  }
  if (tensor.spec.dtype != DType::kInvalid) return absl::OkStatus();
  std::vector<std::string> names;
  for (const auto& entry : kDTypes) names.emplace_back(entry.name);
  return TensorError(tensor.spec.name, absl::StrCat("dtype '", absl::Utf8SafeCEscape(name),
                                                    "' is none of ", absl::StrJoin(names, ", ")));
}

absl::Status ReadShape(JsonValue::Reader value, StoredTensor& tensor) {
  if (!value.isArray()) return TensorError(tensor.spec.name, "shape is not a list");
  if (value.getArray().size() > kMaxRank) {
    return TensorError(tensor.spec.name, absl::StrCat("has more than ", kMaxRank, " dimensions"));
  }
  for (JsonValue::Reader dim : value.getArray()) {
    const std::optional<uint64_t> size = Count(dim);
    if (!size) return TensorError(tensor.spec.name, "shape has an entry that is no size");
    tensor.spec.shape.push_back(static_cast<int64_t>(*size));
  }
  return absl::OkStatus();
}

absl::Status ReadOffsets(JsonValue::Reader value, uint64_t data_bytes, StoredTensor& tensor) {
  if (!value.isArray() || value.getArray().size() != 2) {
    return TensorError(tensor.spec.name, "data_offsets is not [begin, end]");
  }
  const std::optional<uint64_t> begin = Count(value.getArray()[0]);
  const std::optional<uint64_t> end = Count(value.getArray()[1]);
  if (!begin || !end || *begin > *end) {
    return TensorError(tensor.spec.name, "data_offsets is not [begin, end] with begin <= end");
  }
  if (*end > data_bytes) {
    return TensorError(tensor.spec.name,
                       absl::StrCat("ends at byte ", *end, " of the data, which has ", data_bytes,
                                    " (is the file cut?)"));
  }
  tensor.offset = *begin;
  tensor.bytes = *end - *begin;
  return absl::OkStatus();
}

absl::StatusOr<StoredTensor> ReadTensor(std::string name, JsonValue::Reader value,
                                        uint64_t data_bytes) {
  StoredTensor tensor;
  tensor.spec.name = std::move(name);
  if (!value.isObject()) return TensorError(tensor.spec.name, "is not described by an object");
  std::set<std::string> seen;
  for (JsonValue::Field::Reader field : value.getObject()) {
    const std::string key = Text(field.getName());
    if (!seen.insert(key).second) return TensorError(tensor.spec.name, key + " is given twice");
    absl::Status read;
    if (key == "dtype") {
      read = ReadDType(field.getValue(), tensor);
    } else if (key == "shape") {
      read = ReadShape(field.getValue(), tensor);
    } else if (key == "data_offsets") {
      read = ReadOffsets(field.getValue(), data_bytes, tensor);
    } else {
      read = TensorError(tensor.spec.name,
                         absl::StrCat("unknown key '", absl::Utf8SafeCEscape(key), "'"));
    }
    if (!read.ok()) return read;
  }
  if (seen.size() != 3) {
    return TensorError(tensor.spec.name, "needs dtype, shape and data_offsets");
  }
  const std::optional<uint64_t> bytes = TensorBytes(tensor.spec.dtype, tensor.spec.shape);
  if (!bytes || *bytes != tensor.bytes) {
    return TensorError(tensor.spec.name,
                       absl::StrCat("has ", tensor.bytes, " bytes, but ", ToString(tensor.spec),
                                    " takes ", bytes ? absl::StrCat(*bytes) : "too many"));
  }
  return tensor;
}

absl::Status ReadMetadata(JsonValue::Reader value, std::map<std::string, std::string>& metadata) {
  if (!value.isObject()) return absl::InvalidArgumentError("__metadata__ is not an object");
  for (JsonValue::Field::Reader field : value.getObject()) {
    const std::string key = Text(field.getName());
    if (!field.getValue().isString()) {
      return absl::InvalidArgumentError(
          absl::StrCat("__metadata__: '", absl::Utf8SafeCEscape(key), "' is not a string"));
    }
    if (!metadata.emplace(key, Text(field.getValue().getString())).second) {
      return absl::InvalidArgumentError(
          absl::StrCat("__metadata__: '", absl::Utf8SafeCEscape(key), "' is given twice"));
    }
  }
  return absl::OkStatus();
}

// Tensors cover the data from its first byte to its last. `tensors` are in
// order of their offsets.
absl::Status CheckCover(const std::vector<StoredTensor>& tensors, uint64_t data_bytes) {
  uint64_t end = 0;
  const std::string* before = nullptr;
  for (const StoredTensor& tensor : tensors) {
    if (tensor.offset < end) {
      return TensorError(tensor.spec.name,
                         absl::StrCat("overlaps tensor '", absl::Utf8SafeCEscape(*before), "'"));
    }
    if (tensor.offset > end) {
      return TensorError(tensor.spec.name, absl::StrCat("starts at byte ", tensor.offset,
                                                        ", leaving a gap from byte ", end));
    }
    end += tensor.bytes;
    before = &tensor.spec.name;
  }
  if (end == data_bytes) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("tensors end at byte ", end, " of the data, which has ", data_bytes));
}

absl::StatusOr<SafetensorsHeader> ReadDocument(JsonValue::Reader document, uint64_t data_bytes) {
  if (!document.isObject()) return absl::InvalidArgumentError("the header is not a JSON object");
  SafetensorsHeader header;
  std::set<std::string> names;
  for (JsonValue::Field::Reader field : document.getObject()) {
    std::string name = Text(field.getName());
    if (!names.insert(name).second) return TensorError(name, "is given twice");
    if (name == kMetadataKey) {
      absl::Status read = ReadMetadata(field.getValue(), header.metadata);
      if (!read.ok()) return read;
      continue;
    }
    absl::StatusOr<StoredTensor> tensor = ReadTensor(std::move(name), field.getValue(), data_bytes);
    if (!tensor.ok()) return tensor.status();
    header.tensors.push_back(*std::move(tensor));
  }
  std::sort(header.tensors.begin(), header.tensors.end(),
            [](const StoredTensor& a, const StoredTensor& b) {
              return std::pair(a.offset, a.bytes) < std::pair(b.offset, b.bytes);
            });
  absl::Status covered = CheckCover(header.tensors, data_bytes);
  if (!covered.ok()) return covered;
  return header;
}

std::string Quoted(const std::string& text) {
  ::capnp::MallocMessageBuilder message;
  auto value = message.initRoot<JsonValue>();
  value.setString(text);
  const kj::String json = ::capnp::JsonCodec().encodeRaw(value);
  return std::string(json.begin(), json.size());
}

std::string FormatTensor(const StoredTensor& tensor) {
  std::string dtype;
  for (const auto& entry : kDTypes) {
    if (entry.dtype == tensor.spec.dtype) dtype = entry.name;
  }
  // By hand: the codec would write large numbers as 1e6, which other readers of
  // the format refuse.
  return absl::StrCat(Quoted(tensor.spec.name), ":{\"dtype\":\"", dtype, "\",\"shape\":[",
                      absl::StrJoin(tensor.spec.shape, ","), "],\"data_offsets\":[", tensor.offset,
                      ",", tensor.offset + tensor.bytes, "]}");
}

}  // namespace

absl::StatusOr<SafetensorsHeader> ParseSafetensorsHeader(std::string_view json,
                                                         uint64_t data_bytes) {
  if (!json.starts_with('{')) {
    return absl::InvalidArgumentError("the header does not start with '{'");
  }
  try {
    ::capnp::MallocMessageBuilder message;
    auto document = message.initRoot<JsonValue>();
    ::capnp::JsonCodec codec;
    codec.setMaxNestingDepth(kMaxNesting);
    codec.decodeRaw(kj::arrayPtr(json.data(), json.size()), document);
    return ReadDocument(document.asReader(), data_bytes);
  } catch (const kj::Exception& error) {
    return absl::InvalidArgumentError(
        absl::StrCat("the header is not valid JSON: ", error.getDescription().cStr()));
  } catch (const std::exception& error) {
    return absl::InvalidArgumentError(absl::StrCat("the header cannot be parsed: ", error.what()));
  }
}

absl::StatusOr<std::string> FormatSafetensorsHeader(const SafetensorsHeader& header) {
  std::vector<std::string> parts;
  try {
    std::vector<std::string> metadata;
    for (const auto& [key, value] : header.metadata) {
      metadata.push_back(absl::StrCat(Quoted(key), ":", Quoted(value)));
    }
    if (!metadata.empty()) {
      parts.push_back(absl::StrCat("\"", kMetadataKey, "\":{", absl::StrJoin(metadata, ","), "}"));
    }
    for (const StoredTensor& tensor : header.tensors) parts.push_back(FormatTensor(tensor));
  } catch (const kj::Exception& error) {
    return absl::InvalidArgumentError(
        absl::StrCat("a name cannot be written: ", error.getDescription().cStr()));
  }
  return absl::StrCat("{", absl::StrJoin(parts, ","), "}");
}

}  // namespace baton::loader
