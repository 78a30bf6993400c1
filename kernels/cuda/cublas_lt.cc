#include "kernels/cuda/cublas_lt.h"

#include <dlfcn.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <mutex>
#include <system_error>
#include <tuple>

#include "absl/strings/str_cat.h"

#include "kernels/cublaslt/baton_cublaslt.h"
#include "kernels/dense.h"

namespace baton::kernels::cuda {
namespace {

constexpr char kLibrary[] = "libbaton_cublaslt.so";
// Shapes differ by the rows of a batch; a model has few layers and batch sizes.
constexpr size_t kMaxPlans = 1024;
// As far as any algorithm looks.
constexpr uint64_t kMaxAlignment = 256;

uint32_t CommonAlignment(const DenseArgs& args) {
  const uint64_t bits = args.input | args.weights | args.bias | args.output | kMaxAlignment;
  return static_cast<uint32_t>(bits & ~(bits - 1));
}

}  // namespace

struct CublasLt::Library {
  decltype(&baton_cublaslt_abi_version) abi_version = nullptr;
  decltype(&baton_cublaslt_status_text) status_text = nullptr;
  decltype(&baton_cublaslt_create) create = nullptr;
  decltype(&baton_cublaslt_destroy) destroy = nullptr;
  decltype(&baton_cublaslt_plan_create) plan_create = nullptr;
  decltype(&baton_cublaslt_plan_destroy) plan_destroy = nullptr;
  decltype(&baton_cublaslt_run) run = nullptr;
  baton_cublaslt* handle = nullptr;

  absl::Status ToStatus(int result, const char* what) const {
    if (result == 0) return absl::OkStatus();
    const std::string message =
        absl::StrCat("cuBLASLt: ", what, ": ", status_text(result), " (", result, ")");
    return result == BATON_CUBLASLT_NOT_SUPPORTED ? absl::UnimplementedError(message)
                                                  : absl::InternalError(message);
  }
};

struct CublasLt::Plans {
  using Shape = std::tuple<uint64_t, uint64_t, uint64_t, uint32_t, Activation>;

  std::mutex mutex;
  std::map<Shape, baton_cublaslt_plan*> of_shape;  // null: there is no algorithm
};

CublasLt::CublasLt() : library_(std::make_unique<Library>()), plans_(std::make_unique<Plans>()) {}

CublasLt::~CublasLt() {
  for (const auto& [shape, plan] : plans_->of_shape) {
    if (plan != nullptr) library_->plan_destroy(plan);
  }
  if (library_->handle != nullptr) library_->destroy(library_->handle);
}

absl::StatusOr<std::unique_ptr<CublasLt>> CublasLt::Load() {
  std::error_code error;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", error);
  const std::filesystem::path beside = program.parent_path() / kLibrary;
  const bool is_beside = !error && std::filesystem::exists(beside, error);
  return LoadFrom(is_beside ? beside.string() : kLibrary);
}

absl::StatusOr<std::unique_ptr<CublasLt>> CublasLt::LoadFrom(const std::string& path) {
  // Never closed, as the driver is not: it may have threads and exit handlers.
  void* const opened = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (opened == nullptr) {
    const char* const why = ::dlerror();
    return absl::NotFoundError(absl::StrCat(
        "no cuBLASLt (", why == nullptr ? path : std::string(why),
        "): dense layers run on Baton's own kernel. For speed, build Baton where the CUDA toolkit "
        "has cublasLt.h, and install libcublasLt beside it"));
  }
  std::unique_ptr<CublasLt> made(new CublasLt);
  Library& library = *made->library_;
  const char* missing = nullptr;
  const auto resolve = [&](auto* member, const char* symbol) {
    *member = reinterpret_cast<std::remove_pointer_t<decltype(member)>>(::dlsym(opened, symbol));
    if (*member == nullptr) missing = symbol;
  };
  resolve(&library.abi_version, "baton_cublaslt_abi_version");
  resolve(&library.status_text, "baton_cublaslt_status_text");
  resolve(&library.create, "baton_cublaslt_create");
  resolve(&library.destroy, "baton_cublaslt_destroy");
  resolve(&library.plan_create, "baton_cublaslt_plan_create");
  resolve(&library.plan_destroy, "baton_cublaslt_plan_destroy");
  resolve(&library.run, "baton_cublaslt_run");
  if (missing != nullptr) {
    return absl::FailedPreconditionError(absl::StrCat(
        path, " lacks ", missing, ": it is of another version of Baton. Install both anew"));
  }
  if (const uint32_t version = library.abi_version(); version != BATON_CUBLASLT_ABI_VERSION) {
    return absl::FailedPreconditionError(absl::StrCat(path, " has interface version ", version,
                                                      ", not ", BATON_CUBLASLT_ABI_VERSION,
                                                      ". Install it and Baton anew"));
  }
  if (const int result = library.create(&library.handle); result != 0) {
    library.handle = nullptr;
    return absl::InternalError(
        absl::StrCat("cuBLASLt does not start: ", library.status_text(result), " (", result,
                     "). Dense layers run on Baton's own kernel"));
  }
  return made;
}

absl::Status CublasLt::Dense(const DenseArgs& args, ipc::cuda::Stream stream) const {
  const uint32_t alignment = CommonAlignment(args);
  const Plans::Shape key(args.rows, args.inputs, args.outputs, alignment, args.activation);
  const baton_cublaslt_plan* plan = nullptr;
  {
    const std::lock_guard lock(plans_->mutex);
    auto at = plans_->of_shape.find(key);
    if (at == plans_->of_shape.end()) {
      if (plans_->of_shape.size() >= kMaxPlans) {
        return absl::UnimplementedError("cuBLASLt: too many shapes, no plan is made for another");
      }
      const baton_cublaslt_shape shape = {.rows = args.rows,
                                          .inputs = args.inputs,
                                          .outputs = args.outputs,
                                          .weights_stride = PaddedColumns(args.outputs),
                                          .alignment_bytes = alignment,
                                          .relu = args.activation == Activation::kRelu ? 1u : 0u};
      baton_cublaslt_plan* made = nullptr;
      const int result = library_->plan_create(library_->handle, &shape, &made);
      if (result != 0 && result != BATON_CUBLASLT_NOT_SUPPORTED) {
        return library_->ToStatus(result, "choosing an algorithm");
      }
      at = plans_->of_shape.emplace(key, result == 0 ? made : nullptr).first;
    }
    plan = at->second;
  }
  if (plan == nullptr) {
    return library_->ToStatus(BATON_CUBLASLT_NOT_SUPPORTED, "choosing an algorithm");
  }
  const baton_cublaslt_addresses addresses = {
      .input = args.input, .weights = args.weights, .bias = args.bias, .output = args.output};
  return library_->ToStatus(library_->run(plan, &addresses, stream), "the product");
}

}  // namespace baton::kernels::cuda
