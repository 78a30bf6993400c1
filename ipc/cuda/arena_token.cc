#include "ipc/cuda/arena_token.h"

#include <capnp/message.h>
#include <capnp/serialize.h>
#include <kj/exception.h>

#include <cstring>
#include <vector>

#include "absl/strings/str_cat.h"

#include "ipc/schema/device.capnp.h"

namespace baton::ipc::cuda {
namespace {

// A token has a few hundred bytes.
constexpr size_t kMaxTokenBytes = 4096;
constexpr uint64_t kMaxArenaBytes = uint64_t{1} << 46;

kj::ArrayPtr<const capnp::byte> Bytes(const unsigned char* bytes, size_t count) {
  return kj::arrayPtr(reinterpret_cast<const capnp::byte*>(bytes), count);
}

absl::Status Bad(const std::string& what) {
  return absl::InvalidArgumentError(absl::StrCat("the device handle cannot be used: ", what));
}

absl::StatusOr<ArenaToken> Read(schema::DeviceHandle::Reader from) {
  ArenaToken token;
  switch (from.getTransport()) {
    case schema::DeviceHandle::Transport::CUDA_IPC:
      token.transport = Transport::kIpc;
      break;
    case schema::DeviceHandle::Transport::CUDA_VMM:
      token.transport = Transport::kVmm;
      break;
    default:
      return Bad(absl::StrCat("transport ", static_cast<int>(from.getTransport()),
                              " is not known; use one version of Baton on both sides"));
  }
  const auto handle = from.getHandle();
  if (handle.size() != 0) {
    if (handle.size() != sizeof(IpcMemHandle)) {
      return Bad(absl::StrCat("a handle of ", handle.size(), " bytes"));
    }
    std::memcpy(token.handle.emplace().bytes, handle.begin(), sizeof(IpcMemHandle));
  }
  const auto uuid = from.getDeviceUuid();
  if (uuid.size() != sizeof(Uuid)) return Bad(absl::StrCat("a UUID of ", uuid.size(), " bytes"));
  std::memcpy(token.device_uuid.bytes, uuid.begin(), sizeof(Uuid));
  token.base_offset = from.getBaseOffset();
  token.bytes = from.getBytes();
  if (token.bytes == 0 || token.bytes > kMaxArenaBytes || token.base_offset > kMaxArenaBytes) {
    return Bad(absl::StrCat(token.bytes, " bytes at ", token.base_offset));
  }
  token.ordinal = from.getOrdinal();
  token.generation = from.getGeneration();
  token.owner = {.pid = from.getPid(), .start_time = from.getStartTime()};
  if (token.owner.pid <= 0) return Bad(absl::StrCat("an owner with pid ", token.owner.pid));
  return token;
}

}  // namespace

std::string EncodeArenaToken(const ArenaToken& token) {
  capnp::MallocMessageBuilder message;
  auto to = message.initRoot<schema::DeviceHandle>();
  to.setTransport(token.transport == Transport::kVmm ? schema::DeviceHandle::Transport::CUDA_VMM
                                                     : schema::DeviceHandle::Transport::CUDA_IPC);
  if (token.handle) to.setHandle(Bytes(token.handle->bytes, sizeof(IpcMemHandle)));
  to.setBaseOffset(token.base_offset);
  to.setBytes(token.bytes);
  to.setDeviceUuid(Bytes(token.device_uuid.bytes, sizeof(Uuid)));
  to.setOrdinal(token.ordinal);
  to.setGeneration(token.generation);
  to.setPid(token.owner.pid);
  to.setStartTime(token.owner.start_time);
  const kj::Array<capnp::word> words = capnp::messageToFlatArray(message);
  const auto bytes = words.asBytes();
  return {reinterpret_cast<const char*>(bytes.begin()), bytes.size()};
}

absl::StatusOr<ArenaToken> ParseArenaToken(std::string_view bytes) {
  if (bytes.empty() || bytes.size() > kMaxTokenBytes || bytes.size() % sizeof(capnp::word) != 0) {
    return Bad(absl::StrCat("it has ", bytes.size(), " bytes"));
  }
  std::vector<capnp::word> words(bytes.size() / sizeof(capnp::word));
  std::memcpy(words.data(), bytes.data(), bytes.size());
  try {
    capnp::ReaderOptions limits;
    limits.traversalLimitInWords = 2 * kMaxTokenBytes / sizeof(capnp::word);
    limits.nestingLimit = 4;
    capnp::FlatArrayMessageReader message(kj::arrayPtr(words.data(), words.size()), limits);
    return Read(message.getRoot<schema::DeviceHandle>());
  } catch (const kj::Exception& error) {
    return Bad(error.getDescription().cStr());
  }
}

}  // namespace baton::ipc::cuda
