#include "loader/native/native_library.h"

#include <dlfcn.h>
#include <unistd.h>

#include <cstddef>
#include <cstring>
#include <set>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace baton::loader {
namespace {

std::string Version(uint32_t version) { return absl::StrCat(version >> 16, ".", version & 0xffff); }

// What the last dl call complains about, without the path where it starts with it.
std::string DlError(const std::string& path) {
  const char* error = ::dlerror();
  std::string text = error == nullptr ? "unknown error" : error;
  if (text.starts_with(path + ": ")) text = text.substr(path.size() + 2);
  return text;
}

// Entry `index` of an array whose entries begin with their size, that of the first one.
template <typename Entry>
const Entry& At(const Entry* array, uint32_t index) {
  return *reinterpret_cast<const Entry*>(reinterpret_cast<const char*>(array) +
                                         size_t{index} * array->struct_size);
}

std::string TextOf(const char* text) { return text == nullptr ? "" : text; }

absl::Status ReadSpecs(const std::string& path, const char* kind, const BatonTensorSpec* specs,
                       uint32_t count, std::vector<TensorSpec>& to) {
  const auto bad = [&](uint32_t index, const std::string& what) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": signature: ", kind, " ", index, ": ", what));
  };
  if (count > kMaxTensors) return bad(count, absl::StrCat("more than ", kMaxTensors));
  if (count > 0 && specs == nullptr) return bad(0, "is not there");
  std::set<std::string> names;
  for (uint32_t i = 0; i < count; ++i) {
    const BatonTensorSpec& spec = specs[i];
    if (spec.name == nullptr || spec.name[0] == '\0' || std::strlen(spec.name) > kMaxNameBytes) {
      return bad(i, absl::StrCat("needs a name of at most ", kMaxNameBytes, " bytes"));
    }
    const std::string shown = absl::Utf8SafeCEscape(spec.name);
    if (!names.insert(spec.name).second) return bad(i, absl::StrCat("another is '", shown, "'"));
    if (spec.dtype > kMaxDType || DTypeBytes(static_cast<DType>(spec.dtype)) == 0) {
      return bad(i, absl::StrCat("'", shown, "' has the unknown dtype ", spec.dtype));
    }
    if (spec.rank > kMaxRank || (spec.rank > 0 && spec.shape == nullptr)) {
      return bad(i, absl::StrCat("'", shown, "' has more than ", kMaxRank, " dimensions"));
    }
    TensorSpec& read = to.emplace_back();
    read.name = spec.name;
    read.dtype = static_cast<DType>(spec.dtype);
    if (spec.rank > 0) read.shape.assign(spec.shape, spec.shape + spec.rank);
    for (int64_t dim : read.shape) {
      if (dim < kDynamicDim) return bad(i, absl::StrCat("'", shown, "' has a dimension of ", dim));
    }
  }
  return absl::OkStatus();
}

absl::Status ReadParameters(const std::string& path, const char* kind,
                            const BatonParameter* parameters, uint32_t count,
                            std::vector<TensorSpec>& to) {
  if (count > kMaxTensors || (count > 0 && parameters == nullptr) ||
      (count > 0 && parameters->struct_size < sizeof(BatonParameter))) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": ", count, " ", kind, "s are not there, or more than ", kMaxTensors));
  }
  std::vector<BatonTensorSpec> specs;
  for (uint32_t i = 0; i < count; ++i) specs.push_back(At(parameters, i).spec);
  if (absl::Status read = ReadSpecs(path, kind, specs.data(), count, to); !read.ok()) return read;
  for (uint32_t i = 0; i < count; ++i) {
    const BatonParameter& parameter = At(parameters, i);
    if (parameter.content > kMaxContent) {
      return absl::InvalidArgumentError(absl::StrCat(
          path, ": ", kind, " '", to[i].name, "' has the unknown content ", parameter.content));
    }
    to[i].content = static_cast<Content>(parameter.content);
    to[i].optional = (parameter.flags & BATON_PARAMETER_OPTIONAL) != 0;
    to[i].streamed = (parameter.flags & BATON_PARAMETER_STREAMED) != 0;
    to[i].type_text = TextOf(parameter.type_text);
    to[i].default_text = TextOf(parameter.default_text);
  }
  return absl::OkStatus();
}

}  // namespace

bool HasMethods(const BatonModelApi& api) {
  constexpr size_t kNeeded = offsetof(BatonModelApi, end_stream) + sizeof(api.end_stream);
  return api.struct_size >= kNeeded && api.methods != nullptr && api.max_streams != nullptr &&
         api.run_method != nullptr && api.start_stream != nullptr && api.next != nullptr &&
         api.end_stream != nullptr;
}

absl::StatusOr<std::vector<Method>> ReadMethods(const std::string& path, const BatonMethod* methods,
                                                uint32_t count) {
  if (count > kMaxMethods ||
      (count > 0 && (methods == nullptr || methods->struct_size < sizeof(BatonMethod)))) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": ", count, " methods are not there, or more than ", kMaxMethods));
  }
  std::vector<Method> read;
  for (uint32_t i = 0; i < count; ++i) {
    const BatonMethod& from = At(methods, i);
    Method& method = read.emplace_back();
    method.name = TextOf(from.name);
    method.doc = TextOf(from.doc);
    method.streams_inputs = (from.flags & BATON_METHOD_STREAMS_INPUTS) != 0;
    method.streams_outputs = (from.flags & BATON_METHOD_STREAMS_OUTPUTS) != 0;
    absl::Status status =
        ReadParameters(path, "input", from.inputs, from.input_count, method.signature.inputs);
    if (status.ok()) {
      status =
          ReadParameters(path, "output", from.outputs, from.output_count, method.signature.outputs);
    }
    if (!status.ok()) return status;
  }
  return read;
}

absl::Status CheckModelApi(const std::string& path, const BatonModelApi* api) {
  const std::string ours = absl::StrCat("; this Baton has ", Version(BATON_MODEL_ABI_VERSION),
                                        ": build the library against its headers");
  if (api == nullptr) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, ": refuses this version of the model ABI", ours));
  }
  if (api->abi_version >> 16 != BATON_MODEL_ABI_MAJOR) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, ": made for model ABI ", Version(api->abi_version), ours));
  }
  // All functions of version 1.0; later ones come after these.
  constexpr size_t kNeeded = offsetof(BatonModelApi, cleanup) + sizeof(api->cleanup);
  if (api->struct_size < kNeeded) {
    return absl::FailedPreconditionError(absl::StrCat(
        path, ": its table of functions has ", api->struct_size, " bytes, not ", kNeeded, ours));
  }
  if (api->stage == nullptr || api->destroy == nullptr || api->signature == nullptr ||
      api->device_bytes == nullptr || api->upload == nullptr || api->run == nullptr ||
      api->cleanup == nullptr) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, ": its table of functions has an empty entry"));
  }
  return absl::OkStatus();
}

absl::StatusOr<const BatonModelApi*> OpenNativeLibrary(const std::string& path) {
  if (::access(path.c_str(), R_OK) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat(path, ": cannot read the model's library"));
  }
  void* library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": cannot be opened as a shared library: ", DlError(path)));
  }
  void* symbol = ::dlsym(library, BATON_MODEL_API_SYMBOL);
  if (symbol == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat(
        path, ": exports no function ", BATON_MODEL_API_SYMBOL,
        "; write BATON_REGISTER_MODEL(YourModel) in one of its sources (baton/model.h)"));
  }
  const auto function = reinterpret_cast<BatonModelApiFunction>(symbol);
  const BatonModelApi* api = function(BATON_MODEL_ABI_VERSION);
  absl::Status checked = CheckModelApi(path, api);
  if (!checked.ok()) return checked;
  return api;
}

absl::StatusOr<Signature> ReadSignature(const std::string& path, const BatonSignature* signature) {
  if (signature == nullptr || signature->struct_size < sizeof(BatonSignature)) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": gives no signature"));
  }
  Signature read;
  absl::Status status =
      ReadSpecs(path, "input", signature->inputs, signature->input_count, read.inputs);
  if (status.ok()) {
    status = ReadSpecs(path, "output", signature->outputs, signature->output_count, read.outputs);
  }
  if (!status.ok()) return status;
  if (read.outputs.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": signature: has no output"));
  }
  return read;
}

}  // namespace baton::loader
