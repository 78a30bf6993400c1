#include "ipc/descriptor.h"

#include <capnp/message.h>
#include <capnp/serialize.h>
#include <kj/exception.h>

#include <algorithm>
#include <cstring>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "ipc/channel_layout.h"
#include "ipc/schema/tensor.capnp.h"

namespace baton::ipc {
namespace {

void Fill(capnp::List<schema::Tensor>::Builder list, std::span<const TensorLayout> layouts) {
  for (size_t i = 0; i < layouts.size(); ++i) {
    schema::Tensor::Builder tensor = list[static_cast<unsigned>(i)];
    const TensorLayout& layout = layouts[i];
    tensor.setName(kj::StringPtr(layout.name.c_str(), layout.name.size()));
    tensor.setDtype(static_cast<uint8_t>(layout.dtype));
    auto shape = tensor.initShape(static_cast<unsigned>(layout.shape.size()));
    for (size_t d = 0; d < layout.shape.size(); ++d)
      shape.set(static_cast<unsigned>(d), layout.shape[d]);
    if (layout.on_device) tensor.setRegion(schema::Tensor::Region::DEVICE);
    tensor.setOffset(layout.offset);
    tensor.setBytes(layout.bytes);
  }
}

absl::StatusOr<DescriptorBytes> Flatten(capnp::MessageBuilder& message) {
  const kj::Array<capnp::word> words = capnp::messageToFlatArray(message);
  const kj::ArrayPtr<const kj::byte> bytes = words.asBytes();
  if (bytes.size() > kMaxDescriptorBytes) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the description of the tensors takes ", bytes.size(), " bytes, the limit is ",
                     kMaxDescriptorBytes, ": use fewer tensors or shorter names"));
  }
  const auto* begin = reinterpret_cast<const std::byte*>(bytes.begin());
  return DescriptorBytes(begin, begin + bytes.size());
}

absl::Status Bad(const std::string& name, const std::string& what) {
  return absl::InvalidArgumentError(absl::StrCat("tensor '", name, "': ", what));
}

absl::Status CheckStrides(const std::string& name, capnp::List<int64_t>::Reader strides,
                          const std::vector<int64_t>& shape) {
  if (strides.size() == 0) return absl::OkStatus();
  if (strides.size() != shape.size()) return Bad(name, "strides and shape differ in length");
  int64_t dense = 1;
  for (size_t d = shape.size(); d-- > 0;) {
    if (strides[static_cast<unsigned>(d)] != dense) {
      return Bad(name, "only dense row-major tensors are supported");
    }
    if (__builtin_mul_overflow(dense, shape[d], &dense)) return Bad(name, "strides overflow");
  }
  return absl::OkStatus();
}

// The bytes of a block in each place.
struct BlockBytes {
  uint64_t host = 0;
  uint64_t device = 0;
};

absl::StatusOr<TensorLayout> ParseTensor(schema::Tensor::Reader tensor, const BlockBytes& blocks) {
  TensorLayout layout;
  const capnp::Text::Reader name = tensor.getName();
  if (name.size() == 0 || name.size() > kMaxNameBytes) {
    return absl::InvalidArgumentError(absl::StrCat("a tensor's name has ", name.size(),
                                                   " bytes: 1 to ", kMaxNameBytes, " are allowed"));
  }
  layout.name.assign(name.begin(), name.size());
  if (tensor.getDtype() == 0 || tensor.getDtype() > kMaxDType) {
    return Bad(layout.name, absl::StrCat("dtype ", tensor.getDtype(), " does not exist"));
  }
  layout.dtype = static_cast<DType>(tensor.getDtype());
  const auto shape = tensor.getShape();
  if (shape.size() > kMaxRank) {
    return Bad(layout.name, absl::StrCat(shape.size(), " dimensions, the limit is ", kMaxRank));
  }
  for (const int64_t dim : shape) layout.shape.push_back(dim);
  const std::optional<uint64_t> bytes = TensorBytes(layout.dtype, layout.shape);
  if (!bytes) return Bad(layout.name, "its shape has a negative dimension or overflows");
  if (absl::Status status = CheckStrides(layout.name, tensor.getStrides(), layout.shape);
      !status.ok()) {
    return status;
  }
  layout.on_device = tensor.getRegion() == schema::Tensor::Region::DEVICE;
  if (tensor.getRegion() != schema::Tensor::Region::HOST &&
      !(layout.on_device && blocks.device > 0)) {
    return Bad(layout.name, "lies on a device where nothing was loaned for it");
  }
  const uint64_t block_bytes = layout.on_device ? blocks.device : blocks.host;
  layout.offset = tensor.getOffset();
  layout.bytes = tensor.getBytes();
  if (layout.bytes != *bytes) {
    return Bad(layout.name,
               absl::StrCat("says ", layout.bytes, " bytes, its shape needs ", *bytes));
  }
  if (layout.offset % kSharedAlignment != 0) {
    return Bad(layout.name,
               absl::StrCat("offset ", layout.offset, " is not a multiple of ", kSharedAlignment));
  }
  if (layout.offset > block_bytes || layout.bytes > block_bytes - layout.offset) {
    return Bad(layout.name, absl::StrCat("bytes ", layout.offset, " + ", layout.bytes,
                                         " are outside its block of ", block_bytes));
  }
  return layout;
}

absl::StatusOr<std::vector<TensorLayout>> ParseList(capnp::List<schema::Tensor>::Reader list,
                                                    const BlockBytes& blocks) {
  if (list.size() > kMaxTensors) {
    return absl::InvalidArgumentError(
        absl::StrCat(list.size(), " tensors, the limit is ", kMaxTensors));
  }
  std::vector<TensorLayout> layouts;
  layouts.reserve(list.size());
  for (const schema::Tensor::Reader tensor : list) {
    absl::StatusOr<TensorLayout> layout = ParseTensor(tensor, blocks);
    if (!layout.ok()) return layout.status();
    layouts.push_back(*std::move(layout));
  }
  return layouts;
}

// Cap'n Proto throws for malformed bytes; here that is an ordinary status.
template <typename Root, typename Get>
absl::StatusOr<std::vector<TensorLayout>> Parse(std::span<const std::byte> bytes,
                                                const BlockBytes& blocks, Get&& get) {
  if (bytes.size() > kMaxDescriptorBytes || bytes.size() % sizeof(capnp::word) != 0 ||
      bytes.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("a description of ", bytes.size(), " bytes cannot be right"));
  }
  const size_t count = bytes.size() / sizeof(capnp::word);
  auto words = kj::heapArray<capnp::word>(count);
  std::memcpy(words.asBytes().begin(), bytes.data(), bytes.size());
  absl::StatusOr<std::vector<TensorLayout>> layouts = absl::InternalError("unset");
  const kj::Maybe<kj::Exception> failure = kj::runCatchingExceptions([&] {
    capnp::ReaderOptions options;
    // A message may point at the same bytes many times: reading may cost no
    // more than a few times its own size.
    options.traversalLimitInWords = 8 * count + 64;
    options.nestingLimit = 8;
    capnp::FlatArrayMessageReader reader(words.asPtr(), options);
    layouts = ParseList(get(reader.getRoot<Root>()), blocks);
  });
  KJ_IF_MAYBE (exception, failure) {
    return absl::InvalidArgumentError(
        absl::StrCat("a malformed description: ", exception->getDescription().cStr()));
  }
  return layouts;
}

}  // namespace

absl::StatusOr<DescriptorBytes> EncodeRequest(std::span<const TensorLayout> inputs) {
  capnp::MallocMessageBuilder message;
  Fill(message.initRoot<schema::Request>().initInputs(static_cast<unsigned>(inputs.size())),
       inputs);
  return Flatten(message);
}

absl::StatusOr<DescriptorBytes> EncodeResponse(std::span<const TensorLayout> outputs) {
  capnp::MallocMessageBuilder message;
  Fill(message.initRoot<schema::Response>().initOutputs(static_cast<unsigned>(outputs.size())),
       outputs);
  return Flatten(message);
}

absl::StatusOr<std::vector<TensorLayout>> ParseRequest(std::span<const std::byte> bytes,
                                                       uint64_t block_bytes,
                                                       uint64_t device_bytes) {
  return Parse<schema::Request>(bytes, {.host = block_bytes, .device = device_bytes},
                                [](auto root) { return root.getInputs(); });
}

absl::StatusOr<std::vector<TensorLayout>> ParseResponse(std::span<const std::byte> bytes,
                                                        uint64_t block_bytes,
                                                        uint64_t device_bytes) {
  return Parse<schema::Response>(bytes, {.host = block_bytes, .device = device_bytes},
                                 [](auto root) { return root.getOutputs(); });
}

uint64_t DescriptorReserve(std::span<const TensorSpec> specs) {
  // Segment table and root, then per tensor its struct (6 words), the name
  // with its NUL and the shape, each rounded up to words.
  uint64_t bytes = 64;
  for (const TensorSpec& spec : specs) {
    bytes += 6 * 8 + (spec.name.size() + 8) / 8 * 8 + kMaxRank * 8 + 16;
  }
  return RoundUpToGranules(bytes);
}

namespace {

uint64_t EndOf(std::span<const TensorLayout> layouts, bool on_device) {
  uint64_t end = 0;
  for (const TensorLayout& layout : layouts) {
    if (layout.on_device == on_device) end = std::max(end, layout.offset + layout.bytes);
  }
  return end;
}

}  // namespace

uint64_t LayoutEnd(std::span<const TensorLayout> layouts) { return EndOf(layouts, false); }
uint64_t DeviceLayoutEnd(std::span<const TensorLayout> layouts) { return EndOf(layouts, true); }

absl::StatusOr<std::vector<uint32_t>> MatchSpecs(std::span<const TensorSpec> specs,
                                                 std::span<const TensorLayout> layouts) {
  std::vector<uint32_t> order(specs.size(), kNoLayout);
  for (size_t i = 0; i < layouts.size(); ++i) {
    const TensorLayout& layout = layouts[i];
    const auto spec = std::find_if(specs.begin(), specs.end(),
                                   [&](const TensorSpec& s) { return s.name == layout.name; });
    if (spec == specs.end()) {
      std::string known;
      for (const TensorSpec& s : specs) absl::StrAppend(&known, known.empty() ? "" : ", ", s.name);
      return Bad(layout.name, absl::StrCat("the model has no such tensor; it has: ", known));
    }
    const auto at = static_cast<size_t>(spec - specs.begin());
    if (order[at] != kNoLayout) return Bad(layout.name, "is there twice");
    order[at] = static_cast<uint32_t>(i);
    if (!Fits(*spec, layout.dtype, layout.shape)) {
      return absl::InvalidArgumentError(
          absl::StrCat("got ", ToString(TensorSpec{layout.name, layout.dtype, layout.shape}),
                       ", the model takes ", ToString(*spec)));
    }
  }
  for (size_t i = 0; i < specs.size(); ++i) {
    if (order[i] == kNoLayout && !specs[i].optional) {
      return absl::InvalidArgumentError(absl::StrCat(
          "tensor '", specs[i].name, "' is missing; the model takes ", ToString(specs[i])));
    }
  }
  return order;
}

}  // namespace baton::ipc
