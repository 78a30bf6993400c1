#include "tests/simgpu/sim_process.h"

#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <set>
#include <utility>

namespace baton::testing {

using ipc::UniqueFd;
using ipc::cuda::DevicePtr;
using ipc::cuda::Driver;
using ipc::cuda::Nvml;

void Link::Send(const std::string& text, int descriptor) const {
  iovec bytes = {.iov_base = const_cast<char*>(text.data()), .iov_len = text.size()};
  msghdr message{};
  message.msg_iov = &bytes;
  message.msg_iovlen = 1;
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  if (descriptor >= 0) {
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    cmsghdr* const header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(header), &descriptor, sizeof(int));
  }
  ::sendmsg(socket_.get(), &message, MSG_NOSIGNAL);
}

std::string Link::Receive(UniqueFd* descriptor) const {
  char buffer[1024];
  iovec bytes = {.iov_base = buffer, .iov_len = sizeof(buffer)};
  msghdr message{};
  message.msg_iov = &bytes;
  message.msg_iovlen = 1;
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  ssize_t got = 0;
  do {
    got = ::recvmsg(socket_.get(), &message, MSG_CMSG_CLOEXEC);
  } while (got < 0 && errno == EINTR);
  if (got <= 0) return "";
  if (const cmsghdr* const header = CMSG_FIRSTHDR(&message)) {
    int fd = -1;
    std::memcpy(&fd, CMSG_DATA(header), sizeof(int));
    UniqueFd owned(fd);
    if (descriptor != nullptr) *descriptor = std::move(owned);
  }
  return std::string(buffer, static_cast<size_t>(got));
}

bool Link::HasMessage() const {
  pollfd poll = {.fd = socket_.get(), .events = POLLIN, .revents = 0};
  return ::poll(&poll, 1, 0) > 0;
}

namespace {

// Those of this process: a new one closes its copies of their links, or they
// would not see this end go.
std::set<SimProcess*>& LiveProcesses() {
  static auto* const live = new std::set<SimProcess*>;
  return *live;
}

}  // namespace

SimProcess::SimProcess(const SimGpu& gpu, const std::function<void(Link&)>& body) {
  int pair[2] = {-1, -1};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) std::abort();
  UniqueFd ours(pair[0]);
  UniqueFd theirs(pair[1]);
  const pid_t parent = ::getpid();
  std::fflush(nullptr);
  pid_ = ::fork();
  if (pid_ < 0) std::abort();
  if (pid_ == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) std::_Exit(1);
    ours.reset();
    for (SimProcess* const other : LiveProcesses()) other->link_.Close();
    LiveProcesses().clear();
    gpu.UseInThisProcess();
    Link link(std::move(theirs));
    body(link);
    std::fflush(nullptr);
    std::_Exit(::testing::Test::HasFailure() ? 1 : 0);
  }
  theirs.reset();
  link_ = Link(std::move(ours));
  LiveProcesses().insert(this);
}

SimProcess::~SimProcess() {
  Kill();
  LiveProcesses().erase(this);
}

void SimProcess::Kill() {
  if (pid_ < 0) return;
  ::kill(pid_, SIGKILL);
  while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
  pid_ = -1;
}

void SimProcess::Join() {
  link_.Close();
  int status = 0;
  while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  pid_ = -1;
  EXPECT_TRUE(WIFEXITED(status)) << "signal " << WTERMSIG(status);
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

const Driver& Cuda() {
  const absl::StatusOr<const Driver*> driver = Driver::Get();
  if (!driver.ok()) {
    std::fprintf(stderr, "%s\n", std::string(driver.status().message()).c_str());
    std::_Exit(1);
  }
  return **driver;
}

const Nvml& Management() {
  const absl::StatusOr<const Nvml*> nvml = Nvml::Get();
  if (!nvml.ok()) {
    std::fprintf(stderr, "%s\n", std::string(nvml.status().message()).c_str());
    std::_Exit(1);
  }
  return **nvml;
}

void UseContext(int device) {
  ipc::cuda::Context context = nullptr;
  EXPECT_EQ(Cuda()->DevicePrimaryCtxRetain(&context, device), ipc::cuda::kSuccess);
  EXPECT_EQ(Cuda()->CtxSetCurrent(context), ipc::cuda::kSuccess);
}

uint64_t FreeBytes() {
  size_t free = 0;
  size_t total = 0;
  EXPECT_EQ(Cuda()->MemGetInfo(&free, &total), ipc::cuda::kSuccess);
  return free;
}

DevicePtr MustAlloc(size_t bytes) {
  DevicePtr address = 0;
  EXPECT_EQ(Cuda()->MemAlloc(&address, bytes), ipc::cuda::kSuccess);
  return address;
}

void Upload(DevicePtr to, const std::string& text) {
  EXPECT_EQ(Cuda()->MemcpyHtoD(to, text.data(), text.size()), ipc::cuda::kSuccess);
}

std::string Download(DevicePtr from, size_t bytes) {
  std::string text(bytes, '?');
  EXPECT_EQ(Cuda()->MemcpyDtoH(text.data(), from, bytes), ipc::cuda::kSuccess);
  return text;
}

}  // namespace baton::testing
