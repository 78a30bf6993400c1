// Legacy IPC: what cannot be exported or opened.
#include <string>

#include "absl/strings/str_cat.h"

#include "tools/gpu_check/measurement.h"
#include "tools/gpu_check/peer.h"

namespace baton::gpu_check {
namespace {

std::string Seen(const PeerReply& reply) {
  return reply.ok() ? "it succeeded" : std::string(reply.text);
}

}  // namespace

absl::Status MeasureIpcRefusals(const Settings& settings, Report& report) {
  const uint64_t bytes = settings.Bytes(uint64_t{64} << 20);
  Peer peer = Peer::StartWithContext(settings.device);
  const uint64_t address = peer.Do({.verb = Verb::kAllocate, .bytes = bytes}).values[0];
  const PeerReply exported = peer.Do({.verb = Verb::kExport, .address = address});
  const PeerReply capable = peer.Do({.verb = Verb::kLegacyCapable, .address = address});
  if (!peer.status().ok()) return peer.status();
  report.Fact("cuMemAlloc's memory is capable of legacy IPC", capable.values[0] == 1);

  const PeerReply own = peer.Ask({.verb = Verb::kOpen, .handle = exported.handle});
  report.Fact("a process cannot open its own handle", !own.ok(), Seen(own));

  const uint64_t vmm = peer.Do({.verb = Verb::kCreate, .bytes = bytes}).values[0];
  const PeerReply vmm_capable = peer.Ask({.verb = Verb::kLegacyCapable, .address = vmm});
  report.Fact("VMM memory is not capable of legacy IPC",
              !vmm_capable.ok() || vmm_capable.values[0] == 0,
              vmm_capable.ok() ? "" : vmm_capable.text);
  const PeerReply vmm_export = peer.Ask({.verb = Verb::kExport, .address = vmm});
  report.Fact("VMM memory has no legacy handle", !vmm_export.ok(), Seen(vmm_export));

  // What came of a handle whose memory is gone, before anybody opened it.
  peer.Do({.verb = Verb::kFree, .address = address});
  Peer late = Peer::StartWithContext(settings.device);
  const PeerReply stale = late.Ask({.verb = Verb::kOpen, .handle = exported.handle});
  if (late.status().ok()) {
    report.Told("IPC: opening the handle of memory that was freed", Seen(stale));
  }
  absl::Status status = peer.status();
  status.Update(late.status());
  return status;
}

}  // namespace baton::gpu_check
