#include "tools/shmctl/input_file.h"

#include <filesystem>
#include <fstream>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "loader/npy.h"
#include "loader/safetensors.h"
#include "tools/shmctl/exit_code.h"
#include "tools/shmctl/json_tensor.h"

namespace baton::shmctl {
namespace {

constexpr size_t kMaxJsonBytes = 16 << 20;

std::string SpecList(const std::vector<TensorSpec>& specs) {
  return absl::StrJoin(specs, ", ", [](std::string* out, const TensorSpec& spec) {
    absl::StrAppend(out, ToString(spec));
  });
}

absl::StatusOr<TensorSpec> FindInput(const std::string& name, const Signature& signature) {
  for (const TensorSpec& spec : signature.inputs) {
    if (spec.name == name) return spec;
  }
  return absl::InvalidArgumentError(absl::StrCat("the model has no input '", name,
                                                 "': its inputs are ", SpecList(signature.inputs)));
}

absl::StatusOr<HostTensor> LoadNpyInput(const InputArgument& argument) {
  absl::StatusOr<loader::NpyArray> array = loader::LoadNpy(argument.path);
  if (!array.ok()) return array.status();
  return HostTensor{{argument.name, array->dtype, array->shape}, std::move(array->bytes)};
}

absl::StatusOr<HostTensor> LoadSafetensorsInput(const InputArgument& argument) {
  absl::StatusOr<loader::SafetensorsFile> file = loader::SafetensorsFile::Open(argument.path);
  if (!file.ok()) return file.status();
  const loader::StoredTensor* stored = nullptr;
  if (file->tensors().size() == 1) {
    stored = &file->tensors().front();
  } else {
    absl::StatusOr<const loader::StoredTensor*> found = file->Find(argument.name);
    if (!found.ok()) return found.status();
    stored = *found;
  }
  const std::optional<uint64_t> bytes = TensorBytes(stored->spec.dtype, stored->spec.shape);
  if (!bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(argument.path, ": tensor ", ToString(stored->spec), " is too large"));
  }
  HostTensor tensor{stored->spec, std::vector<std::byte>(*bytes)};
  tensor.spec.name = argument.name;
  if (absl::Status status = file->Read(*stored, tensor.bytes); !status.ok()) return status;
  return tensor;
}

absl::StatusOr<HostTensor> LoadJsonInput(const InputArgument& argument, const TensorSpec& spec) {
  std::ifstream in(argument.path, std::ios::binary);
  if (!in) return absl::NotFoundError(absl::StrCat("cannot open ", argument.path));
  std::string text;
  char chunk[65536];
  while (text.size() <= kMaxJsonBytes && (in.read(chunk, sizeof(chunk)) || in.gcount() > 0)) {
    text.append(chunk, static_cast<size_t>(in.gcount()));
  }
  if (text.size() > kMaxJsonBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(argument.path, " is larger than ", kMaxJsonBytes, " bytes: write it as .npy"));
  }
  absl::StatusOr<HostTensor> tensor = ParseJsonTensor(text, spec);
  if (tensor.ok()) return tensor;
  return absl::Status(tensor.status().code(),
                      absl::StrCat(argument.path, ": ", std::string(tensor.status().message())));
}

}  // namespace

absl::StatusOr<InputArgument> ParseInputArgument(std::string_view argument) {
  const size_t split = argument.find('=');
  if (split == std::string_view::npos || split == 0 || split + 1 == argument.size()) {
    return UsageError(absl::StrCat("'", std::string(argument), "'",
                                   ": write name=FILE, with a .npy, .safetensors or .json file"));
  }
  return InputArgument{std::string(argument.substr(0, split)),
                       std::string(argument.substr(split + 1))};
}

absl::StatusOr<HostTensor> LoadInput(const InputArgument& argument, const Signature& signature) {
  absl::StatusOr<TensorSpec> spec = FindInput(argument.name, signature);
  if (!spec.ok()) return spec.status();
  const std::string kind = std::filesystem::path(argument.path).extension().string();
  if (kind == ".npy") return LoadNpyInput(argument);
  if (kind == ".safetensors") return LoadSafetensorsInput(argument);
  if (kind == ".json") return LoadJsonInput(argument, *spec);
  return absl::InvalidArgumentError(
      absl::StrCat("cannot tell what ", argument.path, " is: name it .npy, .safetensors or .json"));
}

absl::StatusOr<std::vector<HostTensor>> LoadInputs(std::span<const std::string> arguments,
                                                   const Signature& signature) {
  std::vector<HostTensor> tensors;
  std::set<std::string> names;
  for (const std::string& text : arguments) {
    absl::StatusOr<InputArgument> argument = ParseInputArgument(text);
    if (!argument.ok()) return argument.status();
    if (!names.insert(argument->name).second) {
      return UsageError(
          absl::StrCat("input '", argument->name, "' is given twice: give each one once"));
    }
    absl::StatusOr<HostTensor> tensor = LoadInput(*argument, signature);
    if (!tensor.ok()) return tensor.status();
    tensors.push_back(*std::move(tensor));
  }
  return tensors;
}

}  // namespace baton::shmctl
