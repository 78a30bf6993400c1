#include "loader/python/open_backend.h"

#include <dlfcn.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <system_error>

#include "absl/strings/str_cat.h"

#include "loader/python/python_backend_abi.h"

namespace baton::loader {

#ifndef BATON_HAS_PYTHON

absl::StatusOr<std::unique_ptr<Model>> StagePythonModel(const ModelConfig& config) {
  return absl::UnimplementedError(absl::StrCat(
      config.directory,
      ": needs the loader 'python', but this Baton was built without Python; run tools/setup, then "
      "configure with -DBATON_WITH_PYTHON=ON and build again"));
}

#else

namespace {

std::string LibraryPath() {
  std::error_code error;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", error);
  const std::filesystem::path beside = program.parent_path() / python::kLibraryName;
  if (!error && std::filesystem::exists(beside, error)) return beside.string();
  if (const char* folder = std::getenv("BATON_LIBEXEC_DIR"); folder != nullptr) {
    return (std::filesystem::path(folder) / python::kLibraryName).string();
  }
  return python::kLibraryName;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Model>> StagePythonModel(const ModelConfig& config) {
  const std::string path = LibraryPath();
  void* const library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const char* const why = ::dlerror();
    return absl::UnimplementedError(absl::StrCat(
        config.directory, ": needs the loader 'python', whose library cannot be opened (",
        why == nullptr ? path : why,
        "); install libpython3 and python3-numpy, and Baton's libraries beside its worker"));
  }
  const auto version =
      reinterpret_cast<python::VersionFunction>(::dlsym(library, python::kVersionSymbol));
  const auto stage =
      reinterpret_cast<python::StageFunction>(::dlsym(library, python::kStageSymbol));
  if (version == nullptr || stage == nullptr || version() != python::kBackendVersion) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, " is of another version of Baton; install both anew"));
  }
  python::StagedModel model = absl::InternalError("the Python loader staged nothing");
  stage(config, &model);
  return model;
}

#endif  // BATON_HAS_PYTHON

}  // namespace baton::loader
