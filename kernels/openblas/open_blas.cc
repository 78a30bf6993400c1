#include "kernels/openblas/open_blas.h"

#include <dlfcn.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <system_error>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace baton::kernels {
namespace {

constexpr char kLibrary[] = "libbaton_openblas.so";
// Where the two cross, as DESIGN.md has it.
constexpr size_t kFewestRows = 16;
constexpr size_t kFewestOutputs = 32;
constexpr size_t kFewestWeights = 128 * 128;

// Has OpenBLAS take its workspace, which it keeps: not in the first request. Too large for what it
// computes without one.
void TakeWorkspace(const OpenBlas& open_blas) {
  constexpr size_t kSize = 256;
  const std::vector<float> zeros(kSize * kSize);
  std::vector<float> output(kSize * kSize);
  open_blas.MatMulBias({.input = zeros.data(),
                        .weights = zeros.data(),
                        .bias = zeros.data(),
                        .output = output.data(),
                        .rows = kSize,
                        .inputs = kSize,
                        .outputs = kSize});
}

template <typename Function>
Function* Resolve(void* library, const char* symbol) {
  return reinterpret_cast<Function*>(::dlsym(library, symbol));
}

}  // namespace

bool OpenBlas::Pays(size_t rows, size_t inputs, size_t outputs) {
  constexpr size_t kMost = std::numeric_limits<int32_t>::max();
  return rows >= kFewestRows && outputs >= kFewestOutputs && rows <= kMost && inputs <= kMost &&
         outputs <= kMost - kDenseLane && inputs * outputs >= kFewestWeights;
}

absl::StatusOr<std::unique_ptr<OpenBlas>> OpenBlas::Load() {
  std::error_code error;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", error);
  const std::filesystem::path beside = program.parent_path() / kLibrary;
  const bool is_beside = !error && std::filesystem::exists(beside, error);
  return LoadFrom(is_beside ? beside.string() : kLibrary);
}

absl::StatusOr<std::unique_ptr<OpenBlas>> OpenBlas::LoadFrom(const std::string& path) {
  // Never closed: OpenBLAS keeps a workspace for the whole process.
  void* const library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const char* const why = ::dlerror();
    return absl::NotFoundError(absl::StrCat(
        "no OpenBLAS (", why == nullptr ? path : std::string(why),
        "): dense layers run on Baton's own kernel. For speed, build Baton where OpenBLAS without "
        "threads is installed (Debian: libopenblas-serial-dev)"));
  }
  const auto version =
      Resolve<decltype(baton_openblas_abi_version)>(library, "baton_openblas_abi_version");
  const auto has_threads =
      Resolve<decltype(baton_openblas_has_threads)>(library, "baton_openblas_has_threads");
  const auto multiply =
      Resolve<decltype(baton_openblas_multiply)>(library, "baton_openblas_multiply");
  if (version == nullptr || has_threads == nullptr || multiply == nullptr ||
      version() != BATON_OPENBLAS_ABI_VERSION) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, " is of another version of Baton. Install both anew"));
  }
  if (has_threads() != 0) {
    return absl::FailedPreconditionError(absl::StrCat(
        path,
        " has an OpenBLAS that runs threads of its own. Build Baton where the one without is "
        "installed (Debian: libopenblas-serial-dev)"));
  }
  std::unique_ptr<OpenBlas> made(new OpenBlas(multiply));
  TakeWorkspace(*made);
  return made;
}

void OpenBlas::MatMulBias(const MatMulBiasArgs& args) const {
  for (size_t row = 0; row < args.rows; ++row) {
    std::copy_n(args.bias, args.outputs, args.output + row * args.outputs);
  }
  multiply_(args.input, args.weights, args.output, static_cast<int32_t>(args.rows),
            static_cast<int32_t>(args.inputs), static_cast<int32_t>(args.outputs),
            static_cast<int32_t>(PaddedColumns(args.outputs)));
}

}  // namespace baton::kernels
