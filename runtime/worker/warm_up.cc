#include "runtime/worker/warm_up.h"

#include <cstring>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

namespace baton::runtime {
namespace {

constexpr std::align_val_t kAlignment{128};
// Larger tensors are not worth the memory that trying them takes.
constexpr uint64_t kMaxTensorBytes = 1ull << 30;

struct AlignedDelete {
  void operator()(std::byte* bytes) const { ::operator delete(bytes, kAlignment); }
};
using AlignedBytes = std::unique_ptr<std::byte, AlignedDelete>;

absl::StatusOr<AlignedBytes> Zeros(const TensorSpec& spec, std::span<const int64_t> shape,
                                   uint64_t* bytes) {
  const std::optional<uint64_t> needed = TensorBytes(spec.dtype, shape);
  if (!needed || *needed > kMaxTensorBytes) {
    return absl::ResourceExhaustedError(absl::StrCat(ToString(spec), " is too large to warm up"));
  }
  *bytes = *needed;
  AlignedBytes zeros(static_cast<std::byte*>(::operator new(*needed, kAlignment)));
  std::memset(zeros.get(), 0, *needed);
  return zeros;
}

// Outputs into memory that nobody reads.
class ScratchSink final : public loader::OutputSink {
 public:
  explicit ScratchSink(const Signature& signature) : signature_(signature) {}

  absl::StatusOr<std::span<std::byte>> Allocate(size_t index,
                                                std::span<const int64_t> shape) override {
    if (index >= signature_.outputs.size()) {
      return absl::InvalidArgumentError(absl::StrCat("there is no output ", index));
    }
    uint64_t bytes = 0;
    absl::StatusOr<AlignedBytes> zeros = Zeros(signature_.outputs[index], shape, &bytes);
    if (!zeros.ok()) return zeros.status();
    memory_.push_back(*std::move(zeros));
    return std::span(memory_.back().get(), bytes);
  }

 private:
  const Signature& signature_;
  std::vector<AlignedBytes> memory_;
};

}  // namespace

absl::Status WarmUp(loader::Model& model) {
  const std::span<const Method> methods = model.methods();
  const bool streams = !methods.empty() && methods.front().streams();
  if (!model.may_warm_up() || streams) return absl::OkStatus();
  const Signature& signature = model.signature();
  std::vector<std::vector<int64_t>> shapes;
  std::vector<AlignedBytes> memory;
  std::vector<TensorView> inputs;
  shapes.reserve(signature.inputs.size());  // the views point into it
  for (const TensorSpec& spec : signature.inputs) {
    std::vector<int64_t>& shape = shapes.emplace_back(spec.shape);
    for (int64_t& dim : shape) {
      if (dim == kDynamicDim) dim = 1;
    }
    if (spec.optional) {
      inputs.emplace_back().name = spec.name;
      continue;
    }
    uint64_t bytes = 0;
    absl::StatusOr<AlignedBytes> zeros = Zeros(spec, shape, &bytes);
    if (!zeros.ok()) return zeros.status();
    inputs.push_back(
        {.name = spec.name, .dtype = spec.dtype, .shape = shape, .bytes = {zeros->get(), bytes}});
    memory.push_back(*std::move(zeros));
  }
  ScratchSink sink(signature);
  if (methods.empty()) return model.Run(inputs, sink);
  loader::CallContext call;
  return model.RunMethod(0, call, inputs, sink);
}

}  // namespace baton::runtime
