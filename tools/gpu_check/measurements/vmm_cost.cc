// VMM with descriptors: what each step costs.
#include <string>

#include "absl/strings/str_cat.h"

#include "ipc/cuda/driver_abi.h"
#include "tools/gpu_check/measurement.h"
#include "tools/gpu_check/peer.h"

namespace baton::gpu_check {
namespace {

constexpr uint32_t kPattern = 0x3c;

struct Costs {
  Samples create, map, access, share, import, import_map, import_access, unmap, release;
};

void Add(Samples& to, uint64_t nanoseconds) { to.Add(static_cast<double>(nanoseconds)); }

// Import, look, and let go, on both sides.
absl::Status Once(uint64_t bytes, Peer& exporter, Peer& importer, Costs& costs, uint64_t& differ) {
  const PeerReply created = exporter.Do({.verb = Verb::kCreate, .bytes = bytes});
  const uint64_t made = created.values[0];
  exporter.Do({.verb = Verb::kFill, .value = kPattern, .address = made, .bytes = bytes});
  const PeerReply shared = exporter.Do({.verb = Verb::kShare});
  const ipc::UniqueFd fd = exporter.TakeFd();
  if (!exporter.status().ok()) return exporter.status();
  const PeerReply imported = importer.Do(
      {.verb = Verb::kImport, .value = ipc::cuda::kAccessReadWrite, .bytes = bytes}, fd.get());
  const uint64_t address = imported.values[0];
  const PeerReply seen =
      importer.Do({.verb = Verb::kCheck, .value = kPattern, .address = address, .bytes = bytes});
  const PeerReply unmapped =
      importer.Do({.verb = Verb::kUnmap, .address = address, .bytes = bytes});
  const PeerReply released = importer.Do({.verb = Verb::kReleaseHandle});
  exporter.Do({.verb = Verb::kUnmap, .address = made, .bytes = bytes});
  exporter.Do({.verb = Verb::kReleaseHandle});
  absl::Status status = exporter.status();
  status.Update(importer.status());
  if (!status.ok()) return status;
  differ += seen.values[0];
  Add(costs.create, created.values[1]);
  Add(costs.map, created.values[2]);
  Add(costs.access, created.values[3]);
  Add(costs.share, shared.values[0]);
  Add(costs.import, imported.values[1]);
  Add(costs.import_map, imported.values[2]);
  Add(costs.import_access, imported.values[3]);
  Add(costs.unmap, unmapped.values[0]);
  Add(costs.release, released.values[0]);
  return status;
}

absl::Status OfSize(const Settings& settings, uint64_t bytes, Report& report) {
  Peer exporter = Peer::StartWithContext(settings.device);
  Peer importer = Peer::StartWithContext(settings.device);
  Costs costs;
  uint64_t differ = 0;
  absl::Status status;
  for (uint32_t i = 0; i < settings.Times(40) && status.ok(); ++i) {
    status = Once(bytes, exporter, importer, costs, differ);
  }
  if (!status.ok()) return status;
  const std::string size = absl::StrCat(" of ", bytes >> 20, " MiB");
  report.Times("VMM: create" + size, costs.create, "us");
  report.Times("VMM: reserve and map" + size, costs.map, "us");
  report.Times("VMM: set access" + size, costs.access, "us");
  report.Times("VMM: export to a descriptor" + size, costs.share, "us");
  report.Times("VMM: import" + size, costs.import, "us");
  report.Times("VMM: reserve and map an import" + size, costs.import_map, "us");
  report.Times("VMM: set access to an import" + size, costs.import_access, "us");
  report.Times("VMM: unmap an import" + size, costs.unmap, "us");
  report.Times("VMM: release an import" + size, costs.release, "us");
  report.Fact("an import sees what its exporter wrote", differ == 0,
              absl::StrCat(differ, " bytes differ"));
  return status;
}

}  // namespace

absl::Status MeasureVmmCost(const Settings& settings, Report& report) {
  absl::Status status = OfSize(settings, settings.Bytes(uint64_t{256} << 20), report);
  if (status.ok() && !settings.small) status = OfSize(settings, uint64_t{8} << 30, report);
  return status;
}

}  // namespace baton::gpu_check
