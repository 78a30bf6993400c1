#include <exception>
#include <memory>
#include <new>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "loader/backends.h"
#include "loader/batchable.h"
#include "loader/dense/dense_model.h"
#include "loader/model.h"
#include "loader/native/native_model.h"
#include "loader/python/open_backend.h"
#ifdef BATON_HAS_ONNX
#include "loader/onnx/onnx_model.h"
#endif

namespace baton::loader {
namespace {

absl::StatusOr<std::unique_ptr<Model>> Dispatch(const ModelConfig& config) {
  if (config.loader == "native") return StageNativeModel(config);
  if (config.loader == "dense") return StageDenseModel(config);
  if (config.loader == "python") return StagePythonModel(config);
  if (config.loader == "onnx") {
#ifdef BATON_HAS_ONNX
    return StageOnnxModel(config);
#else
    return absl::UnimplementedError(absl::StrCat(
        config.directory,
        ": needs the loader 'onnx', which this build left out because ONNX Runtime was not "
        "found; run tools/setup, then configure with -DBATON_WITH_ONNX=ON and build again"));
#endif
  }
  return absl::InvalidArgumentError(absl::StrCat(config.directory, ": unknown loader '",
                                                 config.loader, "'; known are ",
                                                 absl::StrJoin(BackendNames(), ", ")));
}

}  // namespace

std::vector<Method> MethodsOf(const Model& model) {
  const std::span<const Method> methods = model.methods();
  if (!methods.empty()) return {methods.begin(), methods.end()};
  return {{.name = "predict", .signature = model.signature()}};
}

absl::StatusOr<std::unique_ptr<Model>> StageModel(const ModelConfig& config) {
  try {
    absl::StatusOr<std::unique_ptr<Model>> model = Dispatch(config);
    if (!model.ok()) return model;
    if (absl::Status batching = CheckBatching(config, **model); !batching.ok()) return batching;
    return model;
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError(
        absl::StrCat(config.file, ": not enough host memory to stage it"));
  } catch (const std::exception& error) {
    return absl::InternalError(absl::StrCat(config.file, ": cannot be staged: ", error.what()));
  }
}

}  // namespace baton::loader
