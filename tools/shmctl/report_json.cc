#include "tools/shmctl/report_json.h"

#include <cstdint>
#include <cstdio>
#include <vector>

#include "absl/strings/str_cat.h"
#include "capnp/compat/json.h"

namespace baton::shmctl {
namespace {

namespace schema = ipc::schema;
using JsonValue = capnp::json::Value;

// Shapes as numbers: no dimension comes near 2^53.
class ShapeHandler final : public capnp::JsonCodec::Handler<capnp::List<int64_t>> {
 public:
  void encode(const capnp::JsonCodec&, capnp::List<int64_t>::Reader from,
              JsonValue::Builder to) const override {
    auto array = to.initArray(from.size());
    for (uint32_t i = 0; i < from.size(); ++i) array[i].setNumber(static_cast<double>(from[i]));
  }
  capnp::Orphan<capnp::List<int64_t>> decode(const capnp::JsonCodec&, JsonValue::Reader from,
                                             capnp::Orphanage orphanage) const override {
    const auto array = from.getArray();
    auto orphan = orphanage.newOrphan<capnp::List<int64_t>>(array.size());
    for (uint32_t i = 0; i < array.size(); ++i) {
      orphan.get().set(i, static_cast<int64_t>(array[i].getNumber()));
    }
    return orphan;
  }
};

// The array itself, in place of a struct that says of what it is one.
class ValuesHandler final : public capnp::JsonCodec::Handler<schema::Values> {
 public:
  void encode(const capnp::JsonCodec& codec, schema::Values::Reader from,
              JsonValue::Builder to) const override {
    switch (from.which()) {
      case schema::Values::NUMBERS:
        codec.encode(from.getNumbers(), to);
        break;
      case schema::Values::FLAGS:
        codec.encode(from.getFlags(), to);
        break;
      case schema::Values::INTEGERS:
        Strings(from.getIntegers(), to);
        break;
      case schema::Values::NATURALS:
        Strings(from.getNaturals(), to);
        break;
    }
  }
  void decode(const capnp::JsonCodec&, JsonValue::Reader, schema::Values::Builder) const override {
    // Reports are written, never read.
  }

 private:
  template <typename List>
  static void Strings(const List& from, JsonValue::Builder to) {
    auto array = to.initArray(from.size());
    for (uint32_t i = 0; i < from.size(); ++i) array[i].setString(kj::str(from[i]));
  }
};

bool IsPointer(capnp::Type type) {
  return type.isText() || type.isData() || type.isList() || type.isStruct();
}

void FillDefaults(capnp::DynamicStruct::Builder builder);

void FillField(capnp::DynamicStruct::Builder builder, capnp::StructSchema::Field field) {
  const capnp::Type type = field.getType();
  if (IsPointer(type) && !builder.has(field)) {
    if (type.isText() || type.isData() || type.isList()) {
      builder.init(field, 0);
      return;
    }
    builder.init(field);
  }
  if (type.isStruct()) {
    FillDefaults(builder.get(field).as<capnp::DynamicStruct>());
  } else if (type.isList() && type.asList().getElementType().isStruct()) {
    auto list = builder.get(field).as<capnp::DynamicList>();
    for (uint32_t i = 0; i < list.size(); ++i) FillDefaults(list[i].as<capnp::DynamicStruct>());
  }
}

void FillDefaults(capnp::DynamicStruct::Builder builder) {
  for (const capnp::StructSchema::Field field : builder.getSchema().getNonUnionFields()) {
    FillField(builder, field);
  }
  KJ_IF_MAYBE (field, builder.which()) {
    FillField(builder, *field);
  }
}

}  // namespace

std::string ReportJson(capnp::DynamicStruct::Builder report) {
  FillDefaults(report);
  ShapeHandler shapes;
  ValuesHandler values;
  capnp::JsonCodec codec;
  codec.addTypeHandler(shapes);
  codec.addTypeHandler(values);
  const kj::String json = codec.encode(report.asReader(), report.getSchema());
  return {json.begin(), json.size()};
}

void PrintReport(capnp::DynamicStruct::Builder report) {
  const std::string line = ReportJson(report) + "\n";
  std::fwrite(line.data(), 1, line.size(), stdout);
}

absl::Status ParseReceiptJson(std::string_view line, schema::Receipt::Builder to) {
  // kj throws for text that is no JSON and for values that do not fit.
  try {
    const capnp::JsonCodec codec;
    codec.decode(kj::ArrayPtr<const char>(line.data(), line.size()), to);
  } catch (const kj::Exception& error) {
    return absl::InvalidArgumentError(
        absl::StrCat("no receipt: ", std::string(error.getDescription().cStr())));
  }
  return absl::OkStatus();
}

std::string_view MethodKind(const Method& method) {
  if (method.streams_inputs) return method.streams_outputs ? "bidi-stream" : "client-stream";
  return method.streams_outputs ? "server-stream" : "unary";
}

void WriteMethodTypes(const std::vector<Method>& methods,
                      capnp::List<schema::MethodType>::Builder to) {
  const auto write = [](const std::vector<TensorSpec>& specs,
                        capnp::List<schema::ParameterType>::Builder all) {
    for (uint32_t i = 0; i < all.size(); ++i) {
      schema::ParameterType::Builder parameter = all[i];
      parameter.setName(specs[i].name);
      parameter.setDtype(ToText(DTypeName(specs[i].dtype)));
      auto shape = parameter.initShape(static_cast<uint32_t>(specs[i].shape.size()));
      for (uint32_t d = 0; d < shape.size(); ++d) shape.set(d, specs[i].shape[d]);
      parameter.setContent(ToText(ContentName(specs[i].content)));
      parameter.setOptional(specs[i].optional);
      parameter.setStreamed(specs[i].streamed);
      parameter.setType(specs[i].type_text);
      parameter.setDefault(specs[i].default_text);
    }
  };
  for (uint32_t i = 0; i < to.size(); ++i) {
    const Signature& signature = methods[i].signature;
    to[i].setName(methods[i].name);
    to[i].setKind(ToText(MethodKind(methods[i])));
    to[i].setDoc(methods[i].doc);
    write(signature.inputs, to[i].initInputs(static_cast<uint32_t>(signature.inputs.size())));
    write(signature.outputs, to[i].initOutputs(static_cast<uint32_t>(signature.outputs.size())));
  }
}

void WriteTensorTypes(const std::vector<TensorSpec>& specs,
                      capnp::List<schema::TensorType>::Builder to) {
  for (uint32_t i = 0; i < to.size(); ++i) {
    to[i].setName(specs[i].name);
    to[i].setDtype(ToText(DTypeName(specs[i].dtype)));
    auto shape = to[i].initShape(static_cast<uint32_t>(specs[i].shape.size()));
    for (uint32_t d = 0; d < shape.size(); ++d) shape.set(d, specs[i].shape[d]);
  }
}

}  // namespace baton::shmctl
