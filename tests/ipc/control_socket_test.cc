// The control plane's transport, and the conversions of what it carries.
#include "ipc/control_socket.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <random>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "capnp/dynamic.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "ipc/schema_convert.h"

namespace baton::ipc {
namespace {

using testing::HasSubstr;

constexpr absl::Duration kSoon = absl::Seconds(60);

size_t OpenDescriptors() {
  size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    ++count;
  }
  return count;
}

std::pair<ControlSocket, ControlSocket> Pair() {
  auto pair = ControlSocket::MakePair();
  if (!pair.ok()) std::abort();
  return {std::move(pair->first), ControlSocket(std::move(pair->second))};
}

UniqueFd FileWith(const std::string& text) {
  UniqueFd fd(::memfd_create("test", MFD_CLOEXEC));
  EXPECT_EQ(::write(fd.get(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
  return fd;
}

// A raw packet, as a peer that does not use ControlSocket could send.
void SendRaw(int socket, const void* data, size_t bytes, const std::vector<int>& fds = {}) {
  iovec part = {.iov_base = const_cast<void*>(data), .iov_len = bytes};
  std::vector<char> control(CMSG_SPACE(fds.size() * sizeof(int)));
  msghdr header = {};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  if (!fds.empty()) {
    header.msg_control = control.data();
    header.msg_controllen = control.size();
    cmsghdr* item = CMSG_FIRSTHDR(&header);
    item->cmsg_level = SOL_SOCKET;
    item->cmsg_type = SCM_RIGHTS;
    item->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
    std::memcpy(CMSG_DATA(item), fds.data(), fds.size() * sizeof(int));
  }
  ASSERT_EQ(::sendmsg(socket, &header, MSG_NOSIGNAL), static_cast<ssize_t>(bytes));
}

void FillWelcome(capnp::MessageBuilder& message) {
  auto envelope = message.initRoot<schema::Envelope>();
  envelope.setCall(42);
  auto welcome = envelope.initWelcome();
  welcome.setServer("digits");
  welcome.setGeneration(3);
  const Signature signature = {
      .inputs = {{.name = "image", .dtype = DType::kFloat32, .shape = {kDynamicDim, 64}}},
      .outputs = {{.name = "label", .dtype = DType::kInt64, .shape = {kDynamicDim}},
                  {.name = "score", .dtype = DType::kFloat16, .shape = {}}}};
  WriteSignature(signature, welcome.initSignature());
}

// Everything that a caller could read of a message.
size_t ReadEverything(capnp::DynamicValue::Reader value) {
  size_t count = 1;
  if (value.getType() == capnp::DynamicValue::TEXT) {
    for (const char c : value.as<capnp::Text>()) count += static_cast<size_t>(c == 'x');
  } else if (value.getType() == capnp::DynamicValue::LIST) {
    for (const auto element : value.as<capnp::DynamicList>()) count += ReadEverything(element);
  } else if (value.getType() == capnp::DynamicValue::STRUCT) {
    const auto reader = value.as<capnp::DynamicStruct>();
    for (const auto field : reader.getSchema().getNonUnionFields()) {
      count += ReadEverything(reader.get(field));
    }
    KJ_IF_MAYBE (field, reader.which()) count += ReadEverything(reader.get(*field));
  }
  return count;
}

TEST(ControlSocket, CarriesMessagesAndDescriptors) {
  auto [a, b] = Pair();
  capnp::MallocMessageBuilder message;
  FillWelcome(message);
  const UniqueFd first = FileWith("first");
  const UniqueFd second = FileWith("second");
  const std::array<int, 2> fds = {first.get(), second.get()};
  ASSERT_TRUE(a.Send(message, fds).ok());

  auto received = b.Receive(kSoon);
  ASSERT_TRUE(received.ok()) << received.status();
  // What reads through the message goes on working after a move.
  ControlMessage moved = *std::move(received);
  EXPECT_EQ(moved.call(), 42u);
  ASSERT_TRUE(moved.envelope().isWelcome());
  EXPECT_EQ(ReadText(moved.envelope().getWelcome().getServer()), "digits");
  auto signature = ReadSignature(moved.envelope().getWelcome().getSignature());
  ASSERT_TRUE(signature.ok()) << signature.status();
  EXPECT_EQ(signature->inputs.at(0).shape, (std::vector<int64_t>{kDynamicDim, 64}));
  EXPECT_EQ(signature->outputs.at(1).name, "score");

  ASSERT_EQ(moved.fd_count(), 2u);
  const UniqueFd taken = moved.TakeFd(1);
  EXPECT_FALSE(moved.TakeFd(1).valid());
  EXPECT_FALSE(moved.TakeFd(2).valid());
  char text[16] = {};
  ASSERT_EQ(::pread(taken.get(), text, sizeof(text), 0), 6);
  EXPECT_STREQ(text, "second");
  EXPECT_NE(::fcntl(taken.get(), F_GETFD) & FD_CLOEXEC, 0);
  EXPECT_NE(::fcntl(a.fd(), F_GETFD) & FD_CLOEXEC, 0);
}

TEST(ControlSocket, KeepsPacketsApartAndInOrder) {
  auto [a, b] = Pair();
  for (uint64_t call = 1; call <= 10; ++call) {
    capnp::MallocMessageBuilder message;
    message.initRoot<schema::Envelope>().setCall(call);
    ASSERT_TRUE(a.Send(message).ok());
  }
  for (uint64_t call = 1; call <= 10; ++call) EXPECT_EQ(b.Receive(kSoon)->call(), call);
}

TEST(ControlSocket, ReceiveWaitsNoLongerThanItsTimeout) {
  auto [a, b] = Pair();
  EXPECT_TRUE(absl::IsDeadlineExceeded(b.Receive(absl::ZeroDuration()).status()));
  EXPECT_TRUE(absl::IsDeadlineExceeded(b.Receive(absl::Milliseconds(5)).status()));
}

TEST(ControlSocket, ReceiveWakesUpForAPacket) {
  auto [a, b] = Pair();
  std::thread sender([&a = a] {
    capnp::MallocMessageBuilder message;
    message.initRoot<schema::Envelope>().setStop();
    EXPECT_TRUE(a.Send(message).ok());
  });
  auto received = b.Receive(kSoon);
  sender.join();
  ASSERT_TRUE(received.ok()) << received.status();
  EXPECT_TRUE(received->envelope().isStop());
}

// R10: a peer that does not read costs a bounded wait, not a hang.
TEST(ControlSocket, R10_SendToAPeerThatDoesNotReadEnds) {
  auto [a, b] = Pair();
  capnp::MallocMessageBuilder message;
  message.initRoot<schema::Envelope>().initError().initMessage(32 * 1024);
  absl::Status status;
  for (int i = 0; i < 10000 && status.ok(); ++i)
    status = a.Send(message, {}, absl::Milliseconds(5));
  EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
  // It has lost nothing: once the peer reads, things go on.
  ASSERT_TRUE(b.Receive(kSoon).ok());
  while (b.Receive(absl::ZeroDuration()).ok()) {
  }
  EXPECT_TRUE(a.Send(message).ok());
}

TEST(ControlSocket, APeerThatWentIsUnavailableOnBothWays) {
  auto [a, b] = Pair();
  capnp::MallocMessageBuilder message;
  message.initRoot<schema::Envelope>().setCall(7);
  ASSERT_TRUE(a.Send(message).ok());
  a.Close();
  EXPECT_EQ(b.Receive(kSoon)->call(), 7u);  // what it said before is heard
  EXPECT_TRUE(absl::IsUnavailable(b.Receive(kSoon).status()));
  EXPECT_TRUE(absl::IsUnavailable(b.Send(message)));  // and no SIGPIPE
}

// The kernel tells of a peer that left without reading (ECONNRESET) before it
// gives out what that peer had sent.
TEST(ControlSocket, APeerThatLeftInAHurryIsStillHeard) {
  auto [a, b] = Pair();
  capnp::MallocMessageBuilder message;
  message.initRoot<schema::Envelope>().setCall(7);
  ASSERT_TRUE(a.Send(message).ok());
  ASSERT_TRUE(b.Send(message).ok());
  a.Close();
  auto received = b.Receive(kSoon);
  ASSERT_TRUE(received.ok()) << received.status();
  EXPECT_EQ(received->call(), 7u);
  EXPECT_TRUE(absl::IsUnavailable(b.Receive(kSoon).status()));
}

TEST(ControlSocket, RefusesToSendTooMuch) {
  auto [a, b] = Pair();
  capnp::MallocMessageBuilder large;
  large.initRoot<schema::Envelope>().initError().initMessage(kMaxControlPacketBytes);
  EXPECT_TRUE(absl::IsInvalidArgument(a.Send(large)));
  capnp::MallocMessageBuilder small;
  small.initRoot<schema::Envelope>().setStatus();
  const std::vector<int> fds(kMaxControlFds + 1, a.fd());
  EXPECT_TRUE(absl::IsInvalidArgument(a.Send(small, fds)));
  EXPECT_TRUE(absl::IsDeadlineExceeded(b.Receive(absl::ZeroDuration()).status()));
  EXPECT_TRUE(absl::IsFailedPrecondition(ControlSocket().Send(small)));
  EXPECT_TRUE(absl::IsFailedPrecondition(ControlSocket().Receive(kSoon).status()));
}

TEST(ControlSocket, ClosesTheDescriptorsOfRefusedPackets) {
  auto [a, b] = Pair();
  const UniqueFd file = FileWith("x");
  const size_t before = OpenDescriptors();
  const std::vector<char> large(kMaxControlPacketBytes + 8);
  SendRaw(a.fd(), large.data(), large.size(), {file.get(), file.get()});
  EXPECT_TRUE(absl::IsInvalidArgument(b.Receive(kSoon).status()));
  SendRaw(a.fd(), large.data(), 64, std::vector<int>(kMaxControlFds + 3, file.get()));
  const absl::Status many = b.Receive(kSoon).status();
  EXPECT_TRUE(absl::IsInvalidArgument(many)) << many;
  EXPECT_THAT(std::string(many.message()), HasSubstr("more than 8 descriptors"));
  SendRaw(a.fd(), "odd", 3, {file.get()});
  EXPECT_TRUE(absl::IsInvalidArgument(b.Receive(kSoon).status()));
  const std::vector<char> garbage(64, '\xff');
  SendRaw(a.fd(), garbage.data(), garbage.size(), {file.get()});
  EXPECT_TRUE(absl::IsInvalidArgument(b.Receive(kSoon).status()));
  EXPECT_EQ(OpenDescriptors(), before);
  // The connection itself is none the worse.
  capnp::MallocMessageBuilder message;
  message.initRoot<schema::Envelope>().setCall(1);
  ASSERT_TRUE(a.Send(message).ok());
  EXPECT_TRUE(b.Receive(kSoon).ok());
}

ControlPacket PacketOf(kj::ArrayPtr<const capnp::word> words) {
  return {.words = kj::heapArray(words), .fds = {}};
}

// A33, R6: whatever the bytes, reading either is refused at once or never
// throws afterwards.
TEST(ControlMessage, A33_R6_GarbageIsRefusedOrHarmless) {
  capnp::MallocMessageBuilder message;
  FillWelcome(message);
  const kj::Array<capnp::word> good = capnp::messageToFlatArray(message);
  std::mt19937 random(20240501);
  const auto below = [&random](size_t limit) {
    return std::uniform_int_distribution<size_t>(0, limit - 1)(random);
  };
  int refused = 0;
  int accepted = 0;
  for (int round = 0; round < 20000; ++round) {
    ControlPacket packet = PacketOf(good);
    auto* bytes = reinterpret_cast<unsigned char*>(packet.words.begin());
    const size_t size = packet.words.size() * sizeof(capnp::word);
    for (size_t i = 1 + below(4); i > 0; --i) {
      bytes[below(size)] = static_cast<unsigned char>(below(256));
    }
    if (below(8) == 0) packet.words = kj::heapArray(good.slice(0, below(good.size())));
    auto parsed = ControlMessage::Parse(std::move(packet));
    if (parsed.ok()) {
      ++accepted;
      EXPECT_NO_THROW(ReadEverything(capnp::DynamicStruct::Reader(parsed->envelope())));
      if (parsed->envelope().isWelcome()) {
        ReadSignature(parsed->envelope().getWelcome().getSignature()).status().IgnoreError();
      }
    } else {
      ++refused;
      EXPECT_TRUE(absl::IsInvalidArgument(parsed.status()));
    }
  }
  EXPECT_GT(refused, 1000);
  EXPECT_GT(accepted, 1000);
}

TEST(ControlMessage, EmptyPacketIsRefused) {
  EXPECT_TRUE(absl::IsInvalidArgument(ControlMessage::Parse({}).status()));
}

// Pointers that share a target make a small packet read as a huge message.
TEST(ControlMessage, R6_AmplificationIsRefused) {
  capnp::MallocMessageBuilder message(8192);  // one segment, so no far pointers
  auto envelope = message.initRoot<schema::Envelope>();
  auto inputs = envelope.initWelcome().initSignature().initInputs(1000);
  inputs[0].initShape(2000);
  kj::Array<capnp::word> words = capnp::messageToFlatArray(message);
  ASSERT_LT(words.size() * 8, kMaxControlPacketBytes);
  ASSERT_TRUE(ControlMessage::Parse(PacketOf(words)).ok());
  // Elements are 3 words each: dtype, name, shape. Point all shapes at one.
  uint64_t pointer = 0;
  size_t shape_at = 0;
  for (size_t i = 0; i < words.size() && shape_at == 0; ++i) {
    std::memcpy(&pointer, &words[i], 8);
    // A list pointer: kind 1, 8-byte elements (5), 2000 of them.
    if ((pointer & 3) == 1 && (pointer >> 32) == ((2000u << 3) | 5)) shape_at = i;
  }
  ASSERT_NE(shape_at, 0u);
  const uint64_t target = shape_at + 1 + (pointer >> 2 & 0x3fffffff);
  for (size_t i = 1; i < 1000; ++i) {
    const size_t at = shape_at + 3 * i;
    const uint64_t shared = pointer >> 32 << 32 | (target - at - 1) << 2 | 1;
    std::memcpy(static_cast<void*>(&words[at]), &shared, 8);
  }
  const auto parsed = ControlMessage::Parse(PacketOf(words));
  EXPECT_TRUE(absl::IsInvalidArgument(parsed.status()));
}

class ControlListenerTest : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/baton-test-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    directory_ = name;
    path_ = directory_ + "/control.sock";
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  std::string directory_;
  std::string path_;
};

TEST_F(ControlListenerTest, AcceptsThisUser) {
  auto listener = ControlListener::Listen(path_);
  ASSERT_TRUE(listener.ok()) << listener.status();
  struct stat info;
  ASSERT_EQ(::stat(path_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0600u);
  auto nobody = listener->Accept();
  ASSERT_TRUE(nobody.ok()) << nobody.status();
  EXPECT_FALSE(nobody->has_value());

  auto client = ControlSocket::Connect(path_, kSoon);
  ASSERT_TRUE(client.ok()) << client.status();
  auto server = listener->Accept();
  ASSERT_TRUE(server.ok() && server->has_value()) << server.status();
  EXPECT_EQ((*server)->Peer()->pid, ::getpid());
  EXPECT_EQ((*server)->Peer()->uid, ::geteuid());
  EXPECT_TRUE((*server)->CheckPeer().ok());
  capnp::MallocMessageBuilder message;
  message.initRoot<schema::Envelope>().setCall(5);
  ASSERT_TRUE(client->Send(message).ok());
  EXPECT_EQ((*server)->Receive(kSoon)->call(), 5u);
}

TEST_F(ControlListenerTest, ConnectSaysWhatIsMissing) {
  EXPECT_TRUE(absl::IsNotFound(ControlSocket::Connect(path_, kSoon).status()));
  { ASSERT_TRUE(ControlListener::Listen(path_).ok()); }
  EXPECT_TRUE(absl::IsUnavailable(ControlSocket::Connect(path_, kSoon).status()));
  const std::string deep = directory_ + "/" + std::string(120, 'x');
  const absl::Status status = ControlSocket::Connect(deep, kSoon).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr("107"));
  EXPECT_TRUE(absl::IsInvalidArgument(ControlListener::Listen(deep).status()));
}

TEST_F(ControlListenerTest, WhoSeesTheNameIsNotRefused) {
  std::string unready = path_;
  unready.back() = '~';
  for (int i = 0; i < 500; ++i) {
    std::atomic<bool> watching{false};
    std::atomic<bool> in_vain{false};
    absl::Status connected;
    std::thread client([&] {
      watching = true;
      while (::access(path_.c_str(), F_OK) != 0 && !in_vain) {
      }
      connected = ControlSocket::Connect(path_, kSoon).status();
    });
    while (!watching) std::this_thread::yield();
    const auto listener = ControlListener::Listen(path_);
    in_vain = !listener.ok();
    client.join();
    ASSERT_TRUE(listener.ok()) << listener.status();
    ASSERT_TRUE(connected.ok()) << connected;
    EXPECT_FALSE(std::filesystem::exists(unready));
    ASSERT_TRUE(std::filesystem::remove(path_));
  }
}

TEST_F(ControlListenerTest, ReplacesWhatAKilledOneLeft) {
  std::string unready = path_;
  unready.back() = '~';
  { ASSERT_TRUE(ControlListener::Listen(path_).ok()); }
  std::filesystem::rename(path_, unready);
  const auto listener = ControlListener::Listen(path_);
  ASSERT_TRUE(listener.ok()) << listener.status();
  EXPECT_TRUE(ControlSocket::Connect(path_, kSoon).ok());
  EXPECT_FALSE(std::filesystem::exists(unready));
}

TEST_F(ControlListenerTest, ReplacesAStaleSocketAndNothingElse) {
  { ASSERT_TRUE(ControlListener::Listen(path_).ok()); }
  auto listener = ControlListener::Listen(path_);
  ASSERT_TRUE(listener.ok()) << listener.status();
  EXPECT_TRUE(ControlSocket::Connect(path_, kSoon).ok());
  const std::string file = directory_ + "/precious";
  ASSERT_TRUE(UniqueFd(::open(file.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600)).valid());
  EXPECT_TRUE(absl::IsFailedPrecondition(ControlListener::Listen(file).status()));
  EXPECT_TRUE(std::filesystem::exists(file));
}

TEST_F(ControlListenerTest, R10_ConnectToAServerThatDoesNotAcceptEnds) {
  auto listener = ControlListener::Listen(path_);
  ASSERT_TRUE(listener.ok()) << listener.status();
  std::vector<ControlSocket> waiting;
  absl::Status status;
  for (int i = 0; i < 5000 && status.ok(); ++i) {
    auto client = ControlSocket::Connect(path_, absl::Milliseconds(5));
    status = client.status();
    if (client.ok()) waiting.push_back(*std::move(client));
  }
  EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
}

TEST_F(ControlListenerTest, RefusesAnotherUser) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can become another user";
  auto listener = ControlListener::Listen(path_);
  ASSERT_TRUE(listener.ok()) << listener.status();
  // What keeps others out in the first place is taken away for this test.
  ASSERT_EQ(::chmod(directory_.c_str(), 0755), 0);
  ASSERT_EQ(::chmod(path_.c_str(), 0666), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    if (::setuid(65534) != 0) ::_exit(2);
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path_.c_str(), sizeof(address.sun_path) - 1);
    const int fd = ::socket(AF_UNIX, SOCK_SEQPACKET, 0);
    ::_exit(::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0 ? 0 : 3);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_EQ(status, 0);
  EXPECT_TRUE(absl::IsPermissionDenied(listener->Accept().status()));
}

TEST(SchemaConvert, StatusRoundTrips) {
  capnp::MallocMessageBuilder message;
  auto error = message.initRoot<schema::Error>();
  for (const absl::Status& status : {absl::OkStatus(), absl::UnavailableError("no worker"),
                                     absl::NotFoundError(""), absl::UnauthenticatedError("grün")}) {
    WriteStatus(status, error);
    EXPECT_EQ(ReadStatus(error.asReader()), status);
  }
  error.setCode(12345);
  error.setMessage("from the future");
  EXPECT_EQ(ReadStatus(error.asReader()), absl::UnknownError("from the future"));
  // Cut between two letters, not inside one.
  std::string text = "x";
  while (text.size() < 2 * kMaxErrorBytes) text += "ü";
  WriteStatus(absl::InternalError(text), error);
  EXPECT_EQ(std::string(ReadStatus(error.asReader()).message()),
            text.substr(0, kMaxErrorBytes - 1));
}

TEST(SchemaConvert, SignatureOutsideTheLimitsIsRefused) {
  const TensorSpec good = {.name = "x", .dtype = DType::kInt8, .shape = {1, kDynamicDim}};
  const auto read = [](const Signature& signature) {
    capnp::MallocMessageBuilder message;
    auto to = message.initRoot<schema::Signature>();
    WriteSignature(signature, to);
    return ReadSignature(to.asReader());
  };
  const TensorSpec open = {.name = "y",
                           .dtype = DType::kAny,
                           .shape = {kAnyRank},
                           .content = Content::kValue,
                           .optional = true,
                           .streamed = true,
                           .type_text = "list[str]",
                           .default_text = "[]"};
  const Signature fine = {.inputs = {good, open}, .outputs = {good, good}};
  EXPECT_EQ(*read(fine), fine);
  EXPECT_EQ(*read({}), Signature());
  const auto refused = [&](TensorSpec spec) {
    return absl::IsInvalidArgument(read({.inputs = {good}, .outputs = {std::move(spec)}}).status());
  };
  EXPECT_TRUE(refused({.name = "", .dtype = DType::kInt8, .shape = {}}));
  EXPECT_TRUE(refused({.name = std::string(256, 'n'), .dtype = DType::kInt8, .shape = {}}));
  EXPECT_TRUE(refused({.name = "x", .dtype = DType::kInvalid, .shape = {}}));
  EXPECT_TRUE(refused({.name = "x", .dtype = static_cast<DType>(kMaxDType + 1), .shape = {}}));
  EXPECT_TRUE(refused({.name = "x", .dtype = DType::kInt8, .shape = {-3}}));
  EXPECT_TRUE(refused({.name = "x", .dtype = DType::kInt8, .shape = {1, kAnyRank}}));
  EXPECT_TRUE(refused({.name = "x", .dtype = DType::kInt8, .shape = {}, .optional = true}))
      << "an output";
  EXPECT_TRUE(refused(
      {.name = "x", .dtype = DType::kInt8, .shape = std::vector<int64_t>(kMaxRank + 1, 1)}));
  Signature many;
  many.inputs.assign(kMaxTensors + 1, good);
  EXPECT_TRUE(absl::IsInvalidArgument(read(many).status()));
}

}  // namespace
}  // namespace baton::ipc
