// Legacy IPC: what export, open and close cost, and what an import says of
// itself.
#include <string>

#include "absl/strings/str_cat.h"

#include "tools/gpu_check/measurement.h"
#include "tools/gpu_check/peer.h"

namespace baton::gpu_check {
namespace {

constexpr uint32_t kPattern = 0x5a;

void CheckImport(const PeerReply& exported, uint64_t bytes, Peer& importer, Report& report) {
  const PeerReply opened = importer.Do({.verb = Verb::kOpen, .handle = exported.handle});
  if (!importer.status().ok()) return;

  report.Fact("an import's address range is the exporter's allocation", opened.values[3] == bytes,
              absl::StrCat("exported ", bytes, " bytes, the import has ", opened.values[3]));
  const PeerReply again = importer.Do({.verb = Verb::kOpen, .handle = exported.handle});
  report.Fact("a second open in one process gives the same address",
              again.values[0] == opened.values[0]);
  importer.Do({.verb = Verb::kClose, .address = again.values[0]});
  const PeerReply seen = importer.Ask(
      {.verb = Verb::kCheck, .value = kPattern, .address = opened.values[0], .bytes = bytes});
  report.Fact("after two opens and one close the import can still be read",
              seen.ok() && seen.values[0] == 0,
              seen.ok() ? absl::StrCat(seen.values[0], " bytes differ") : seen.text);
  const PeerReply closed = importer.Do({.verb = Verb::kClose, .address = opened.values[0]});
  if (!importer.status().ok()) return;
  report.Measured("IPC: close of the last of two opens",
                  static_cast<double>(closed.values[0]) / 1e3, "us");
}

// A handle of an address in the middle.
void CheckInterior(uint64_t address, uint64_t bytes, Peer& exporter, Peer& importer,
                   Report& report) {
  const PeerReply exported = exporter.Ask({.verb = Verb::kExport, .address = address + bytes / 2});
  if (!exported.ok()) {
    report.Told("IPC: a handle of an address inside an allocation",
                absl::StrCat("refused: ", exported.text));
    return;
  }
  const PeerReply opened = importer.Ask({.verb = Verb::kOpen, .handle = exported.handle});
  if (!opened.ok()) {
    report.Told("IPC: a handle of an address inside an allocation",
                absl::StrCat("made, but cannot be opened: ", opened.text));
    return;
  }
  report.Fact("a handle of an address inside an allocation opens the whole of it",
              opened.values[3] == bytes && opened.values[0] == opened.values[2],
              absl::StrCat("opened at ", opened.values[0] - opened.values[2], " of ",
                           opened.values[3], " bytes; asked for ", bytes / 2));
  importer.Do({.verb = Verb::kClose, .address = opened.values[0]});
}

absl::Status OfSize(const Settings& settings, uint64_t bytes, Report& report) {
  Peer exporter = Peer::StartWithContext(settings.device);
  Peer importer = Peer::StartWithContext(settings.device);
  const uint64_t address = exporter.Do({.verb = Verb::kAllocate, .bytes = bytes}).values[0];
  exporter.Do({.verb = Verb::kFill, .value = kPattern, .address = address, .bytes = bytes});
  const PeerReply exported = exporter.Do({.verb = Verb::kExport, .address = address});
  const uint32_t exports = settings.Times(1000);
  const PeerReply often =
      exporter.Do({.verb = Verb::kExportOften, .value = exports, .address = address});
  const uint32_t opens = settings.Times(100);
  const PeerReply open_often =
      importer.Do({.verb = Verb::kOpenOften, .value = opens, .handle = exported.handle});
  if (!exporter.status().ok()) return exporter.status();
  if (!importer.status().ok()) return importer.status();

  const std::string size = absl::StrCat(" of ", bytes >> 20, " MiB");
  const auto us = [&](const std::string& name, const PeerReply& reply, size_t first,
                      uint32_t count) {
    report.Measured(
        name + size, static_cast<double>(reply.values[first]) / 1e3, "us",
        absl::StrCat("median of ", count, "; most ",
                     FigureText(static_cast<double>(reply.values[first + 1]) / 1e3), " us"));
  };
  us("IPC: cuIpcGetMemHandle", often, 0, exports);
  us("IPC: cuIpcOpenMemHandle", open_often, 0, opens);
  us("IPC: cuIpcCloseMemHandle", open_often, 2, opens);
  report.FactOfHardware("opening takes at most 9 ms" + size,
                        static_cast<double>(open_often.values[0]) <= 9e6);
  report.FactOfHardware("closing takes at most 7 ms" + size,
                        static_cast<double>(open_often.values[2]) <= 7e6);
  CheckImport(exported, bytes, importer, report);
  CheckInterior(address, bytes, exporter, importer, report);
  absl::Status status = exporter.status();
  status.Update(importer.status());
  return status;
}

}  // namespace

absl::Status MeasureIpcCost(const Settings& settings, Report& report) {
  absl::Status status = OfSize(settings, settings.Bytes(uint64_t{256} << 20), report);
  // Whether mapping more costs more.
  if (status.ok() && !settings.small) status = OfSize(settings, uint64_t{8} << 30, report);
  return status;
}

}  // namespace baton::gpu_check
