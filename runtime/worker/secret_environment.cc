#include "runtime/worker/secret_environment.h"

#include <string.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "capnp/serialize.h"
#include "kj/array.h"
#include "kj/exception.h"

#include "ipc/schema/control.capnp.h"

namespace baton::runtime {
namespace {

// Above the supervisor's own limit on a snapshot, framing included.
constexpr uint64_t kMaxSnapshotBytes = 64ull << 20;

// Words that are overwritten when they go.
class WipedWords {
 public:
  explicit WipedWords(size_t bytes)
      : words_((bytes + sizeof(capnp::word) - 1) / sizeof(capnp::word)) {}
  ~WipedWords() { ::explicit_bzero(data(), size_bytes()); }
  WipedWords(const WipedWords&) = delete;
  WipedWords& operator=(const WipedWords&) = delete;

  void* data() { return words_.data(); }
  size_t size_bytes() const { return words_.size() * sizeof(uint64_t); }
  kj::ArrayPtr<const capnp::word> words() const {
    return kj::arrayPtr(reinterpret_cast<const capnp::word*>(words_.data()), words_.size());
  }

 private:
  std::vector<uint64_t> words_;
};

absl::Status ReadAll(int fd, char* to, uint64_t bytes) {
  for (uint64_t done = 0; done < bytes;) {
    const ssize_t got = ::pread(fd, to + done, bytes - done, static_cast<off_t>(done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return absl::ErrnoToStatus(errno, "reading the secrets snapshot");
    if (got == 0) {
      return absl::DataLossError(
          absl::StrCat("the secrets snapshot ends after ", done, " of ", bytes, " bytes"));
    }
    done += static_cast<uint64_t>(got);
  }
  return absl::OkStatus();
}

absl::Status SetOne(const std::string& key, capnp::Data::Reader value,
                    std::vector<std::string>* values) {
  if (key.empty() || key.find('=') != std::string::npos || key.find('\0') != std::string::npos) {
    return absl::InvalidArgumentError(
        absl::StrCat("a secret is named '", key, "', which no environment variable can be"));
  }
  std::string text(reinterpret_cast<const char*>(value.begin()), value.size());
  const bool has_nul = text.find('\0') != std::string::npos;
  const bool set = !has_nul && ::setenv(key.c_str(), text.c_str(), /*overwrite=*/1) == 0;
  if (values != nullptr) values->push_back(text);
  ::explicit_bzero(text.data(), text.size());
  if (has_nul) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the secret ", key, " contains a NUL byte, which an environment variable cannot hold"));
  }
  if (!set) return absl::ResourceExhaustedError(absl::StrCat("no memory for the secret ", key));
  return absl::OkStatus();
}

}  // namespace

absl::Status SetSecretEnvironment(int fd, uint64_t bytes, std::vector<std::string>* values,
                                  std::string* config) {
  if (bytes == 0) return absl::OkStatus();
  if (bytes > kMaxSnapshotBytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a secrets snapshot of ", bytes, " bytes; at most ", kMaxSnapshotBytes, " are taken"));
  }
  WipedWords words(bytes);
  if (absl::Status read = ReadAll(fd, static_cast<char*>(words.data()), bytes); !read.ok()) {
    return read;
  }
  try {
    capnp::ReaderOptions options;
    options.traversalLimitInWords = 4 * words.words().size();
    capnp::FlatArrayMessageReader message(words.words(), options);
    const auto secrets = message.getRoot<ipc::schema::Secrets>();
    if (config != nullptr) {
      config->assign(secrets.getConfig().begin(), secrets.getConfig().size());
    }
    for (const auto entry : secrets.getEntries()) {
      const auto key = entry.getKey();
      absl::Status set = SetOne(std::string(key.begin(), key.size()), entry.getValue(), values);
      if (!set.ok()) return set;
    }
  } catch (const kj::Exception&) {
    // Its description stays out: it may quote what was read.
    return absl::InvalidArgumentError("the secrets snapshot is no Secrets message");
  }
  return absl::OkStatus();
}

}  // namespace baton::runtime
