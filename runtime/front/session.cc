#include "runtime/front/session.h"

#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <utility>

#include "absl/strings/str_cat.h"
#include "capnp/message.h"

#include "ipc/eventfd.h"
#include "ipc/futex.h"
#include "ipc/schema/control.capnp.h"
#include "ipc/schema_convert.h"

namespace baton::internal {
namespace {

namespace schema = ipc::schema;

// How often it is looked whether a generation that is closing is gone, where
// nobody would say so; and how soon what could not be sent is sent again.
constexpr int kReapedPollMs = 20;

// Bumped in the child of every fork: what was opened before belongs to the
// parent.
std::atomic<uint32_t> fork_epoch{0};

void RegisterForkHandler() {
  static const int registered = ::pthread_atfork(
      nullptr, nullptr, [] { fork_epoch.fetch_add(1, std::memory_order_relaxed); });
  static_cast<void>(registered);
}

absl::Status BadWelcome(const std::string& what) {
  return absl::FailedPreconditionError(
      absl::StrCat("the server's welcome cannot be used: ", what,
                   ". Use the same version of Baton on both sides"));
}

template <typename Page>
absl::StatusOr<ipc::Segment> MapPage(int fd, uint64_t magic, const char* what) {
  absl::StatusOr<ipc::Segment> page =
      ipc::Segment::Map(fd, ipc::kPageBytes, ipc::SegmentAccess::kReadOnly);
  if (!page.ok()) return page.status();
  const auto* view = reinterpret_cast<const Page*>(page->data());
  const uint32_t version = view->version.load(std::memory_order_acquire);  // SYNC: page_ready
  if (version >> 16 != ipc::kPageVersion >> 16) {
    return BadWelcome(absl::StrCat(what, " has version ", version >> 16));
  }
  if (view->magic != magic) return BadWelcome(absl::StrCat(what, " has a wrong magic"));
  return page;
}

}  // namespace

uint32_t Session::ForkEpoch() { return fork_epoch.load(std::memory_order_relaxed); }

Session::Session(ipc::ControlSocket socket, const FrontOptions& options)
    : options_(options), socket_(std::move(socket)) {}

absl::StatusOr<std::shared_ptr<Session>> Session::Connect(const std::string& path,
                                                          const FrontOptions& options) {
  RegisterForkHandler();
  absl::StatusOr<ipc::ControlSocket> socket =
      ipc::ControlSocket::Connect(path, options.connect_timeout);
  if (!socket.ok()) return socket.status();
  std::shared_ptr<Session> session(new Session(*std::move(socket), options));
  if (absl::Status status = session->Handshake(); !status.ok()) return status;
  absl::StatusOr<ipc::UniqueFd> wake = ipc::CreateEventFd();
  if (!wake.ok()) return wake.status();
  session->wake_ = *std::move(wake);

  // The service's signals are its own business: none is handled on our thread.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  try {
    session->thread_ = std::thread([raw = session.get()] { raw->Run(); });
  } catch (const std::system_error& error) {
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return absl::ResourceExhaustedError(
        absl::StrCat("cannot start the front's thread: ", error.what()));
  }
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return session;
}

absl::Status Session::Handshake() {
  capnp::MallocMessageBuilder message;
  auto hello = message.initRoot<schema::Envelope>().initHello();
  message.getRoot<schema::Envelope>().setCall(next_call_++);
  hello.setProtocolVersion(schema::PROTOCOL_VERSION);
  hello.setRole(schema::Hello::Role::FRONT);
  hello.setWantsDevice(options_.import_device);
  if (absl::Status status = socket_.Send(message); !status.ok()) return status;
  absl::StatusOr<ipc::ControlMessage> reply = socket_.Receive(options_.connect_timeout);
  if (!reply.ok()) return reply.status();
  const schema::Envelope::Reader envelope = reply->envelope();
  if (envelope.isError()) return ipc::ReadStatus(envelope.getError());
  if (!envelope.isWelcome()) return BadWelcome("it is some other message");
  return ReadWelcome(*std::move(reply));
}

absl::Status Session::ReadWelcome(ipc::ControlMessage welcome) {
  const schema::Welcome::Reader reader = welcome.envelope().getWelcome();
  if (reader.getProtocolVersion() != schema::PROTOCOL_VERSION) {
    return BadWelcome(absl::StrCat("protocol version ", reader.getProtocolVersion()));
  }
  if (welcome.fd_count() < 3) return BadWelcome("it lacks the pages or the doorbell");
  server_ = ipc::ReadText(reader.getServer());
  max_request_bytes_ = reader.getMaxRequestBytes();
  absl::StatusOr<std::vector<Method>> methods = ipc::ReadModel(reader);
  if (!methods.ok()) return methods.status();
  methods_ = *std::move(methods);
  absl::StatusOr<ipc::Segment> status_page =
      MapPage<ipc::StatusPage>(welcome.TakeFd(0).get(), ipc::kStatusPageMagic, "the status page");
  if (!status_page.ok()) return status_page.status();
  status_page_ = *std::move(status_page);
  absl::StatusOr<ipc::Segment> worker_page =
      MapPage<ipc::WorkerPage>(welcome.TakeFd(1).get(), ipc::kWorkerPageMagic, "the worker page");
  if (!worker_page.ok()) return worker_page.status();
  worker_page_ = *std::move(worker_page);
  doorbell_ = welcome.TakeFd(2);
  return absl::OkStatus();
}

Session::~Session() {
  if (forked()) {
    // The thread, the server and the connection are the parent's.
    if (thread_.joinable()) thread_.detach();
    if (own_server_) static_cast<void>(new ipc::ChildProcess(*std::move(own_server_)));
    // Their mappings are not here (MADV_DONTFORK), and something else may be:
    // never unmapped, so that nothing of this process's is.
    static_cast<void>(new ipc::Segment(std::move(status_page_)));
    static_cast<void>(new ipc::Segment(std::move(worker_page_)));
    leases_.Abandon();
    device_thread_.Abandon();
    return;
  }
  if (thread_.joinable() && thread_.get_id() == std::this_thread::get_id()) {
    // The callback let go of the last handle.
    *destroyed_ = true;
    thread_.detach();
    CloseBeforeLeaving();
  } else if (thread_.joinable()) {
    stopping_ = true;
    ipc::SignalEventFd(wake_.get());
    thread_.join();
  }
  // Also where a forked child still holds the descriptor.
  ::shutdown(socket_.fd(), SHUT_RDWR);
  socket_.Close();
  EndOwnServer();
}

void Session::OwnServer(ipc::ChildProcess server, ipc::UniqueFd life) {
  own_server_.emplace(std::move(server));
  life_ = std::move(life);
}

void Session::EndOwnServer() {
  if (!own_server_ || forked()) return;
  // Ends it also where a forked child still holds the descriptor.
  ::shutdown(life_.get(), SHUT_RDWR);
  life_.reset();
  // ChildProcess kills what has not ended; give a tidy end a chance first.
  static_cast<void>(own_server_->Reap(absl::Seconds(15)));
  own_server_.reset();
}

void Session::Run() {
  ::pthread_setname_np(::pthread_self(), "baton-front");
  bool destroyed = false;
  destroyed_ = &destroyed;
  const auto tell = options_.on_generation;  // its own: it may be what ends *this
  while (Turn()) {
    for (const Notice notice : std::exchange(notices_, {})) {
      if (tell == nullptr) continue;
      try {
        tell(notice.event, notice.generation);
      } catch (...) {  // the service's own affair
      }
      if (destroyed) return;
    }
  }
  if (stopping_) CloseBeforeLeaving();
  // The server must not wait for answers that will not come.
  ::shutdown(socket_.fd(), SHUT_RDWR);
  MarkGone();
}

bool Session::Turn() {
  pollfd fds[2] = {{.fd = socket_.fd(), .events = POLLIN, .revents = 0},
                   {.fd = wake_.get(), .events = POLLIN, .revents = 0}};
  const int timeout_ms = closing_.empty() && !unsent_ ? -1 : kReapedPollMs;
  if (::poll(fds, 2, timeout_ms) < 0 && errno != EINTR) return false;
  if (fds[1].revents != 0) {
    // Before the look at what is due: what comes after it signals again.
    ipc::DrainEventFd(wake_.get());
    if (stopping_) return false;
    for (const DeviceThread::Job& done : device_thread_.TakeDone()) done();
    SendDue();
  } else if (unsent_ || !closing_.empty()) {
    SendDue();  // also what has not been read yet may have been meanwhile
  }
  if (fds[0].revents != 0) {
    absl::StatusOr<ipc::ControlMessage> message = socket_.Receive(absl::ZeroDuration());
    if (message.ok()) {
      Handle(*std::move(message));
    } else if (!absl::IsDeadlineExceeded(message.status())) {
      return false;
    }
  }
  NoteReaped();
  return true;
}

void Session::MarkGone() {
  gone_.store(true, std::memory_order_release);
  // Before the arenas: who sees that none is mapped sees that none is closing, too.
  closing_generation_.store(0, std::memory_order_release);
  event_word_.fetch_add(1, std::memory_order_release);
  ipc::FutexWakeAll(&event_word_);
  // Nobody is left who would close them for the next generation.
  for (std::unique_ptr<LeasedArena>& arena : leases_.ServerGone()) LetGo(std::move(arena), [] {});
  device_thread_.Discard();
  const std::lock_guard lock(mutex_);
  for (auto& [call, pending] : pending_) {
    if (pending.done) continue;
    pending.done = true;
    pending.status =
        absl::UnavailableError(absl::StrCat("server '", server_, "' ended before it answered"));
  }
  answered_.notify_all();
}

void Session::Handle(ipc::ControlMessage message) {
  const schema::Envelope::Reader envelope = message.envelope();
  switch (envelope.which()) {
    case schema::Envelope::IMPORT_ARENA:
      Import(std::move(message));
      break;
    case schema::Envelope::CLOSE_IMPORTS:
      CloseImports(envelope.getCloseImports().getGeneration());
      break;
    case schema::Envelope::GENERATION_CLOSING:
      StartClosing(envelope.getCall(), envelope.getGenerationClosing().getGeneration());
      break;
    case schema::Envelope::GENERATION_KEPT:
      KeepGeneration(envelope.getGenerationKept().getGeneration());
      break;
    case schema::Envelope::CHANNEL_OPENED:
      Answer(envelope.getCall(), absl::OkStatus(),
             {.channel = envelope.getChannelOpened().getChannel(),
              .device_offset = envelope.getChannelOpened().getDeviceOffset(),
              .device_input_offset = envelope.getChannelOpened().getDeviceInputOffset()});
      break;
    case schema::Envelope::ERROR:
      Answer(envelope.getCall(), ipc::ReadStatus(envelope.getError()), {});
      break;
    default:
      break;  // answers that nobody waits for
  }
}

// ---- Calls -------------------------------------------------------------------------------------

void Session::Answer(uint64_t call, absl::Status status, const OpenedChannel& opened) {
  std::unique_lock lock(mutex_);
  const auto pending = pending_.find(call);
  if (pending == pending_.end()) {
    lock.unlock();
    // Opened too late: who asked for it has given up.
    if (status.ok() && opened.channel != 0) CloseChannel(opened.channel);
    return;
  }
  pending->second.done = true;
  pending->second.status = std::move(status);
  pending->second.opened = opened;
  answered_.notify_all();
}

absl::Status Session::Send(capnp::MessageBuilder& message, std::span<const int> fds) {
  const std::lock_guard lock(send_mutex_);
  return socket_.Send(message, fds);
}

absl::StatusOr<Session::OpenedChannel> Session::OpenChannel(const ChannelFds& fds) {
  uint64_t call;
  {
    const std::lock_guard lock(mutex_);
    call = next_call_++;
    pending_[call];
  }
  capnp::MallocMessageBuilder message;
  auto envelope = message.initRoot<schema::Envelope>();
  envelope.setCall(call);
  auto open = envelope.initOpenChannel();
  open.setRingEntries(fds.ring_entries);
  open.setSubmissionBytes(fds.submission_bytes);
  open.setCompletionBytes(fds.completion_bytes);
  open.setHasEvent(fds.event >= 0);
  open.setDeviceBytes(fds.device_bytes);
  open.setDeviceInputBytes(fds.device_input_bytes);
  const int passed[3] = {fds.submission, fds.completion, fds.event};
  const absl::Status sent =
      gone() ? absl::UnavailableError(absl::StrCat("server '", server_, "' is gone"))
             : Send(message, std::span(passed, fds.event >= 0 ? 3 : 2));
  std::unique_lock lock(mutex_);
  if (!sent.ok()) {
    pending_.erase(call);
    return sent;
  }
  const bool answered =
      answered_.wait_for(lock, absl::ToChronoNanoseconds(options_.connect_timeout),
                         [&] { return pending_[call].done; });
  const PendingCall result = pending_[call];
  pending_.erase(call);
  if (!answered) {
    return absl::DeadlineExceededError(absl::StrCat(
        "server '", server_, "' did not open the channel within ",
        absl::FormatDuration(options_.connect_timeout), ": see `shmctl status ", server_, "`"));
  }
  if (!result.status.ok()) return result.status;
  return result.opened;
}

void Session::CloseChannel(uint64_t channel) {
  if (gone() || forked()) return;
  capnp::MallocMessageBuilder message;
  message.initRoot<schema::Envelope>().initCloseChannel().setChannel(channel);
  static_cast<void>(Send(message));
}

}  // namespace baton::internal
