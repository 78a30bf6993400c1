#include "ipc/schema_convert.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

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
  if (from.getDtype() == 0 || from.getDtype() > kMaxDType) {
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
    if (dim < kDynamicDim) {
      return absl::InvalidArgumentError(
          absl::StrCat("tensor '", spec.name, "' of a signature has a dimension of ", dim));
    }
    spec.shape.push_back(dim);
  }
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
  return signature;
}

}  // namespace baton::ipc
