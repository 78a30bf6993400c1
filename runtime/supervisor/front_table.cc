#include "runtime/supervisor/front_table.h"

#include <sys/resource.h>
#include <sys/socket.h>

#include <algorithm>
#include <span>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "ipc/schema_convert.h"

namespace baton::runtime {

namespace schema = ipc::schema;
using schema::Envelope;

namespace {

// How many packets of one session are read before others get a turn.
constexpr int kPacketsATurn = 16;
// Descriptors that channels leave free: for workers, sessions and receipts.
constexpr rlim_t kReservedDescriptors = 64;

// A new descriptor gets the lowest free number, so one from the reserve says
// that all below it are taken. The limit is asked for each time: others may
// change it from outside.
bool FromReserve(int fd) {
  rlimit limit{};
  return fd >= 0 && ::getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
         static_cast<rlim_t>(fd) + kReservedDescriptors >= limit.rlim_cur;
}

}  // namespace

FrontTable::~FrontTable() {
  for (auto& [id, session] : sessions_) {
    loop_.Forget(session->socket.fd());
    if (session->process) loop_.Forget(session->process->pidfd());
  }
}

FrontTable::Session* FrontTable::Find(SessionId id) {
  const auto found = sessions_.find(id);
  return found == sessions_.end() ? nullptr : found->second.get();
}

uint32_t FrontTable::fronts() const {
  return static_cast<uint32_t>(std::count_if(sessions_.begin(), sessions_.end(),
                                             [](auto& entry) { return entry.second->is_front; }));
}

// ---- sessions ----

absl::Status FrontTable::Accept(ipc::ControlListener& listener) {
  for (int i = 0; i < kPacketsATurn; ++i) {
    auto socket = listener.Accept();
    if (absl::IsPermissionDenied(socket.status())) {
      log_->warn("{}", std::string(socket.status().message()));
      continue;
    }
    if (!socket.ok()) return socket.status();
    if (!*socket) break;
    if (sessions_.size() >= limits_.max_sessions) {
      log_->warn("refused a connection: there are {} already", sessions_.size());
      continue;
    }
    Admit(*std::move(*socket));
  }
  return absl::OkStatus();
}

void FrontTable::Admit(ipc::ControlSocket socket) {
  auto session = std::make_unique<Session>();
  const SessionId id = session->id = ++last_session_;
  session->socket = std::move(socket);
  if (const auto peer = session->socket.Peer(); peer.ok() && peer->pid > 0) {
    session->pid = peer->pid;
    // Whoever is gone already shows as the end of the socket.
    if (const auto identity = ipc::ProcessIdentity::Of(peer->pid); identity.ok()) {
      if (auto watch = ipc::ProcessWatch::Open(*identity); watch.ok()) {
        session->process.emplace(*std::move(watch));
      }
    }
  }
  absl::Status watched = loop_.Watch(session->socket.fd(), [this, id] { Read(id); });
  if (watched.ok() && session->process) {
    watched =
        loop_.Watch(session->process->pidfd(), [this, id] { Close(id, "its process ended"); });
  }
  if (!watched.ok()) {
    log_->error("refused a connection: {}", std::string(watched.message()));
    loop_.Forget(session->socket.fd());
    return;
  }
  sessions_[id] = std::move(session);
}

void FrontTable::Close(SessionId id, const std::string& why) {
  const auto found = sessions_.find(id);
  if (found == sessions_.end()) return;
  const std::unique_ptr<Session> session = std::move(found->second);
  sessions_.erase(found);
  loop_.Forget(session->socket.fd());
  if (session->process) loop_.Forget(session->process->pidfd());
  if (session->is_front) log_->info("front {} (pid {}) left: {}", id, session->pid, why);
  importers_.Ended(id, /*cut_off=*/false);
  while (!session->channels.empty()) DropChannel(*session, *session->channels.begin());
  if (!session->mapped.empty()) {
    if (session->mapped.contains(closing_generation_)) {
      ++closed_imports_;
      ++died_with_imports_;
    }
    owner_.OnImportsChanged();
    owner_.OnLeasesChanged();
  }
}

void FrontTable::Read(SessionId id) {
  for (int i = 0; i < kPacketsATurn; ++i) {
    Session* session = Find(id);
    if (session == nullptr) return;
    absl::StatusOr<ipc::ControlMessage> message = session->socket.Receive(absl::ZeroDuration());
    if (absl::IsDeadlineExceeded(message.status())) return;
    if (absl::IsUnavailable(message.status())) return Close(id, "it hung up");
    absl::Status status = message.status();
    if (message.ok()) status = Handle(*session, *std::move(message));
    if (!status.ok()) {
      log_->warn("session {} is closed: {}", id, std::string(status.message()));
      return Close(id, "it broke the protocol");
    }
  }
}

void FrontTable::Reply(SessionId id, capnp::MessageBuilder& message, std::span<const int> fds) {
  Session* session = Find(id);
  if (session == nullptr) return;
  const absl::Status sent = session->socket.Send(message, fds, absl::ZeroDuration());
  if (sent.ok()) return;
  if (absl::IsInvalidArgument(sent)) {  // our own fault: the rest of the session still works
    log_->error("session {} gets no answer: {}", id, std::string(sent.message()));
    return;
  }
  // Not now: the caller may hold on to the session. Its socket is readable from now on.
  ::shutdown(session->socket.fd(), SHUT_RDWR);
}

void FrontTable::ReplyError(SessionId session, uint64_t call, const absl::Status& status) {
  if (call == 0) return;
  capnp::MallocMessageBuilder message;
  auto envelope = message.initRoot<Envelope>();
  envelope.setCall(call);
  ipc::WriteStatus(status, envelope.initError());
  Reply(session, message);
}

// ---- messages ----

absl::Status FrontTable::Handle(Session& session, ipc::ControlMessage message) {
  const Envelope::Reader envelope = message.envelope();
  const uint64_t call = envelope.getCall();
  if (!session.said_hello && !envelope.isHello()) {
    return absl::InvalidArgumentError("its first packet is no hello");
  }
  switch (envelope.which()) {
    case Envelope::HELLO:
      return HandleHello(session, message);
    case Envelope::STATUS:
      owner_.OnStatusAsked(session.id, call);
      break;
    case Envelope::RELOAD:
      owner_.OnReloadAsked(session.id, call, ipc::ReadText(envelope.getReload().getTrigger()),
                           envelope.getReload().getOverrideUnconfirmed());
      break;
    case Envelope::PLAN_RELOAD:
      owner_.OnPlanAsked(session.id, call);
      break;
    case Envelope::STOP:
      owner_.OnStopAsked(session.id, call);
      break;
    case Envelope::OPEN_CHANNEL:
      return HandleOpenChannel(session, message);
    case Envelope::CLOSE_CHANNEL:
      HandleCloseChannel(session, envelope.getCloseChannel().getChannel(), call);
      break;
    case Envelope::IMPORTS_CLOSED:
      session.mapping.erase(envelope.getImportsClosed().getGeneration());
      importers_.Closed(envelope.getImportsClosed().getGeneration(), session.id);
      if (session.mapped.erase(envelope.getImportsClosed().getGeneration()) > 0) {
        if (envelope.getImportsClosed().getGeneration() == closing_generation_) ++closed_imports_;
        owner_.OnImportsChanged();
        owner_.OnLeasesChanged();
      }
      break;
    case Envelope::LEASES:
      return HandleLeases(session, message);
    case Envelope::IMPORTED: {
      const uint64_t generation = envelope.getImported().getGeneration();
      if (session.mapping.erase(generation) == 0) break;
      const absl::Status status = ipc::ReadStatus(envelope.getImported().getError());
      if (!status.ok()) {
        log_->warn("front {} could not map the arena of generation {}: {}", session.id, generation,
                   std::string(status.message()));
        session.mapped.erase(generation);
        importers_.Closed(generation, session.id);
        owner_.OnLeasesChanged();  // it holds none of what it could not map
      }
      owner_.OnArenaMapped();
      owner_.OnImportsChanged();
      break;
    }
    default:
      return absl::InvalidArgumentError(
          absl::StrCat("message ", static_cast<int>(envelope.which()), " is not for a server"));
  }
  return absl::OkStatus();
}

absl::Status FrontTable::HandleHello(Session& session, ipc::ControlMessage& message) {
  const auto hello = message.envelope().getHello();
  if (session.said_hello) return absl::InvalidArgumentError("it said hello twice");
  if (hello.getProtocolVersion() != schema::PROTOCOL_VERSION) {
    ReplyError(session.id, message.call(),
               absl::FailedPreconditionError(absl::StrCat(
                   "this server speaks protocol version ", uint32_t{schema::PROTOCOL_VERSION},
                   ", not ", hello.getProtocolVersion(), "; use the same version of Baton")));
    return absl::InvalidArgumentError("it speaks another version of the protocol");
  }
  session.said_hello = true;
  session.is_front = hello.getRole() == schema::Hello::Role::FRONT;
  session.wants_device = session.is_front && hello.getWantsDevice();
  owner_.OnHello(session.id, message.call(), session.is_front);
  return absl::OkStatus();
}

// ---- channels ----

absl::Status FrontTable::HandleOpenChannel(Session& session, ipc::ControlMessage& message) {
  const auto open = message.envelope().getOpenChannel();
  const uint64_t call = message.call();
  if (!session.is_front || call == 0) {
    return absl::InvalidArgumentError("openChannel from who is no front, or awaits no answer");
  }
  if (session.channels.size() >= limits_.max_channels_per_session ||
      channels_.size() >= limits_.max_channels) {
    ReplyError(session.id, call,
               absl::ResourceExhaustedError(absl::StrCat(
                   "there are ", session.channels.size(), " channels of this front and ",
                   channels_.size(), " in all; at most ", limits_.max_channels_per_session, " and ",
                   limits_.max_channels, " may be open. Close some, or share them")));
    return absl::OkStatus();
  }
  ChannelRecord channel;
  channel.session = session.id;
  channel.open_call = call;
  channel.submission = message.TakeFd(0);
  channel.completion = message.TakeFd(1);
  if (open.getHasEvent()) channel.event = message.TakeFd(2);
  if (FromReserve(channel.submission.get()) || FromReserve(channel.completion.get()) ||
      FromReserve(channel.event.get())) {
    ReplyError(session.id, call,
               absl::ResourceExhaustedError(
                   "the server is out of descriptors: close channels, or raise its ulimit -n"));
    return absl::OkStatus();
  }
  channel.submission_bytes = open.getSubmissionBytes();
  channel.completion_bytes = open.getCompletionBytes();
  absl::Status status = CheckChannelDescriptors(channel);
  if (status.ok() && open.getHasEvent() && !channel.event.valid()) {
    status = absl::InvalidArgumentError("openChannel: the eventfd is missing");
  }
  if (status.ok() &&
      std::max(channel.submission_bytes, channel.completion_bytes) > limits_.max_segment_bytes) {
    status = absl::InvalidArgumentError(
        absl::StrCat("openChannel: a segment of more than ", limits_.max_segment_bytes, " bytes"));
  }
  if (status.ok()) {
    status = TakeDeviceSlices(session, open.getDeviceBytes(), open.getDeviceInputBytes(), &channel);
  }
  if (!status.ok()) {
    ReplyError(session.id, call, status);
    return absl::OkStatus();
  }
  channel.channel = ++last_channel_;
  session.channels.insert(channel.channel);
  const auto [it, added] = channels_.emplace(channel.channel, std::move(channel));
  owner_.OnChannelOpened(it->second);
  return absl::OkStatus();
}

void FrontTable::HandleCloseChannel(Session& session, uint64_t channel, uint64_t call) {
  if (!session.channels.contains(channel)) {
    ReplyError(session.id, call,
               absl::NotFoundError(absl::StrCat("this front has no channel ", channel)));
    return;
  }
  DropChannel(session, channel);
  if (call == 0) return;
  capnp::MallocMessageBuilder message;
  auto envelope = message.initRoot<Envelope>();
  envelope.setCall(call);
  envelope.setDone();
  Reply(session.id, message);
}

void FrontTable::DropChannel(Session& session, uint64_t channel) {
  session.channels.erase(channel);
  channels_.erase(channel);
  owner_.OnChannelClosed(channel);
}

void FrontTable::ChannelUsable(uint64_t channel) {
  const auto found = channels_.find(channel);
  if (found == channels_.end() || found->second.open_call == 0) return;
  capnp::MallocMessageBuilder message;
  auto envelope = message.initRoot<Envelope>();
  envelope.setCall(std::exchange(found->second.open_call, 0));
  auto opened = envelope.initChannelOpened();
  opened.setChannel(channel);
  opened.setDeviceOffset(found->second.device_results.offset);
  opened.setDeviceInputOffset(found->second.device_inputs.offset);
  Reply(found->second.session, message);
}

void FrontTable::ChannelRefused(uint64_t channel, const absl::Status& why, bool end_front) {
  const auto found = channels_.find(channel);
  if (found == channels_.end()) return;
  const SessionId id = found->second.session;
  log_->warn("channel {} of front {} was refused: {}", channel, id, std::string(why.message()));
  if (found->second.open_call == 0 && end_front) {
    Close(id, "a worker refused its channel");
    return;
  }
  ReplyError(id, found->second.open_call, why);  // nothing, if it was answered
  if (Session* session = Find(id)) DropChannel(*session, channel);
}

// ---- imports ----

std::string FrontTable::ClosedImports() const {
  return absl::StrCat("acknowledged by ", closed_imports_ - died_with_imports_, " fronts, ",
                      died_with_imports_, " dead, ", cut_off_, " cut off");
}

void FrontTable::AskToClose(uint64_t generation) {
  closing_generation_ = generation;
  closed_imports_ = died_with_imports_ = cut_off_ = 0;
  for (auto& [id, session] : sessions_) {
    if (!session->mapped.contains(generation)) continue;
    capnp::MallocMessageBuilder message;
    message.initRoot<Envelope>().initCloseImports().setGeneration(generation);
    Reply(id, message);
  }
}

void FrontTable::OfferArena(const ipc::ArenaExport& arena) {
  for (auto& [id, session] : sessions_) OfferArena(id, arena);
}

void FrontTable::OfferArena(SessionId id, const ipc::ArenaExport& arena) {
  Session* session = Find(id);
  if (session == nullptr || !session->wants_device || arena.bytes == 0) return;
  if (session->mapped.contains(arena.generation)) return;
  session->mapped.insert(arena.generation);
  session->mapping.insert(arena.generation);
  if (!arena.token.empty()) {
    importers_.Offered(arena.generation, id,
                       session->process ? session->process->identity() : ipc::ProcessIdentity{});
  }
  capnp::MallocMessageBuilder message;
  auto offer = message.initRoot<Envelope>().initImportArena();
  offer.setGeneration(arena.generation);
  offer.setBytes(arena.bytes);
  offer.setToken(
      kj::arrayPtr(reinterpret_cast<const capnp::byte*>(arena.token.data()), arena.token.size()));
  const int fd = arena.fd.get();
  Reply(id, message, std::span(&fd, arena.fd.valid() ? 1 : 0));
}

size_t FrontTable::StillMapping(uint64_t generation) const {
  return static_cast<size_t>(std::count_if(sessions_.begin(), sessions_.end(), [&](auto& entry) {
    return entry.second->mapped.contains(generation);
  }));
}

size_t FrontTable::NotYetMapped(uint64_t generation) const {
  return static_cast<size_t>(std::count_if(sessions_.begin(), sessions_.end(), [&](auto& entry) {
    return entry.second->mapping.contains(generation);
  }));
}

}  // namespace baton::runtime
