// A dense model on a GPU reads inputs that lie there where they are. On a simulated one; on the
// machine that is linked in.
#include <algorithm>
#include <optional>
#include <random>
#include <vector>

#include "gtest/gtest.h"

#include "ipc/cuda/cuda_device.h"
#include "loader/safetensors.h"
#include "tests/loader/buffer_sink.h"
#include "tests/loader/test_run.h"

namespace baton::loader {
namespace {

constexpr uint64_t kCapacity = 64 << 20;

// As BufferSink, with the results on the device.
class DeviceSink final : public OutputSink {
 public:
  explicit DeviceSink(uint64_t address) : address_(address) {}
  absl::StatusOr<std::span<std::byte>> Allocate(size_t, std::span<const int64_t>) override {
    return absl::InternalError("on the host");
  }
  bool on_device() const override { return true; }
  absl::StatusOr<uint64_t> AllocateOnDevice(size_t, std::span<const int64_t>) override {
    return address_;
  }

 private:
  const uint64_t address_;
};

TEST(DenseOnGpu, ReadsInputsThatLieThere) {
  const TempDir dir;
  std::mt19937 engine(11);
  std::normal_distribution<float> normal;
  const auto random = [&](size_t count) {
    std::vector<float> values(count);
    for (float& value : values) value = normal(engine);
    return values;
  };
  const std::vector<float> weight = random(40 * 3);
  const std::vector<float> bias = random(40);
  const std::vector<TensorToSave> saved = {
      {{"layers.0.weight", DType::kFloat32, {40, 3}}, std::as_bytes(std::span(weight))},
      {{"layers.0.bias", DType::kFloat32, {40}}, std::as_bytes(std::span(bias))}};
  ASSERT_TRUE(SaveSafetensors(dir.File("model.safetensors"), saved).ok());
  auto model =
      StageFromYaml(dir, "loader: dense\ndevice: cuda:0\ndense: {activations: [softmax]}\n");
  ASSERT_TRUE(model.ok()) << model.status();
  const absl::StatusOr<ipc::cuda::GpuInfo> gpu = ipc::cuda::DescribeGpu(0);
  ASSERT_TRUE(gpu.ok()) << gpu.status();
  auto device = ipc::cuda::CudaDevice::Open(
      *gpu, {.capacity_bytes = kCapacity, .transport = std::nullopt, .upload = {}});
  ASSERT_TRUE(device.ok()) << device.status();
  auto arena = (*device)->CreateArena(kCapacity, 1);
  ASSERT_TRUE(arena.ok()) << arena.status();
  constexpr uint64_t kRegion = kCapacity / 2;
  ASSERT_LE((*model)->device_bytes(), kRegion);
  const absl::Status uploaded =
      (*model)->Upload({.device = device->get(), .address = (*arena)->address(), .bytes = kRegion});
  if (absl::IsFailedPrecondition(uploaded)) GTEST_SKIP() << uploaded;  // no kernels in this build
  ASSERT_TRUE(uploaded.ok()) << uploaded;
  EXPECT_TRUE((*model)->takes_device_inputs());

  const uint64_t there = (*arena)->address() + kRegion;
  const uint64_t results = there + kRegion / 2;
  for (const int64_t rows : {1, 5, 333, 2500}) {
    const std::vector<float> values = random(static_cast<size_t>(rows) * 3);
    const int64_t shape[] = {rows, 3};
    const TensorView on_host[] = {{.name = "input",
                                   .dtype = DType::kFloat32,
                                   .shape = shape,
                                   .bytes = std::as_bytes(std::span(values)),
                                   .device_address = 0}};
    const TensorView on_device[] = {{.name = "input",
                                     .dtype = DType::kFloat32,
                                     .shape = shape,
                                     .bytes = {},
                                     .device_address = there,
                                     .device_ordinal = 0}};
    ASSERT_TRUE((*device)->CopyToDevice(there, std::as_bytes(std::span(values))).ok());
    BufferSink expected((*model)->signature(), 1 << 20);
    BufferSink found((*model)->signature(), 1 << 20);
    ASSERT_TRUE((*model)->Run(on_host, expected).ok());
    const absl::Status run = (*model)->Run(on_device, found);
    ASSERT_TRUE(run.ok()) << run;
    const std::span<const float> want = expected.As<float>(0);
    ASSERT_EQ(want.size(), static_cast<size_t>(rows) * 40);
    EXPECT_TRUE(std::ranges::equal(found.As<float>(0), want)) << rows;
    DeviceSink sink(results);
    ASSERT_TRUE((*model)->Run(on_device, sink).ok());
    std::vector<float> back(want.size());
    ASSERT_TRUE((*device)->CopyFromDevice(std::as_writable_bytes(std::span(back)), results).ok());
    EXPECT_TRUE(std::ranges::equal(back, want)) << rows;
  }
  (*model)->Cleanup();
}

}  // namespace
}  // namespace baton::loader
