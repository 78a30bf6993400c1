// Everybody who is connected to the server, their channels, and who has which
// generation's device arena mapped.
//
// Thread safety: belongs to the supervisor's one thread. No call waits.
//
// Invariants
// 1. A packet that is malformed, out of order or over a limit closes the
//    session that sent it, and touches no other.
// 2. A session ends when its socket does or its process does, whichever comes
//    first (a child that inherited the socket does not keep it alive); its
//    channels and imports end with it (R11).
// 3. A descriptor of a channel is kept from openChannel to the channel's end.
// 4. A front counts as having an arena mapped from when it was sent until it
//    says that it closed it, could not open it, or is gone.
#ifndef BATON_RUNTIME_SUPERVISOR_FRONT_TABLE_H_
#define BATON_RUNTIME_SUPERVISOR_FRONT_TABLE_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "capnp/message.h"

#include "ipc/control_socket.h"
#include "ipc/device.h"
#include "ipc/process.h"
#include "runtime/supervisor/channel_record.h"
#include "runtime/supervisor/event_loop.h"
#include "runtime/supervisor/front_limits.h"
#include "runtime/supervisor/importer_table.h"
#include "runtime/supervisor/server_log.h"

namespace baton::runtime {

class FrontTable {
 public:
  using SessionId = uint64_t;

  // What the table needs to know or to have done. Called from within the
  // table's own calls; may call Reply, not Accept.
  class Owner {
   public:
    virtual ~Owner() = default;
    // A session that said hello properly is to be welcomed, now or later.
    virtual void OnHello(SessionId session, uint64_t call, bool is_front) = 0;
    virtual void OnStatusAsked(SessionId session, uint64_t call) = 0;
    virtual void OnReloadAsked(SessionId session, uint64_t call, const std::string& trigger,
                               bool override_unconfirmed) = 0;
    virtual void OnPlanAsked(SessionId session, uint64_t call) = 0;
    virtual void OnStopAsked(SessionId session, uint64_t call) = 0;
    virtual void OnChannelOpened(const ChannelRecord& channel) = 0;
    virtual void OnChannelClosed(uint64_t channel) = 0;
    // What every generation sets aside for channels' results and inputs on the device.
    virtual uint64_t DeviceResultsBytes() const = 0;
    // Somebody mapped an arena, or failed to: it may have made a context for that.
    virtual void OnArenaMapped() = 0;
    // Somebody closed or mapped an arena, or went: ask again who is missing.
    virtual void OnImportsChanged() = 0;
    // Somebody answered what it leases, or went: ask again who holds what.
    virtual void OnLeasesChanged() = 0;
  };

  FrontTable(EventLoop& loop, Owner& owner, ServerLog log, FrontLimits limits)
      : loop_(loop), owner_(owner), log_(std::move(log)), limits_(limits) {}
  ~FrontTable();

  // An error: nobody can be accepted now. Who waits is still in the queue, so
  // the listener stays readable: do not call again at once.
  absl::Status Accept(ipc::ControlListener& listener);
  void Close(SessionId session, const std::string& why);

  // Sends an answer; a session that does not take it is closed.
  void Reply(SessionId session, capnp::MessageBuilder& message, std::span<const int> fds = {});
  void ReplyError(SessionId session, uint64_t call, const absl::Status& status);

  // Channels.
  const std::map<uint64_t, ChannelRecord>& channels() const { return channels_; }
  // A worker has it: the front may use it.
  void ChannelUsable(uint64_t channel);
  // A worker refused it: it is forgotten. One that was never usable is answered
  // with why. One that was: its worker has poisoned it, which its front sees;
  // with `end_front` no worker ever had it, and the session is closed so that
  // the front does not wait for answers that never come.
  void ChannelRefused(uint64_t channel, const absl::Status& why, bool end_front);

  // The end of the last slice of device memory that a channel has.
  uint64_t DeviceSlicesEnd() const;

  // Imports. Both count sessions that are still missing.
  void AskToClose(uint64_t generation);
  size_t StillMapping(uint64_t generation) const;
  void OfferArena(const ipc::ArenaExport& arena);
  void OfferArena(SessionId session, const ipc::ArenaExport& arena);
  size_t NotYetMapped(uint64_t generation) const;
  // Leases on device memory. Every front is told that `generation` is about to
  // go; those that map it have to answer what they hold of it.
  void TellClosing(uint64_t generation);
  // Asks those once more who can have results on the device: nothing runs now,
  // so that no more come.
  void AskLeasesAgain(uint64_t generation);
  void TellKept(uint64_t generation);
  // Who holds leases, or has not answered; empty: nobody. With pid, channels
  // and counts, for the reason of a reload that they keep from going on.
  std::string LeaseHolders(uint64_t generation) const;
  // Closes the sessions that still map it and have not even said that they hold
  // leases on it; or that have not yet answered. Returns how many.
  uint32_t CutOffMapping(uint64_t generation);
  uint32_t CutOffNotYetMapped(uint64_t generation);
  // Every process that was sent that generation's arena, living or not, with
  // what it has said of it. Only of arenas on a GPU: the kernel itself counts
  // who maps one of the host.
  std::vector<Importer> Importers(uint64_t generation) const { return importers_.Of(generation); }
  // Its memory is gone.
  void ForgetImporters(uint64_t generation) { importers_.Forget(generation); }
  // How many sessions gave that generation back, by answer or by ending.
  uint32_t closed_imports() const { return closed_imports_; }
  // "acknowledged by 2 fronts, 1 dead, 0 cut off", since AskToClose.
  std::string ClosedImports() const;

  uint32_t sessions() const { return static_cast<uint32_t>(sessions_.size()); }
  uint32_t fronts() const;

 private:
  struct Session {
    SessionId id = 0;
    ipc::ControlSocket socket;
    std::optional<ipc::ProcessWatch> process;
    pid_t pid = 0;
    bool said_hello = false;
    bool is_front = false;
    bool wants_device = false;
    std::set<uint64_t> channels;
    std::set<uint64_t> mapped;            // generations
    std::set<uint64_t> mapping;           // of these, the ones not yet answered
    uint64_t leases_call = 0;             // the last question
    bool leases_awaited = false;          // not answered yet
    uint64_t leases_generation = 0;       // what the last answer is about
    std::map<uint64_t, uint32_t> leases;  // of that generation, by channel; what it says
  };

  void Admit(ipc::ControlSocket socket);
  void Read(SessionId id);
  // False when the session has to go.
  absl::Status Handle(Session& session, ipc::ControlMessage message);
  absl::Status HandleHello(Session& session, ipc::ControlMessage& message);
  absl::Status HandleOpenChannel(Session& session, ipc::ControlMessage& message);
  void HandleCloseChannel(Session& session, uint64_t channel, uint64_t call);
  void DropChannel(Session& session, uint64_t channel);
  // Of what every generation sets aside, for results and for inputs.
  absl::Status TakeDeviceSlices(const Session& session, uint64_t results, uint64_t inputs,
                                ChannelRecord* channel) const;
  absl::Status TakeDeviceSlice(uint64_t bytes, const std::string& use,
                               std::map<uint64_t, uint64_t>& taken,
                               ChannelRecord::DeviceSlice* slice) const;
  void AskLeases(Session& session, uint64_t generation);
  absl::Status HandleLeases(Session& session, const ipc::ControlMessage& message);
  uint32_t CutOff(const std::vector<SessionId>& sessions, const std::string& why);
  Session* Find(SessionId id);

  EventLoop& loop_;
  Owner& owner_;
  ServerLog log_;
  const FrontLimits limits_;
  SessionId last_session_ = 0;
  uint64_t last_channel_ = 0;
  std::map<SessionId, std::unique_ptr<Session>> sessions_;
  std::map<uint64_t, ChannelRecord> channels_;
  ImporterTable importers_;
  uint64_t closing_generation_ = 0;  // AskToClose was last about it; the counts are
  uint32_t closed_imports_ = 0;
  uint32_t died_with_imports_ = 0;  // of these
  uint32_t cut_off_ = 0;            // not of these
  uint64_t last_leases_call_ = 0;
};

}  // namespace baton::runtime

#endif  // BATON_RUNTIME_SUPERVISOR_FRONT_TABLE_H_
