// FrontTable: device memory, as fronts lease it and channels have slices of it.
#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "capnp/message.h"

#include "runtime/supervisor/front_table.h"

namespace baton::runtime {

namespace schema = ipc::schema;
using schema::Envelope;

namespace {

// More channels than this with leases are not believed, and not kept.
constexpr unsigned kMaxLeaseEntries = 4096;

}  // namespace

// ---- slices of device memory ----

uint64_t FrontTable::DeviceSlicesEnd() const {
  uint64_t end = 0;
  for (const auto& [id, channel] : channels_) {
    end = std::max({end, channel.device_results.end(), channel.device_inputs.end()});
  }
  return end;
}

absl::Status FrontTable::TakeDeviceSlices(const Session& session, uint64_t results, uint64_t inputs,
                                          ChannelRecord* channel) const {
  constexpr uint64_t kPageBytes = 4096;  // aligned for what is put in them; inputs share no page
  if (results % kPageBytes != 0 || inputs % kPageBytes != 0) {
    return absl::InvalidArgumentError(absl::StrCat("openChannel: ", results, " bytes for results, ",
                                                   inputs, " for inputs: not a multiple of ",
                                                   kPageBytes));
  }
  if ((results > 0 || inputs > 0) && !session.wants_device) {
    return absl::FailedPreconditionError(
        "tensors on the device are for fronts that map it: attach with "
        "FrontOptions::import_device");
  }
  std::map<uint64_t, uint64_t> taken;  // bytes by offset
  for (const auto& [id, other] : channels_) {
    for (const ChannelRecord::DeviceSlice& slice : {other.device_results, other.device_inputs}) {
      if (slice.bytes > 0) taken[slice.offset] = slice.bytes;
    }
  }
  absl::Status status = TakeDeviceSlice(results, "results", taken, &channel->device_results);
  if (status.ok()) status = TakeDeviceSlice(inputs, "inputs", taken, &channel->device_inputs);
  return status;
}

// The first gap that is large enough. Slices are few, and live as long as their channels.
absl::Status FrontTable::TakeDeviceSlice(uint64_t bytes, const std::string& use,
                                         std::map<uint64_t, uint64_t>& taken,
                                         ChannelRecord::DeviceSlice* slice) const {
  if (bytes == 0) return absl::OkStatus();
  const uint64_t all = owner_.DeviceResultsBytes();
  uint64_t at = 0;
  for (const auto& [offset, size] : taken) {
    if (offset - at >= bytes) break;
    at = offset + size;
  }
  if (bytes > all || at > all - bytes) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "no ", bytes, " bytes in a row for ", use, " are left of the ", all,
        " bytes of device memory that the model sets aside for channels. Ask for less, close "
        "channels, or raise limits.device_",
        use, " in config.yaml"));
  }
  *slice = {.offset = at, .bytes = bytes};
  taken[at] = bytes;
  return absl::OkStatus();
}

// ---- leases ----

void FrontTable::AskLeases(Session& session, uint64_t generation) {
  const bool maps = session.mapped.contains(generation);
  session.leases_call = maps ? ++last_leases_call_ : 0;
  session.leases_awaited = maps;
  session.leases_generation = 0;
  session.leases.clear();
  capnp::MallocMessageBuilder message;
  auto envelope = message.initRoot<Envelope>();
  envelope.setCall(session.leases_call);
  envelope.initGenerationClosing().setGeneration(generation);
  Reply(session.id, message);
}

void FrontTable::TellClosing(uint64_t generation) {
  for (auto& [id, session] : sessions_) {
    if (session->is_front) AskLeases(*session, generation);
  }
}

void FrontTable::AskLeasesAgain(uint64_t generation) {
  for (auto& [id, session] : sessions_) {
    const bool has_results = std::any_of(
        session->channels.begin(), session->channels.end(), [this](const uint64_t channel) {
          const auto found = channels_.find(channel);
          return found != channels_.end() && found->second.device_results.bytes > 0;
        });
    if (has_results && session->mapped.contains(generation)) AskLeases(*session, generation);
  }
}

void FrontTable::TellKept(uint64_t generation) {
  for (auto& [id, session] : sessions_) {
    if (!session->is_front) continue;
    session->leases_awaited = false;
    session->leases.clear();
    capnp::MallocMessageBuilder message;
    message.initRoot<Envelope>().initGenerationKept().setGeneration(generation);
    Reply(id, message);
  }
}

absl::Status FrontTable::HandleLeases(Session& session, const ipc::ControlMessage& message) {
  const auto leases = message.envelope().getLeases();
  if (!session.wants_device) {
    return absl::InvalidArgumentError("leases of who maps no device memory");
  }
  if (leases.getHeld().size() > kMaxLeaseEntries) {
    return absl::InvalidArgumentError("leases of more channels than there can be");
  }
  // One that answers a question of before is late, not wrong.
  const uint64_t call = message.envelope().getCall();
  if (call != 0 && call != session.leases_call) return absl::OkStatus();
  if (!session.mapped.contains(leases.getGeneration())) {
    owner_.OnLeasesChanged();
    return absl::OkStatus();
  }
  session.leases_awaited = false;
  session.leases_generation = leases.getGeneration();
  session.leases.clear();
  for (const auto held : leases.getHeld()) {
    if (held.getCount() > 0) session.leases[held.getChannel()] += held.getCount();
  }
  owner_.OnLeasesChanged();
  return absl::OkStatus();
}

std::string FrontTable::LeaseHolders(uint64_t generation) const {
  std::vector<std::string> holders;
  for (const auto& [id, session] : sessions_) {
    if (!session->mapped.contains(generation)) continue;
    if (session->leases_awaited) {
      holders.push_back(
          absl::StrCat("pid ", session->pid, " has not answered whether it leases device memory"));
    } else if (session->leases_generation == generation && !session->leases.empty()) {
      std::vector<std::string> channels;
      for (const auto& [channel, count] : session->leases) {
        channels.push_back(
            absl::StrCat(count, count == 1 ? " lease" : " leases", " of channel ", channel));
      }
      holders.push_back(absl::StrCat("pid ", session->pid, " holds device memory (",
                                     absl::StrJoin(channels, ", "), ")"));
    }
  }
  return absl::StrJoin(holders, "; ");
}

uint32_t FrontTable::CutOffMapping(uint64_t generation) {
  std::vector<SessionId> late;
  for (const auto& [id, session] : sessions_) {
    // One that says what it holds is alive; the device tells when it has let go.
    const bool answered = session->leases_generation == generation && !session->leases.empty();
    if (session->mapped.contains(generation) && !answered) late.push_back(id);
  }
  cut_off_ += static_cast<uint32_t>(late.size());
  return CutOff(late, "it did not close its import within close_timeout");
}

uint32_t FrontTable::CutOffNotYetMapped(uint64_t generation) {
  std::vector<SessionId> late;
  for (const auto& [id, session] : sessions_) {
    if (session->mapping.contains(generation)) late.push_back(id);
  }
  return CutOff(late, "it did not map the new arena within close_timeout");
}

uint32_t FrontTable::CutOff(const std::vector<SessionId>& sessions, const std::string& why) {
  for (const SessionId id : sessions) {
    log_->warn("front {} is cut off: {}", id, why);
    if (Session* session = Find(id)) session->mapped.clear();  // cut off is not closed
    importers_.Ended(id, /*cut_off=*/true);
    Close(id, why);
  }
  return static_cast<uint32_t>(sessions.size());
}

}  // namespace baton::runtime
