// Session: the device arenas of a server, imported, leased, closed.
#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "capnp/message.h"

#include "ipc/crash_point.h"
#include "ipc/eventfd.h"
#include "ipc/futex.h"
#include "ipc/open_device.h"
#include "ipc/schema/control.capnp.h"
#include "ipc/schema_convert.h"
#include "runtime/front/hold.h"
#include "runtime/front/session.h"

namespace baton::internal {
namespace {

namespace schema = ipc::schema;

// Channels that one answer names; what others lease is added to the last. A
// packet has room for no more than some thousands.
constexpr size_t kMaxLeaseEntries = 1024;

}  // namespace

// ---- Imports -----------------------------------------------------------------------------------

void Session::Import(ipc::ControlMessage message) {
  const schema::ArenaExport::Reader reader = message.envelope().getImportArena();
  const uint64_t generation = reader.getGeneration();
  BATON_CRASH_POINT("front.importing");
  if (BATON_FAIL_POINT("front.import")) {
    Imported(generation, absl::InternalError("failed at front.import"));
    return;
  }
  const auto token = reader.getToken();
  if (message.fd_count() == 0 && token.size() == 0) {  // a model without device memory
    Imported(generation, absl::OkStatus());
    return;
  }
  auto exported = std::make_shared<ipc::ArenaExport>();
  exported->token.assign(reinterpret_cast<const char*>(token.begin()), token.size());
  exported->bytes = reader.getBytes();
  exported->generation = generation;
  if (message.fd_count() > 0) exported->fd = message.TakeFd(0);
  // Inputs that wait are there again before the server hears that it is mapped.
  const auto import = [exported, channels = leases_.Inputs()] {
    absl::StatusOr<std::unique_ptr<ipc::ImportedArena>> imported =
        ipc::ImportArena(std::move(*exported));
    if (!imported.ok()) return imported;
    for (const std::shared_ptr<ChannelInputs>& inputs : channels) inputs->Adopt(**imported);
    return imported;
  };
  if (token.size() == 0) {
    Imported(generation, import());
    return;
  }
  importing_.insert(generation);
  auto arena = std::make_shared<absl::StatusOr<std::unique_ptr<ipc::ImportedArena>>>(
      absl::CancelledError("not imported"));
  device_thread_.Run([import, arena] { *arena = import(); },
                     [this, arena, generation] {
                       importing_.erase(generation);
                       Imported(generation, std::move(*arena));
                       // What came in meanwhile had nothing to close yet.
                       if (close_when_imported_.erase(generation) > 0) CloseImports(generation);
                     });
}

void Session::Imported(uint64_t generation,
                       absl::StatusOr<std::unique_ptr<ipc::ImportedArena>> arena) {
  absl::Status status = arena.status();
  if (status.ok() && !leases_.Add(*std::move(arena))) {
    status = absl::AlreadyExistsError(
        absl::StrCat("the arena of generation ", generation, " is mapped already"));
  } else if (!status.ok()) {
    LoseInputs(status);
  }
  {
    const std::lock_guard lock(mutex_);  // for who is about to wait
  }
  answered_.notify_all();
  Imported(generation, status);
}

absl::Status Session::AwaitImport() {
  std::unique_lock lock(mutex_);
  const bool mapped = answered_.wait_for(lock, absl::ToChronoNanoseconds(options_.connect_timeout),
                                         [this] { return leases_.newest() != 0 || gone(); });
  if (mapped && !gone()) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat(
      "no device arena of server '", server_, "' could be mapped here",
      gone() ? ": it has ended"
             : absl::StrCat(" within ", absl::FormatDuration(options_.connect_timeout)),
      ". See its log for why"));
}

void Session::Imported(uint64_t generation, const absl::Status& status) {
  capnp::MallocMessageBuilder answer;
  auto imported = answer.initRoot<schema::Envelope>().initImported();
  imported.setGeneration(generation);
  ipc::WriteStatus(status, imported.initError());
  static_cast<void>(Send(answer));
}

// Ends a mapping: here, or where it may hang on a thread that nobody waits for. `unmapped` is
// called on the session's thread.
void Session::LetGo(std::unique_ptr<LeasedArena> arena, std::function<void()> unmapped) {
  if (!arena->closing_may_hang()) {
    arena.reset();
    unmapped();
    return;
  }
  auto holder = std::make_shared<std::unique_ptr<LeasedArena>>(std::move(arena));
  device_thread_.Run([holder] { holder->reset(); }, std::move(unmapped));
}

// Says of what it had mapped that it is closed: on a GPU nobody can see that a process which lives
// on has closed it. At the end, when nobody leases anything.
void Session::CloseBeforeLeaving() {
  for (std::unique_ptr<LeasedArena>& arena : leases_.ServerGone()) {
    const uint64_t generation = arena->generation();
    LetGo(std::move(arena), [this, generation] { SendImportsClosed(generation).IgnoreError(); });
  }
  if (!device_thread_.AwaitIdle()) return;
  for (const DeviceThread::Job& done : device_thread_.TakeDone()) done();
}

// ---- Leases ------------------------------------------------------------------------------------

void Session::StartClosing(uint64_t call, uint64_t generation) {
  if (call != 0) {
    BATON_CRASH_POINT("front.answering_leases");
    if (BATON_FAIL_POINT("front.leases")) return;  // as one that hangs
  }
  if (!leases_.StartClosing(generation, call) && call != 0) {
    unsent_answers_.push_back({.call = call, .generation = generation, .held = {}});
  }
  SendDue();
  Note(GenerationEvent::kClosing, generation);
}

void Session::KeepGeneration(uint64_t generation) {
  leases_.Keep(generation);
  SeeToInputs();
  Note(GenerationEvent::kKept, generation);
}

void Session::CloseImports(uint64_t generation) {
  if (importing_.contains(generation)) {
    close_when_imported_.insert(generation);
    return;
  }
  BATON_CRASH_POINT("front.closing_imports");
  if (BATON_FAIL_POINT("front.close_imports")) return;  // as one that hangs
  if (!leases_.AskToClose(generation)) {
    unsent_closed_.push_back(generation);
    SendDue();
    return;
  }
  // Where its worker has died there was no word of it before.
  Note(GenerationEvent::kClosing, generation);
  SendDue();
}

void Session::SendDue() {
  SeeToInputs();  // what is in the way of closing an arena
  ArenaLeases::Due due = leases_.TakeDue();
  std::vector<ArenaLeases::Answer> answers = std::exchange(unsent_answers_, {});
  std::move(due.answers.begin(), due.answers.end(), std::back_inserter(answers));
  for (std::unique_ptr<LeasedArena>& arena : due.leaving) {
    const uint64_t generation = arena->generation();
    LetGo(std::move(arena), [this, generation] {
      leases_.Unmapped(generation);
      for (const auto& inputs : leases_.Inputs()) inputs->Forget(generation);
      unsent_closed_.push_back(generation);
    });
  }
  const std::vector<uint64_t> closed = std::exchange(unsent_closed_, {});
  // What the server has no room for now stays owed. Where it is gone the socket says so, too.
  unsent_ = false;
  for (ArenaLeases::Answer& answer : answers) {
    // One wait for a server that does not read is enough.
    if (!unsent_ && SendLeases(answer).ok()) continue;
    unsent_ = true;
    if (!leases_.Owe(answer.generation)) unsent_answers_.push_back(std::move(answer));
  }
  for (const uint64_t generation : closed) {
    if (!unsent_ && SendImportsClosed(generation).ok()) {
      Note(GenerationEvent::kClosed, generation);
      continue;
    }
    unsent_ = true;
    unsent_closed_.push_back(generation);
  }
}

absl::Status Session::SendLeases(const ArenaLeases::Answer& answer) {
  capnp::MallocMessageBuilder message;
  auto envelope = message.initRoot<schema::Envelope>();
  envelope.setCall(answer.call);
  auto leases = envelope.initLeases();
  leases.setGeneration(answer.generation);
  const auto entries = static_cast<unsigned>(std::min(answer.held.size(), kMaxLeaseEntries));
  auto held = leases.initHeld(entries);
  for (size_t i = 0; i < answer.held.size(); ++i) {
    auto entry = held[std::min(static_cast<unsigned>(i), entries - 1)];
    entry.setChannel(answer.held[i].channel);
    entry.setCount(entry.getCount() + answer.held[i].count);
  }
  return Send(message);
}

absl::Status Session::SendImportsClosed(uint64_t generation) {
  capnp::MallocMessageBuilder message;
  message.initRoot<schema::Envelope>().initImportsClosed().setGeneration(generation);
  return Send(message);
}

void Session::Note(GenerationEvent event, uint64_t generation) {
  const bool closing = event == GenerationEvent::kClosing;
  const bool changed =
      closing ? closing_.insert(generation).second : closing_.erase(generation) > 0;
  if (!changed) return;
  closing_generation_.store(closing_.empty() ? 0 : *closing_.begin(), std::memory_order_release);
  notices_.push_back({.event = event, .generation = generation});
}

void Session::NoteReaped() {
  if (closing_.empty()) return;
  const uint64_t reaped = status_page().reaped_generation.load(std::memory_order_acquire);
  const std::set<uint64_t> closing = closing_;
  for (const uint64_t generation : closing) {
    if (generation <= reaped && !leases_.Maps(generation)) {
      Note(GenerationEvent::kClosed, generation);
    }
  }
}

absl::StatusOr<DeviceLease> Session::Lease(std::shared_ptr<Session> session, uint64_t channel) {
  if (!session->options_.import_device) {
    return absl::FailedPreconditionError(
        "this front maps no device memory: attach with FrontOptions::import_device");
  }
  const uint64_t serving = session->status_page().generation.load(std::memory_order_acquire);
  const ArenaLeases::Acquired acquired = session->leases_.Acquire(channel, serving);
  if (acquired.arena == nullptr) return session->NotLeased(acquired.closing);
  return DeviceLease(std::move(session), acquired.arena, channel);
}

absl::Status Session::NotLeased(uint64_t closing) const {
  if (gone()) return absl::UnavailableError(absl::StrCat("server '", server_, "' has ended"));
  const auto state =
      static_cast<ipc::ServerState>(status_page().state.load(std::memory_order_acquire));
  const std::string where =
      absl::StrCat("server '", server_, "' (", std::string(ipc::ServerStateName(state)), ")");
  const int64_t now = ipc::MonotonicNs();
  const std::optional<Hold> hold = ReadHold(status_page(), now);
  const std::string when =
      hold ? absl::StrCat("retry in ", (hold->until_ns - now) / 1'000'000 + 1, " ms")
           : std::string("retry when Front::imported_generation has changed");
  absl::Status status = absl::UnavailableError(
      closing != 0 ? absl::StrCat("generation ", closing, " of ", where,
                                  " is closing and gives no more leases: ", when)
                   : absl::StrCat("no device arena of ", where,
                                  " is mapped here, or its model has none: ", when));
  if (hold) SetRetryAfter(status, hold->until_ns - now);
  return status;
}

void Session::RemoveResultChannel(uint64_t channel) {
  if (forked()) return;
  leases_.RemoveChannel(channel);
  ipc::SignalEventFd(wake_.get());
}

void Session::ResultsRead() {
  if (closing_generation() != 0) ipc::SignalEventFd(wake_.get());
}

void Session::ReturnLease(LeasedArena* arena, uint64_t channel) {
  // In a fork it is the parent's lease.
  if (forked()) return;
  ArenaLeases::Released released = leases_.Release(arena, channel);
  if (released.tell) ipc::SignalEventFd(wake_.get());
  if (released.last != nullptr) LetGo(std::move(released.last), [] {});
}

}  // namespace baton::internal
