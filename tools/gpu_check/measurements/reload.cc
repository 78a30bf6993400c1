// What a reload costs those who call meanwhile, and how much device memory it
// takes at most: a real server on the GPU, models with 1, 8 and 32 GiB of
// weights.
#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "tools/gpu_check/device_bytes_sampler.h"
#include "tools/gpu_check/gap_client.h"
#include "tools/gpu_check/gpu_view.h"
#include "tools/gpu_check/measurement.h"
#include "tools/gpu_check/measurements/own_context.h"
#include "tools/gpu_check/peer.h"
#include "tools/gpu_check/pinned_bandwidth.h"
#include "tools/gpu_check/served_model.h"
#include "tools/gpu_check/take.h"
#include "tools/gpu_check/weights_file.h"

namespace baton::gpu_check {
namespace {

constexpr uint64_t kMiB = 1 << 20;
constexpr uint64_t kGiB = 1 << 30;
constexpr int kReloads = 5;  // that count; the one before them touches what was never touched
constexpr int kTeardowns = 3;
// Left free on the device beside the model and its context, and on the host beside the weights.
constexpr uint64_t kDeviceMargin = 256 * kMiB;
constexpr uint64_t kHostMargin = 1 * kGiB;
constexpr absl::Duration kTeardownLimit = absl::Seconds(60);
constexpr absl::Duration kAnswerLimit = absl::Seconds(30);
constexpr uint64_t kLookedAt = 4096;

// Of what is measured, and what it is held to.
struct Setting {
  const Settings& settings;
  const GpuView& gpu;
  const OwnContext& context;  // this process's; what it takes is in use before and after
  const WeightsFile& file;
  double bandwidth = 0;        // bytes a nanosecond
  uint64_t context_bytes = 0;  // of another process
};

std::string SizeText(uint64_t bytes) {
  return bytes % kGiB == 0 ? absl::StrCat(bytes / kGiB, " GiB")
                           : absl::StrCat(bytes / kMiB, " MiB");
}

// What a context of another process takes.
absl::StatusOr<uint64_t> ContextBytes(const Settings& settings, const GpuView& gpu) {
  absl::Status status;
  const uint64_t before = Take(status, gpu.SettledFreeBytes());
  const Peer peer = Peer::StartWithContext(settings.device);
  status.Update(peer.status());
  const uint64_t during = Take(status, gpu.SettledFreeBytes());
  if (!status.ok()) return status;
  return before - std::min(before, during);
}

// From the end of a process that holds `bytes` until they are back.
absl::StatusOr<double> TeardownNs(const Setting& setting, uint64_t bytes) {
  Samples samples;
  for (int i = 0; i < kTeardowns; ++i) {
    absl::Status status;
    const uint64_t before = Take(status, setting.gpu.SettledFreeBytes());
    Peer peer = Peer::StartWithContext(setting.settings.device);
    const uint64_t address = peer.Do({.verb = Verb::kAllocate, .bytes = bytes}).values[0];
    peer.Do({.verb = Verb::kFill, .value = 1, .address = address, .bytes = bytes});
    status.Update(peer.status());
    status.Update(setting.gpu.SettledFreeBytes().status());
    if (!status.ok()) return status;
    const Stopwatch watch;
    peer.Kill();
    // The driver may keep a little of a context.
    const uint64_t slack = std::max(bytes / 8, 64 * kMiB);
    status = setting.gpu.AwaitFree(before - std::min(before, slack), kTeardownLimit).status();
    if (!status.ok()) return status;
    samples.Add(watch.Nanoseconds());
  }
  return samples.Median();
}

// That this process, by what its front maps, reads the weights on the device.
absl::Status CheckWeights(const Setting& setting, Channel& channel, uint64_t bytes) {
  const absl::StatusOr<DeviceLease> lease = channel.LeaseDevice();
  if (!lease.ok()) return lease.status();
  if (lease->size_bytes() < bytes || lease->device_address() == 0) {
    return absl::DataLossError(absl::StrCat("mapped are ", lease->size_bytes(), " bytes"));
  }
  const std::span<const std::byte> file = setting.file.bytes();
  std::vector<std::byte> seen(kLookedAt);
  for (const uint64_t at : {uint64_t{0}, bytes / 2, bytes - file.size(), bytes - kLookedAt}) {
    const absl::Status copied = setting.context.Check(
        setting.context.driver()->MemcpyDtoH(seen.data(), lease->device_address() + at, kLookedAt),
        "cuMemcpyDtoH of mapped weights");
    if (!copied.ok()) return copied;
    if (std::memcmp(seen.data(), file.data() + at % file.size(), kLookedAt) != 0) {
      return absl::DataLossError(absl::StrCat("other bytes at ", at));
    }
  }
  return absl::OkStatus();
}

struct Reloads {
  Samples gap, server_gap;
  std::vector<std::pair<std::string, Samples>> states;  // in the order they were entered
  uint64_t answered = 0;
  absl::Status answers;  // what a request ended with that was not answered
  absl::Status weights;  // what a front saw of them

  Samples& State(const std::string& name) {
    for (auto& [state, samples] : states) {
      if (state == name) return samples;
    }
    return states.emplace_back(name, Samples()).second;
  }
};

absl::Status ReloadOnce(ServedModel& served, GapClient& client, Reloads& reloads) {
  client.Reset();
  const absl::StatusOr<ReloadFacts> facts = served.Reload();
  if (!facts.ok()) return facts.status();
  if (absl::Status answers = client.AwaitGeneration(facts->successor, kAnswerLimit);
      !answers.ok()) {
    return answers;
  }
  reloads.gap.Add(client.longest_ns());
  reloads.server_gap.Add(facts->gap_ns);
  for (const auto& [state, ns] : facts->states_ns) {
    if (state != "SERVING") reloads.State(state).Add(ns);
  }
  return absl::OkStatus();
}

std::string Config(const Setting& setting, uint64_t bytes) {
  return absl::StrCat("name: measured\nloader: native\nfile: ", ServedModel::WeightsModelPath(),
                      "\nnative:\n  options:\n    weights_file: ", setting.file.path(),
                      "\n    weights_bytes: ", bytes, "\n");
}

absl::Status ReloadOften(const Setting& setting, uint64_t bytes, Reloads& reloads) {
  absl::StatusOr<std::unique_ptr<ServedModel>> served =
      ServedModel::Launch(setting.settings.device, Config(setting, bytes));
  if (!served.ok()) return served.status();
  const ChannelOptions small{.request_arena_bytes = kMiB, .response_arena_bytes = kMiB};
  absl::StatusOr<Channel> calls = (*served)->front().OpenChannel(small);
  absl::StatusOr<Channel> looks = (*served)->front().OpenChannel(small);
  if (!calls.ok() || !looks.ok()) return calls.ok() ? looks.status() : calls.status();
  GapClient client(*std::move(calls));
  absl::Status status = client.AwaitGeneration((*served)->front().generation(), kAnswerLimit);
  for (int i = 0; i <= kReloads && status.ok(); ++i) {
    if (i == 1) reloads = Reloads();
    status = ReloadOnce(**served, client, reloads);
    if (status.ok()) reloads.weights.Update(CheckWeights(setting, *looks, bytes));
  }
  reloads.answers = client.status();
  reloads.answered = client.answered();
  return status;
}

void ReportGap(const Setting& setting, const std::string& name, uint64_t bytes,
               const Reloads& reloads, double teardown_ns, Report& report) {
  const double upload_ns = static_cast<double>(bytes) / setting.bandwidth;
  const double bound_ms = 1.25 * (teardown_ns + upload_ns) / 1e6 + 100;
  const std::string note = absl::StrCat(
      "median of ", reloads.gap.count(), "; most ", FigureText(reloads.gap.Most() / 1e6),
      " ms; the least: teardown ", FigureText(teardown_ns / 1e6), " ms and ",
      FigureText(upload_ns / 1e6), " ms for the bytes at ", FigureText(setting.bandwidth), " GB/s");
  const double gap_ms = reloads.gap.Median() / 1e6;
  if (setting.settings.small) {
    report.Measured(name + ": gap", gap_ms, "ms", note);
  } else {
    report.Against(name + ": gap", gap_ms, "ms", {.bound = bound_ms}, note);
  }
  const double server_ns = reloads.server_gap.Median();
  report.Times(name + ": gap by receipts", reloads.server_gap, "ms");
  for (const auto& [state, samples] : reloads.states) {
    report.Times(absl::StrCat(name, ": in ", state), samples, "ms",
                 state == "STAGING" ? "the old generation serves meanwhile"
                                    : absl::StrCat(FigureText(100 * samples.Median() / server_ns),
                                                   " % of the gap by receipts"));
  }
}

void ReportPeak(const Setting& setting, const std::string& name, uint64_t bytes,
                uint64_t used_before, const DeviceBytesSampler& sampler, Report& report) {
  const double peak = Rise(used_before, sampler.peak_used_bytes());
  const double one = static_cast<double>(bytes + setting.context_bytes);
  std::string seen = absl::StrCat(
      FigureText(Mebibytes(peak)), " MiB beyond what was in use before; model ", bytes / kMiB,
      " MiB, context ", setting.context_bytes / kMiB, " MiB; ", sampler.samples(),
      " looks, at most ", FigureText(sampler.longest_gap_ns() / 1e6), " ms apart");
  if (sampler.failures() > 0) {
    absl::StrAppend(&seen, "; ", sampler.failures(), " looks failed, so that it is a lower bound");
  }
  const std::string row = name + ": peak device bytes / (model + context)";
  if (setting.settings.small) {
    report.Measured(row, peak / one, "", seen);
  } else {
    report.Against(row, peak / one, "", {.bound = 1.02}, seen);
  }
  const std::string fact = name + ": no two generations hold device memory at once";
  if (peak < 0.9 * static_cast<double>(bytes)) {
    // Then it proves nothing: who has not seen one generation may not have seen two.
    report.Error(fact, absl::UnavailableError("NVML did not show the model's memory: " + seen));
  } else {
    report.Fact(fact, peak < 1.5 * one, seen);
  }
}

absl::Status OneSize(const Setting& setting, const std::string& name, uint64_t bytes,
                     Report& report) {
  absl::Status status;
  const uint64_t free = Take(status, setting.gpu.SettledFreeBytes());
  const auto memory = setting.gpu.nvml().MemoryOf(setting.gpu.nvml_device());
  status.Update(memory.status());
  if (!status.ok()) return status;
  const uint64_t needed = bytes + setting.context_bytes + kDeviceMargin;
  if (free < needed) {
    report.Skipped(name, absl::StrCat("the GPU has ", free / kMiB, " MiB free, and that takes ",
                                      needed / kMiB));
    return absl::OkStatus();
  }
  const absl::StatusOr<double> teardown_ns = TeardownNs(setting, bytes);
  if (!teardown_ns.ok()) return teardown_ns.status();
  const uint64_t used_before = memory->total_bytes - Take(status, setting.gpu.SettledFreeBytes());
  if (!status.ok()) return status;

  const DeviceBytesSampler sampler(setting.gpu);
  Reloads reloads;
  status = ReloadOften(setting, bytes, reloads);
  if (reloads.gap.count() > 0) {
    ReportGap(setting, name, bytes, reloads, *teardown_ns, report);
    ReportPeak(setting, name, bytes, used_before, sampler, report);
    report.Fact(name + ": a front reads each generation's weights on the device",
                reloads.weights.ok(), std::string(reloads.weights.message()));
  }
  if (reloads.answered > 0) {
    report.Fact(name + ": every request is answered", reloads.answers.ok(),
                reloads.answers.ok() ? absl::StrCat(reloads.answered, " answers")
                                     : std::string(reloads.answers.message()));
  }
  return status;
}

}  // namespace

absl::Status MeasureReload(const Settings& settings, Report& report) {
  const absl::StatusOr<GpuView> gpu = GpuView::Open(settings.device);
  if (!gpu.ok()) return gpu.status();
  // First of all: the front of this process shares it, and would make it otherwise.
  const absl::StatusOr<std::unique_ptr<OwnContext>> context = OwnContext::Open(settings.device);
  if (!context.ok()) return context.status();
  const absl::StatusOr<double> bandwidth =
      PinnedBandwidth((*context)->driver(), settings.Bytes(kGiB));
  if (!bandwidth.ok()) return bandwidth.status();
  const absl::StatusOr<uint64_t> context_bytes = ContextBytes(settings, *gpu);
  if (!context_bytes.ok()) return context_bytes.status();

  // The weights are this file, so often as they are long: all bytes are read from the page cache
  // and go over the bus, as a file of that size would, which need not be there.
  const uint64_t file_bytes = settings.small ? 16 * kMiB : kGiB;
  if (const auto host = AvailableHostBytes(); host.ok() && *host < file_bytes + kHostMargin) {
    report.Skipped("reload", absl::StrCat("the machine has ", *host / kMiB,
                                          " MiB of memory to be had, and that takes ",
                                          (file_bytes + kHostMargin) / kMiB));
    return absl::OkStatus();
  }
  const absl::StatusOr<std::unique_ptr<WeightsFile>> file = WeightsFile::Make(file_bytes);
  if (!file.ok()) return file.status();
  const Setting setting{.settings = settings,
                        .gpu = *gpu,
                        .context = **context,
                        .file = **file,
                        .bandwidth = *bandwidth,
                        .context_bytes = *context_bytes};
  const std::vector<uint64_t> sizes = settings.small
                                          ? std::vector<uint64_t>{16 * kMiB, 64 * kMiB}
                                          : std::vector<uint64_t>{kGiB, 8 * kGiB, 32 * kGiB};
  for (const uint64_t bytes : sizes) {
    const std::string name = "reload " + SizeText(bytes);
    if (absl::Status done = OneSize(setting, name, bytes, report); !done.ok()) {
      report.Error(name, done);
    }
  }
  return absl::OkStatus();
}

}  // namespace baton::gpu_check
