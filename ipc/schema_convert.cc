#include "ipc/schema_convert.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "capnp/message.h"
#include "capnp/serialize.h"

namespace baton::ipc {
namespace {

using SpecList = capnp::List<schema::TensorSpec>;

void WriteSpecs(const std::vector<TensorSpec>& specs, SpecList::Builder to) {
  for (unsigned i = 0; i < specs.size(); ++i) {
    schema::TensorSpec::Builder spec = to[i];
    spec.setName(specs[i].name.c_str());
    spec.setDtype(static_cast<uint8_t>(specs[i].dtype));
    auto shape = spec.initShape(static_cast<unsigned>(specs[i].shape.size()));
    for (unsigned d = 0; d < specs[i].shape.size(); ++d) shape.set(d, specs[i].shape[d]);
    spec.setContent(static_cast<uint8_t>(specs[i].content));
    spec.setOptional(specs[i].optional);
    spec.setStreamed(specs[i].streamed);
    if (!specs[i].type_text.empty()) spec.setTypeText(specs[i].type_text.c_str());
    if (!specs[i].default_text.empty()) spec.setDefaultText(specs[i].default_text.c_str());
  }
}

absl::StatusOr<TensorSpec> ReadSpec(schema::TensorSpec::Reader from) {
  TensorSpec spec;
  spec.name = ReadText(from.getName());
  if (spec.name.empty() || spec.name.size() > kMaxNameBytes) {
    return absl::InvalidArgumentError(absl::StrCat("a signature names a tensor with ",
                                                   spec.name.size(), " bytes; 1 to ", kMaxNameBytes,
                                                   " are allowed"));
  }
  const bool any = from.getDtype() == static_cast<uint8_t>(DType::kAny);
  if (!any && (from.getDtype() == 0 || from.getDtype() > kMaxDType)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "tensor '", spec.name, "' of a signature: there is no dtype ", from.getDtype()));
  }
  spec.dtype = static_cast<DType>(from.getDtype());
  if (from.getShape().size() > kMaxRank) {
    return absl::InvalidArgumentError(absl::StrCat("tensor '", spec.name, "' of a signature has ",
                                                   from.getShape().size(),
                                                   " dimensions; the limit is ", kMaxRank));
  }
  for (const int64_t dim : from.getShape()) {
    const bool any_rank = dim == kAnyRank && from.getShape().size() == 1;
    if (dim < kDynamicDim && !any_rank) {
      return absl::InvalidArgumentError(
          absl::StrCat("tensor '", spec.name, "' of a signature has a dimension of ", dim));
    }
    spec.shape.push_back(dim);
  }
  if (from.getContent() > kMaxContent) {
    return absl::InvalidArgumentError(absl::StrCat(
        "tensor '", spec.name, "' of a signature: there is no content ", from.getContent()));
  }
  spec.content = static_cast<Content>(from.getContent());
  spec.optional = from.getOptional();
  spec.streamed = from.getStreamed();
  spec.type_text = ReadText(from.getTypeText());
  spec.default_text = ReadText(from.getDefaultText());
  return spec;
}

absl::Status ReadSpecs(SpecList::Reader from, std::vector<TensorSpec>& to) {
  if (from.size() > kMaxTensors) {
    return absl::InvalidArgumentError(
        absl::StrCat("a signature names ", from.size(), " tensors; the limit is ", kMaxTensors));
  }
  for (const schema::TensorSpec::Reader spec : from) {
    absl::StatusOr<TensorSpec> read = ReadSpec(spec);
    if (!read.ok()) return read.status();
    to.push_back(*std::move(read));
  }
  return absl::OkStatus();
}

}  // namespace

void WriteStatus(const absl::Status& status, schema::Error::Builder to) {
  to.setCode(static_cast<uint32_t>(status.code()));
  const absl::string_view message = status.message();
  size_t size = std::min(message.size(), kMaxErrorBytes);
  // Not inside a UTF-8 sequence: its later bytes all start with the bits 10.
  while (size > 0 && size < message.size() && (message[size] & 0xC0) == 0x80) --size;
  capnp::Text::Builder text = to.initMessage(static_cast<unsigned>(size));
  if (size > 0) std::memcpy(text.begin(), message.data(), size);
}

absl::Status ReadStatus(schema::Error::Reader from) {
  if (from.getCode() == 0) return absl::OkStatus();
  const uint32_t code = from.getCode() <= static_cast<uint32_t>(absl::StatusCode::kUnauthenticated)
                            ? from.getCode()
                            : static_cast<uint32_t>(absl::StatusCode::kUnknown);
  return absl::Status(static_cast<absl::StatusCode>(code), ReadText(from.getMessage()));
}

void WriteSignature(const Signature& signature, schema::Signature::Builder to) {
  WriteSpecs(signature.inputs, to.initInputs(static_cast<unsigned>(signature.inputs.size())));
  WriteSpecs(signature.outputs, to.initOutputs(static_cast<unsigned>(signature.outputs.size())));
}

absl::StatusOr<Signature> ReadSignature(schema::Signature::Reader from) {
  Signature signature;
  if (absl::Status status = ReadSpecs(from.getInputs(), signature.inputs); !status.ok()) {
    return status;
  }
  if (absl::Status status = ReadSpecs(from.getOutputs(), signature.outputs); !status.ok()) {
    return status;
  }
  for (const TensorSpec& output : signature.outputs) {
    if (output.optional) {
      return absl::InvalidArgumentError(absl::StrCat(
          "output '", output.name, "' of a signature is optional; only inputs may be"));
    }
  }
  return signature;
}

void WriteMethods(std::span<const Method> methods, capnp::List<schema::Method>::Builder to) {
  for (unsigned i = 0; i < methods.size(); ++i) {
    schema::Method::Builder method = to[i];
    method.setName(methods[i].name.c_str());
    WriteSignature(methods[i].signature, method.initSignature());
    method.setStreamsInputs(methods[i].streams_inputs);
    method.setStreamsOutputs(methods[i].streams_outputs);
    if (!methods[i].doc.empty()) method.setDoc(methods[i].doc.c_str());
  }
}

absl::StatusOr<std::vector<Method>> ReadMethods(capnp::List<schema::Method>::Reader from) {
  if (from.size() == 0 || from.size() > kMaxMethods) {
    return absl::InvalidArgumentError(
        absl::StrCat("a model has ", from.size(), " methods; 1 to ", kMaxMethods, " are allowed"));
  }
  std::vector<Method> methods;
  for (const schema::Method::Reader each : from) {
    Method method;
    method.name = ReadText(each.getName());
    const bool again = std::any_of(methods.begin(), methods.end(),
                                   [&](const Method& other) { return other.name == method.name; });
    if (method.name.empty() || method.name.size() > kMaxNameBytes || again) {
      return absl::InvalidArgumentError(absl::StrCat(
          "a method's name is '", method.name.substr(0, kMaxNameBytes), "': it needs one of 1 to ",
          kMaxNameBytes, " bytes that no other method has"));
    }
    absl::StatusOr<Signature> signature = ReadSignature(each.getSignature());
    if (!signature.ok()) return signature.status();
    method.signature = *std::move(signature);
    method.streams_inputs = each.getStreamsInputs();
    if (!method.streams_inputs && !InputsOf(method.signature, /*streamed=*/true).empty()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "method '", method.name, "' has a streamed input, and does not stream its inputs"));
    }
    method.streams_outputs = each.getStreamsOutputs();
    method.doc = ReadText(each.getDoc());
    methods.push_back(std::move(method));
  }
  return methods;
}

absl::Status CheckMethods(std::span<const Method> methods) {
  if (methods.empty()) return absl::InvalidArgumentError("a model has 0 methods");
  capnp::MallocMessageBuilder message;
  WriteModel(methods, message.initRoot<schema::Staged>());
  const size_t bytes = capnp::computeSerializedSizeInWords(message) * sizeof(capnp::word);
  if (bytes > kMaxModelBytes) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the model's ", methods.size(), " methods take ", bytes,
                     " bytes to describe, the limit is ", kMaxModelBytes,
                     ": shorten their documentation, or give it fewer methods"));
  }
  return ReadModel(message.getRoot<schema::Staged>().asReader()).status();
}

}  // namespace baton::ipc
