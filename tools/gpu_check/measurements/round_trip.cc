// A request and its answer, with results on the host and on the device: a real
// server on the GPU, a native model that does nothing and the dense one.
#include <algorithm>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

#include "kernels/cuda/kernel_image.h"
#include "tools/gpu_check/measurement.h"
#include "tools/gpu_check/measurements/own_context.h"
#include "tools/gpu_check/served_model.h"

namespace baton::gpu_check {
namespace {

constexpr uint64_t kMiB = 1 << 20;
constexpr uint32_t kResultBytes = 4096;
// What is asked in turn, so that noise on the machine meets both alike.
constexpr uint32_t kSlices = 10;
constexpr uint32_t kWarmUp = 20;  // before each slice
constexpr double kMostBeyondHostUs = 20;

struct Asked {
  std::string name;
  std::string config;
  TensorSpec input;
  std::function<void(const Request&)> fill;
};

absl::StatusOr<Response> CallOnce(Channel& channel, const RequestPlan& plan, const Asked& asked) {
  absl::StatusOr<Request> request = channel.Loan(plan);
  if (!request.ok()) return request.status();
  asked.fill(*request);
  return channel.Call(*std::move(request));
}

absl::Status CallOften(Channel& channel, const RequestPlan& plan, const Asked& asked,
                       uint32_t times, Samples* samples) {
  for (uint32_t i = 0; i < times; ++i) {
    const Stopwatch watch;
    {
      const absl::StatusOr<Response> response = CallOnce(channel, plan, asked);
      if (!response.ok()) return response.status();
    }
    if (samples != nullptr) samples->Add(watch.Nanoseconds());
  }
  return absl::OkStatus();
}

// That an answer lies where it was asked to, and says the same there.
absl::Status CheckAnswers(const OwnContext& context, Channel& channel, const RequestPlan& host,
                          const RequestPlan& device, const Asked& asked) {
  const absl::StatusOr<Response> here = CallOnce(channel, host, asked);
  if (!here.ok()) return here.status();
  const absl::StatusOr<Response> there = CallOnce(channel, device, asked);
  if (!there.ok()) return there.status();
  const std::span<const std::byte> expected = here->outputs()[0].bytes;
  const TensorView& view = there->outputs()[0];
  if (expected.empty() || view.device_address == 0 || !view.bytes.empty()) {
    return absl::DataLossError("the results are not where they were asked for");
  }
  std::vector<std::byte> seen(expected.size());
  absl::Status copied =
      context.Check(context.driver()->MemcpyDtoH(seen.data(), view.device_address, seen.size()),
                    "cuMemcpyDtoH of results");
  if (copied.ok() && !std::ranges::equal(seen, expected)) {
    copied = absl::DataLossError("other results on the device than on the host");
  }
  return copied;
}

absl::Status OneModel(const Settings& settings, const OwnContext& context, const Asked& asked,
                      Report& report) {
  absl::StatusOr<std::unique_ptr<ServedModel>> served =
      ServedModel::Launch(settings.device, asked.config);
  if (!served.ok()) return served.status();
  absl::StatusOr<Channel> channel = (*served)->front().OpenChannel(
      {.request_arena_bytes = kMiB, .response_arena_bytes = kMiB, .device_result_bytes = kMiB / 2});
  if (!channel.ok()) return channel.status();
  const absl::StatusOr<RequestPlan> host = channel->Plan({&asked.input, 1}, kResultBytes * 2);
  const absl::StatusOr<RequestPlan> device = channel->PlanOnDevice({&asked.input, 1}, kResultBytes);
  if (!host.ok() || !device.ok()) return host.ok() ? device.status() : host.status();

  const absl::Status same = CheckAnswers(context, *channel, *host, *device, asked);
  report.Fact(asked.name + ": results on the device are there, and those on the host", same.ok(),
              std::string(same.message()));
  Samples on_host, on_device;
  const uint32_t times = std::max<uint32_t>(settings.Times(20'000) / kSlices, 1);
  absl::Status status;
  for (uint32_t slice = 0; slice < kSlices && status.ok(); ++slice) {
    status = CallOften(*channel, *host, asked, kWarmUp, nullptr);
    if (status.ok()) status = CallOften(*channel, *host, asked, times, &on_host);
    if (status.ok()) status = CallOften(*channel, *device, asked, kWarmUp, nullptr);
    if (status.ok()) status = CallOften(*channel, *device, asked, times, &on_device);
  }
  if (!status.ok()) return status;
  report.Times(asked.name + ", results on the host", on_host, "us");
  report.Times(asked.name + ", results on the device", on_device, "us");
  const std::string row = asked.name + ", device less host";
  const double beyond_us = (on_device.Median() - on_host.Median()) / 1e3;
  if (settings.small) {
    report.Measured(row, beyond_us, "us", "of the medians");
  } else {
    report.Against(row, beyond_us, "us", {.bound = kMostBeyondHostUs}, "of the medians");
  }
  return absl::OkStatus();
}

Asked NativeModel() {
  return {.name = absl::StrCat("round trip, native model, ", kResultBytes, " bytes"),
          .config = absl::StrCat(
              "name: measured\nloader: native\nfile: ", ServedModel::WeightsModelPath(),
              "\nlimits: {device_results: 1MiB}\n"),
          .input = {.name = "bytes", .dtype = DType::kUInt32, .shape = {1}},
          .fill = [](const Request& request) { request.input<uint32_t>(0)[0] = kResultBytes; }};
}

Asked DenseModel(const std::string& folder) {
  return {.name = "round trip, dense model, one digit",
          .config = absl::StrCat("name: measured\nloader: dense\nfile: ", folder,
                                 "/model.safetensors\nlimits: {device_results: 1MiB}\n"
                                 "dense: {activations: [relu, softmax]}\n"),
          .input = {.name = "input", .dtype = DType::kFloat32, .shape = {1, 64}},
          .fill = [](const Request& request) {
            const std::span<float> pixels = request.input<float>(0);
            for (size_t i = 0; i < pixels.size(); ++i) pixels[i] = static_cast<float>(i % 17);
          }};
}

}  // namespace

absl::Status MeasureRoundTrip(const Settings& settings, Report& report) {
  const absl::StatusOr<std::unique_ptr<OwnContext>> context = OwnContext::Open(settings.device);
  if (!context.ok()) return context.status();
  std::vector<Asked> models = {NativeModel()};
  const std::string digits = ServedModel::ShippedModelPath("digits");
  if (digits.empty()) {
    report.Skipped("round trip, dense model", "loader/models/digits of Baton's source is not here");
  } else if (!kernels::cuda::KernelImageBuilt() && !settings.simulated) {
    report.Skipped("round trip, dense model", "this was built without nvcc: there are no kernels");
  } else {
    models.push_back(DenseModel(digits));
  }
  for (const Asked& asked : models) {
    if (absl::Status done = OneModel(settings, **context, asked, report); !done.ok()) {
      report.Error(asked.name, done);
    }
  }
  return absl::OkStatus();
}

}  // namespace baton::gpu_check
