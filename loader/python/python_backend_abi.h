// What libbaton_python.so exports. It is opened by name, so that only a worker
// of a Python model needs Python: the program and the library are of one build.
#ifndef BATON_LOADER_PYTHON_PYTHON_BACKEND_ABI_H_
#define BATON_LOADER_PYTHON_PYTHON_BACKEND_ABI_H_

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"

#include "loader/model.h"
#include "loader/model_config.h"

namespace baton::python {

inline constexpr char kLibraryName[] = "libbaton_python.so";

// Another number in the library: of another build.
inline constexpr uint64_t kBackendVersion = 1 << 16 | sizeof(loader::ModelConfig);

// extern "C" uint64_t baton_python_version(void)
inline constexpr char kVersionSymbol[] = "baton_python_version";
using VersionFunction = uint64_t (*)();

// extern "C" void baton_python_stage(const ModelConfig&, StagedModel*)
inline constexpr char kStageSymbol[] = "baton_python_stage";
using StagedModel = absl::StatusOr<std::unique_ptr<loader::Model>>;
using StageFunction = void (*)(const loader::ModelConfig& config, StagedModel* model);

}  // namespace baton::python

#endif  // BATON_LOADER_PYTHON_PYTHON_BACKEND_ABI_H_
