// VMM with descriptors: what keeps memory after its exporter died.
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"

#include "ipc/cuda/driver_abi.h"
#include "tools/gpu_check/gpu_view.h"
#include "tools/gpu_check/measurement.h"
#include "tools/gpu_check/peer.h"
#include "tools/gpu_check/take.h"

namespace baton::gpu_check {
namespace {

constexpr uint32_t kPattern = 0x96;
constexpr absl::Duration kLimit = absl::Seconds(30);

// An exporter that shares memory and dies; the descriptor stays here.
struct Orphan {
  ipc::UniqueFd fd;
  uint64_t bytes = 0;
};

absl::StatusOr<Peer> Exporter(const Settings& settings, Orphan& orphan) {
  Peer exporter = Peer::StartWithContext(settings.device);
  const uint64_t address = exporter.Do({.verb = Verb::kCreate, .bytes = orphan.bytes}).values[0];
  exporter.Do({.verb = Verb::kFill, .value = kPattern, .address = address, .bytes = orphan.bytes});
  exporter.Do({.verb = Verb::kShare});
  orphan.fd = exporter.TakeFd();
  if (!exporter.status().ok()) return exporter.status();
  return exporter;
}

// That what is done by `let_go` is what frees the memory.
template <typename LetGo>
absl::Status FreedBy(const GpuView& gpu, uint64_t bytes, const std::string& fact, Report& report,
                     LetGo let_go) {
  absl::Status status;
  const uint64_t before = Take(status, gpu.SettledFreeBytes());
  if (!status.ok()) return status;
  const Stopwatch watch;
  let_go();
  const absl::StatusOr<double> freed = gpu.AwaitFree(before + bytes - bytes / 4, kLimit);
  report.Fact(fact, freed.ok(),
              freed.ok() ? absl::StrCat("free ", FigureText(watch.Nanoseconds() / 1e6), " ms later")
                         : std::string(freed.status().message()));
  return absl::OkStatus();
}

absl::Status ByDescriptor(const Settings& settings, const GpuView& gpu, Report& report) {
  Orphan orphan;
  orphan.bytes = settings.Bytes(uint64_t{1} << 30);
  absl::StatusOr<Peer> exporter = Exporter(settings, orphan);
  if (!exporter.ok()) return exporter.status();
  exporter->Kill();
  return FreedBy(gpu, orphan.bytes, "a descriptor alone keeps VMM memory until it is closed",
                 report, [&] { orphan.fd.reset(); });
}

absl::Status ByImport(const Settings& settings, const GpuView& gpu, Report& report) {
  Orphan orphan;
  orphan.bytes = settings.Bytes(uint64_t{1} << 30);
  absl::StatusOr<Peer> exporter = Exporter(settings, orphan);
  if (!exporter.ok()) return exporter.status();
  Peer importer = Peer::StartWithContext(settings.device);
  absl::Status status = importer.status();
  const std::optional<uint64_t> before = Take(status, gpu.UsedBytesOf(importer.pid()));
  const uint64_t address =
      importer
          .Do({.verb = Verb::kImport, .value = ipc::cuda::kAccessRead, .bytes = orphan.bytes},
              orphan.fd.get())
          .values[0];
  orphan.fd.reset();
  exporter->Kill();
  status.Update(exporter->status());
  status.Update(importer.status());
  const std::optional<uint64_t> after = Take(status, gpu.UsedBytesOf(importer.pid()));
  if (!status.ok()) return status;
  const PeerReply seen = importer.Ask(
      {.verb = Verb::kCheck, .value = kPattern, .address = address, .bytes = orphan.bytes});
  report.Fact("an import can be read when exporter and descriptor are gone",
              seen.ok() && seen.values[0] == 0,
              seen.ok() ? absl::StrCat(seen.values[0], " bytes differ") : seen.text);
  if (before && after) {
    report.Measured("VMM: NVML charges the importer with", Mebibytes(Rise(*before, *after)), "MiB",
                    absl::StrCat("of ", orphan.bytes >> 20, " MiB, the exporter is dead"));
  }
  importer.Do({.verb = Verb::kReleaseHandle});
  status = FreedBy(
      gpu, orphan.bytes, "a mapping alone keeps VMM memory until it is unmapped", report,
      [&] { importer.Do({.verb = Verb::kUnmap, .address = address, .bytes = orphan.bytes}); });
  status.Update(importer.status());
  return status;
}

absl::Status ByImportersDeath(const Settings& settings, const GpuView& gpu, Report& report) {
  Orphan orphan;
  orphan.bytes = settings.Bytes(uint64_t{1} << 30);
  absl::StatusOr<Peer> exporter = Exporter(settings, orphan);
  if (!exporter.ok()) return exporter.status();
  Peer importer = Peer::StartWithContext(settings.device);
  importer.Do({.verb = Verb::kImport, .value = ipc::cuda::kAccessRead, .bytes = orphan.bytes},
              orphan.fd.get());
  orphan.fd.reset();
  exporter->Kill();
  if (!importer.status().ok()) return importer.status();
  return FreedBy(gpu, orphan.bytes, "an imported VMM mapping is freed by its importer's SIGKILL",
                 report, [&] { importer.Kill(); });
}

}  // namespace

absl::Status MeasureVmmLifetime(const Settings& settings, Report& report) {
  const absl::StatusOr<GpuView> gpu = GpuView::Open(settings.device);
  if (!gpu.ok()) return gpu.status();
  absl::Status status = ByDescriptor(settings, *gpu, report);
  status.Update(ByImport(settings, *gpu, report));
  status.Update(ByImportersDeath(settings, *gpu, report));
  return status;
}

}  // namespace baton::gpu_check
