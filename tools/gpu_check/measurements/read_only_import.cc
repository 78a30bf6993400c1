// Whether a read-only import refuses to be written: by a copy, by a fill and by
// a kernel, each in a process of its own, since it may cost the context.
#include <array>
#include <string>

#include "absl/strings/str_cat.h"

#include "ipc/cuda/driver_abi.h"
#include "tools/gpu_check/measurement.h"
#include "tools/gpu_check/peer.h"

namespace baton::gpu_check {
namespace {

constexpr uint32_t kPattern = 0x11;
constexpr uint32_t kOther = 0x77;

struct Way {
  const char* name;
  Verb verb;
};
constexpr std::array<Way, 3> kWays = {{
    {"a copy", Verb::kWriteByCopy},
    {"a fill", Verb::kWriteByFill},
    {"a kernel", Verb::kWriteByKernel},
}};

void ReportWrite(const Way& way, const PeerReply& written, const PeerReply& exporters,
                 const PeerReply& afterwards, Report& report) {
  const std::string name = way.name;
  const bool unchanged = exporters.ok() && exporters.values[0] == 0;
  report.Fact(absl::StrCat(name, " does not write through a read-only import"),
              unchanged && !written.ok(),
              absl::StrCat(written.ok() ? "no error" : written.text,
                           unchanged ? ", nothing changed" : ", the EXPORTER'S BYTES CHANGED"));
  report.Told(absl::StrCat("read-only import: the context after ", name),
              afterwards.ok() ? "still works" : absl::StrCat("is lost: ", afterwards.text));
}

absl::Status Try(const Settings& settings, const Way& way, Report& report) {
  const uint64_t bytes = settings.Bytes(uint64_t{64} << 20);
  Peer exporter = Peer::StartWithContext(settings.device);
  const uint64_t made = exporter.Do({.verb = Verb::kCreate, .bytes = bytes}).values[0];
  exporter.Do({.verb = Verb::kFill, .value = kPattern, .address = made, .bytes = bytes});
  exporter.Do({.verb = Verb::kShare});
  const ipc::UniqueFd fd = exporter.TakeFd();
  if (!exporter.status().ok()) return exporter.status();
  Peer importer = Peer::StartWithContext(settings.device);
  const uint64_t address =
      importer
          .Do({.verb = Verb::kImport, .value = ipc::cuda::kAccessRead, .bytes = bytes}, fd.get())
          .values[0];
  const PeerReply before =
      importer.Do({.verb = Verb::kCheck, .value = kPattern, .address = address, .bytes = bytes});
  if (!importer.status().ok()) return importer.status();
  report.Fact(absl::StrCat("a read-only import can be read (before ", way.name, ")"),
              before.values[0] == 0);

  const PeerReply written = importer.Ask({.verb = way.verb, .value = kOther, .address = address});
  if (way.verb == Verb::kWriteByKernel && !written.ok() && written.values[0] < 2) {
    report.Skipped("fact: a kernel does not write through a read-only import",
                   absl::StrCat("there is no kernel to try it with: ", written.text));
    return importer.status();
  }
  const PeerReply afterwards =
      importer.Ask({.verb = Verb::kCheck, .value = kPattern, .address = address, .bytes = bytes});
  const PeerReply exporters =
      exporter.Ask({.verb = Verb::kCheck, .value = kPattern, .address = made, .bytes = bytes});
  ReportWrite(way, written, exporters, afterwards, report);
  absl::Status status = exporter.status();
  status.Update(importer.status());
  return status;
}

}  // namespace

absl::Status MeasureReadOnlyImport(const Settings& settings, Report& report) {
  absl::Status status;
  for (const Way& way : kWays) status.Update(Try(settings, way, report));
  return status;
}

}  // namespace baton::gpu_check
