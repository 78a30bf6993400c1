#include "tools/shmctl/output_files.h"

#include <filesystem>
#include <set>
#include <system_error>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "loader/npy.h"
#include "loader/safetensors.h"

namespace baton::shmctl {
namespace {

// Far below what a file system allows, with room for a number and an ending.
constexpr size_t kMaxStemBytes = 200;

std::string SafeStem(std::string_view name) {
  std::string stem(name.substr(0, kMaxStemBytes));
  for (char& c : stem) {
    const bool plain = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
                       c == '_' || c == '-' || c == '.';
    if (!plain) c = '_';
  }
  if (stem.empty() || stem[0] == '.') stem.insert(0, 1, '_');
  return stem;
}

}  // namespace

std::vector<std::string> OutputFileNames(std::span<const TensorView> outputs) {
  std::vector<std::string> names;
  std::set<std::string> taken;
  for (const TensorView& output : outputs) {
    const std::string stem = SafeStem(output.name);
    std::string name = stem;
    for (int i = 2; !taken.insert(name).second; ++i) name = absl::StrCat(stem, "-", i);
    names.push_back(name);
  }
  return names;
}

absl::StatusOr<std::vector<std::string>> WriteOutputs(std::span<const TensorView> outputs,
                                                      const std::string& directory) {
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error) {
    return absl::FailedPreconditionError(absl::StrCat(
        "cannot make ", directory, ": ", error.message(), ": give another --output-dir"));
  }
  std::vector<std::string> paths = OutputFileNames(outputs);
  for (size_t i = 0; i < outputs.size(); ++i) {
    const TensorView& output = outputs[i];
    const std::string path = absl::StrCat(directory, "/", paths[i]);
    absl::Status status;
    if (output.dtype == DType::kBFloat16) {
      paths[i] = path + ".safetensors";
      const loader::TensorToSave tensor = {
          {std::string(output.name), output.dtype, {output.shape.begin(), output.shape.end()}},
          output.bytes};
      status = loader::SaveSafetensors(paths[i], {&tensor, 1});
    } else {
      paths[i] = path + ".npy";
      status = loader::SaveNpy(paths[i], output.dtype, output.shape, output.bytes);
    }
    if (!status.ok()) return status;
  }
  return paths;
}

}  // namespace baton::shmctl
