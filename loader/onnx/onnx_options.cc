#include "loader/onnx/onnx_options.h"

#include <string>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace baton::loader {
namespace {

constexpr int kMaxIntraOpThreads = 256;

absl::Status Bad(const ModelConfig& config, const std::string& key, const std::string& value,
                 const std::string& instead) {
  return absl::InvalidArgumentError(absl::StrCat(config.directory, "/config.yaml: onnx.", key,
                                                 ": '", value, "' is not ", instead));
}

absl::Status SetOption(const ModelConfig& config, const std::string& key, const std::string& value,
                       OnnxOptions& options) {
  if (key == "intra_op_threads") {
    if (absl::SimpleAtoi(value, &options.intra_op_threads) && options.intra_op_threads >= 1 &&
        options.intra_op_threads <= kMaxIntraOpThreads) {
      return absl::OkStatus();
    }
    return Bad(config, key, value, absl::StrCat("a number from 1 to ", kMaxIntraOpThreads));
  }
  if (key == "spin" || key == "cpu_arena") {
    bool& flag = key == "spin" ? options.spin : options.cpu_arena;
    if (absl::SimpleAtob(value, &flag)) return absl::OkStatus();
    return Bad(config, key, value, "true or false");
  }
  if (key == "output_shapes") {
    options.shapes_by_input_shapes = value == "by_input_shapes";
    if (options.shapes_by_input_shapes || value == "unknown") return absl::OkStatus();
    return Bad(config, key, value, "by_input_shapes or unknown");
  }
  return absl::InvalidArgumentError(
      absl::StrCat(config.directory, "/config.yaml: onnx.", key,
                   " is no option of the onnx loader; it knows intra_op_threads, spin, cpu_arena "
                   "and output_shapes"));
}

}  // namespace

absl::StatusOr<OnnxOptions> ParseOnnxOptions(const ModelConfig& config) {
  OnnxOptions options;
  for (const auto& [key, value] : config.options) {
    if (absl::Status set = SetOption(config, key, value, options); !set.ok()) return set;
  }
  return options;
}

}  // namespace baton::loader
