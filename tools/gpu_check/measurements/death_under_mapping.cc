// An exporter dies while another process maps its memory: does it stay, who is
// charged with it, can it be read, and what frees it.
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

#include "tools/gpu_check/gpu_view.h"
#include "tools/gpu_check/measurement.h"
#include "tools/gpu_check/peer.h"
#include "tools/gpu_check/take.h"

namespace baton::gpu_check {
namespace {

constexpr uint32_t kPattern = 0xc3;
constexpr absl::Duration kLimit = absl::Seconds(30);

// What NVML says that the importer uses, at each step.
struct Charged {
  std::optional<uint64_t> before, mapped, orphaned;
};

std::string Text(const std::optional<uint64_t>& bytes) {
  return bytes ? absl::StrCat(*bytes >> 20, " MiB") : "not said";
}

void ReportCharge(const Charged& charged, uint64_t bytes, Report& report) {
  const std::string seen = absl::StrCat(
      "NVML of the importer: ", Text(charged.before), " before it opened, ", Text(charged.mapped),
      " with the mapping, ", Text(charged.orphaned), " after the exporter's death");
  if (!charged.before || !charged.orphaned) {
    report.Skipped("fact: the importer is charged with a dead exporter's memory", seen);
    return;
  }
  report.Fact("the importer is charged with a dead exporter's memory",
              Rise(*charged.before, *charged.orphaned) >= 0.75 * static_cast<double>(bytes), seen);
}

// The rest of a round: the exporter is dead, and the importer lets go.
absl::Status LetGo(const GpuView& gpu, uint64_t bytes, uint64_t address, bool by_death,
                   Peer& importer, Report& report) {
  absl::Status status;
  const uint64_t orphaned = Take(status, gpu.SettledFreeBytes());
  if (!status.ok()) return status;
  const std::string how = by_death ? "the importer is killed" : "the importer closes";
  const Stopwatch watch;
  if (by_death) {
    importer.Kill();
  } else {
    const PeerReply closed = importer.Ask({.verb = Verb::kClose, .address = address});
    report.Fact("closing a mapping whose exporter is dead succeeds", closed.ok(), closed.text);
    if (closed.ok()) {
      report.Measured("dead exporter: cuIpcCloseMemHandle",
                      static_cast<double>(closed.values[0]) / 1e6, "ms");
    }
  }
  const absl::StatusOr<double> freed = gpu.AwaitFree(orphaned + bytes - bytes / 4, kLimit);
  report.Fact(absl::StrCat("a dead exporter's memory stays until ", how), freed.ok(),
              freed.ok() ? "" : std::string(freed.status().message()));
  if (freed.ok()) {
    report.Measured(absl::StrCat("dead exporter: memory free after ", how),
                    watch.Nanoseconds() / 1e6, "ms");
  }
  if (!by_death) {
    // A context that went with the exporter would make the front start anew.
    const PeerReply works = importer.Ask({.verb = Verb::kAllocate, .bytes = Settings::kLeastBytes});
    report.Fact("the importer's context still works afterwards", works.ok(), works.text);
  }
  return importer.status();
}

absl::Status Round(const Settings& settings, const GpuView& gpu, bool by_death, Report& report) {
  const uint64_t bytes = settings.Bytes(uint64_t{1} << 30);
  Peer exporter = Peer::StartWithContext(settings.device);
  Peer importer = Peer::StartWithContext(settings.device);
  const uint64_t made = exporter.Do({.verb = Verb::kAllocate, .bytes = bytes}).values[0];
  exporter.Do({.verb = Verb::kFill, .value = kPattern, .address = made, .bytes = bytes});
  const PeerReply exported = exporter.Do({.verb = Verb::kExport, .address = made});
  absl::Status status = exporter.status();
  status.Update(importer.status());
  Charged charged;
  charged.before = Take(status, gpu.UsedBytesOf(importer.pid()));
  if (!status.ok()) return status;
  const uint64_t address = importer.Do({.verb = Verb::kOpen, .handle = exported.handle}).values[0];
  status.Update(importer.status());
  charged.mapped = Take(status, gpu.UsedBytesOf(importer.pid()));
  const uint64_t mapped = Take(status, gpu.SettledFreeBytes());
  if (!status.ok()) return status;

  exporter.Kill();
  status = exporter.status();
  const uint64_t orphaned = Take(status, gpu.SettledFreeBytes());
  charged.orphaned = Take(status, gpu.UsedBytesOf(importer.pid()));
  const bool listed = Take(status, gpu.Lists(exporter.pid()));
  if (!status.ok()) return status;
  if (!by_death) {
    report.Measured("dead exporter: came free at its death", Mebibytes(Rise(mapped, orphaned)),
                    "MiB", "its context, not the mapped memory");
    report.Fact("a dead exporter is gone from NVML's list though its memory is mapped", !listed);
    ReportCharge(charged, bytes, report);
    const PeerReply seen =
        importer.Ask({.verb = Verb::kCheck, .value = kPattern, .address = address, .bytes = bytes});
    report.Fact("the importer can still read a dead exporter's memory",
                seen.ok() && seen.values[0] == 0,
                seen.ok() ? absl::StrCat(seen.values[0], " bytes differ") : seen.text);
  }
  return LetGo(gpu, bytes, address, by_death, importer, report);
}

}  // namespace

absl::Status MeasureDeathUnderMapping(const Settings& settings, Report& report) {
  const absl::StatusOr<GpuView> gpu = GpuView::Open(settings.device);
  if (!gpu.ok()) return gpu.status();
  absl::Status status = Round(settings, *gpu, /*by_death=*/false, report);
  if (status.ok()) status = Round(settings, *gpu, /*by_death=*/true, report);
  return status;
}

}  // namespace baton::gpu_check
