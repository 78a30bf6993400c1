#include "runtime/supervisor/secrets.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <memory>
#include <optional>
#include <system_error>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "capnp/message.h"
#include "capnp/serialize.h"
#include "kj/exception.h"

#include "ipc/schema/control.capnp.h"

namespace baton::runtime {

namespace fs = std::filesystem;

namespace {

constexpr size_t kMaxKeyBytes = 255;
// More entries than this in the directory are not looked at.
constexpr size_t kMaxDirectoryEntries = 16384;
// A file of rubbish is named, and does not fill the log: problems told of one file's lines, and of
// the whole directory.
constexpr size_t kMaxLineProblems = 8;
constexpr size_t kMaxProblems = 256;

std::string_view Trim(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n\v\f";
  const size_t first = text.find_first_not_of(kSpace);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kSpace) - first + 1);
}

// Puts together one snapshot within its limits.
class Reader {
 public:
  explicit Reader(const SecretsLimits& limits) : limits_(limits) {}

  void ReadDirectory(const fs::path& directory);
  SecretsSnapshot Take();

 private:
  std::optional<SecretBytes> ReadFile(const fs::path& file, uint64_t max_bytes);
  void ReadDotenv(const fs::path& file);
  void ReadLine(std::string_view line);
  void ReadValueFile(const fs::path& file);
  void Add(std::string_view key, std::string_view value);
  void Problem(const std::string& text);
  // Of the file, or the line, that is being read.
  void ProblemHere(const std::string& what);

  const SecretsLimits limits_;
  SecretsSnapshot snapshot_;
  uint64_t total_bytes_ = 0;
  const fs::path* file_ = nullptr;
  size_t line_ = 0;  // 0: the file is no dotenv
  size_t line_problems_ = 0;
  size_t untold_ = 0;
};

SecretsSnapshot Reader::Take() {
  if (untold_ > 0) {
    snapshot_.problems.push_back(absl::StrCat("and ", untold_, " more problems"));
  }
  return std::move(snapshot_);
}

// A file may be called anything: nothing of it reaches a terminal as it is.
void Reader::Problem(const std::string& text) {
  if (snapshot_.problems.size() >= kMaxProblems) {
    ++untold_;
  } else {
    snapshot_.problems.push_back(absl::Utf8SafeCHexEscape(text));
  }
}

void Reader::ProblemHere(const std::string& what) {
  if (line_ == 0) {
    Problem(absl::StrCat(file_->native(), ": ", what));
  } else if (++line_problems_ <= kMaxLineProblems) {
    Problem(absl::StrCat(file_->native(), ":", line_, ": ", what));
  }
}

void Reader::ReadDirectory(const fs::path& directory) {
  std::vector<fs::path> entries;
  std::error_code error;
  for (fs::directory_iterator it(directory, error), end; !error && it != end; it.increment(error)) {
    if (it->path().filename().native().front() == '.') continue;
    if (entries.size() == kMaxDirectoryEntries) {
      Problem(absl::StrCat(directory.native(), ": more than ", kMaxDirectoryEntries,
                           " entries; the rest is left out"));
      break;
    }
    entries.push_back(it->path());
  }
  if (error && error != std::errc::no_such_file_or_directory) {
    Problem(absl::StrCat(directory.native(), ": cannot be listed: ", error.message()));
  }
  std::sort(entries.begin(), entries.end());
  for (const fs::path& entry : entries) {
    struct stat info;
    if (::stat(entry.c_str(), &info) != 0) {
      // Gone since it was listed: the watcher sees that too.
      if (errno != ENOENT) Problem(absl::StrCat(entry.native(), ": ", ::strerror(errno)));
      continue;
    }
    if (!S_ISDIR(info.st_mode)) {
      ReadValueFile(entry);
    } else if (const fs::path file = entry / entry.filename(); ::stat(file.c_str(), &info) == 0) {
      ReadDotenv(file);
    }
  }
}

std::optional<SecretBytes> Reader::ReadFile(const fs::path& file, uint64_t max_bytes) {
  // O_NONBLOCK: opening a pipe must not wait for a writer.
  const ipc::UniqueFd fd(::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (!fd) {
    if (errno != ENOENT) {
      Problem(absl::StrCat(file.native(), ": cannot be read: ", ::strerror(errno)));
    }
    return std::nullopt;
  }
  struct stat info;
  if (::fstat(fd.get(), &info) != 0 || !S_ISREG(info.st_mode)) {
    Problem(absl::StrCat(file.native(), ": is no regular file"));
    return std::nullopt;
  }
  const auto size = static_cast<uint64_t>(info.st_size);
  SecretBytes bytes(std::min(size, max_bytes) + 1);
  size_t filled = 0;
  while (true) {
    if (filled > max_bytes) {
      Problem(absl::StrCat(file.native(), ": larger than ", max_bytes, " bytes"));
      return std::nullopt;
    }
    if (filled == bytes.size()) bytes.resize(std::min<uint64_t>(filled * 2, max_bytes + 1));
    const ssize_t n = ::read(fd.get(), bytes.data() + filled, bytes.size() - filled);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      Problem(absl::StrCat(file.native(), ": cannot be read: ", ::strerror(errno)));
      return std::nullopt;
    }
    if (n == 0) break;
    filled += static_cast<size_t>(n);
  }
  bytes.resize(filled);
  return bytes;
}

void Reader::ReadDotenv(const fs::path& file) {
  const std::optional<SecretBytes> bytes = ReadFile(file, limits_.max_file_bytes);
  if (!bytes) return;
  std::string_view rest(bytes->data(), bytes->size());
  if (rest.starts_with("\xEF\xBB\xBF")) rest.remove_prefix(3);  // what some editors put first
  if (rest.find('\0') != std::string_view::npos) {
    Problem(absl::StrCat(file.native(), ": has NUL bytes, so it is no dotenv file"));
    return;
  }
  file_ = &file;
  line_problems_ = 0;
  for (line_ = 1; !rest.empty(); ++line_) {
    const size_t end = std::min(rest.find('\n'), rest.size());
    ReadLine(Trim(rest.substr(0, end)));
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  line_ = 0;
  if (line_problems_ > kMaxLineProblems) {
    ProblemHere(absl::StrCat("and ", line_problems_ - kMaxLineProblems, " more lines like these"));
  }
}

// A line may be the rest of a value, what stands before its `=` included: only its place is told.
void Reader::ReadLine(std::string_view line) {
  if (line.empty() || line.front() == '#') return;
  if (line.starts_with("export ") || line.starts_with("export\t")) line = Trim(line.substr(7));
  const size_t split = line.find('=');
  const std::string_view key = Trim(line.substr(0, split));
  if (split == std::string_view::npos) return ProblemHere("no `=`");
  if (!IsSecretKey(key)) {
    return ProblemHere("the key is not made of letters, digits, `_`, `-` and `.`");
  }
  std::string_view value = Trim(line.substr(split + 1));
  if (value.size() >= 2 && value.front() == value.back() &&
      (value.front() == '"' || value.front() == '\'')) {
    value = value.substr(1, value.size() - 2);
  }
  Add(key, value);
}

void Reader::ReadValueFile(const fs::path& file) {
  file_ = &file;
  const std::string key = file.filename().native();
  if (!IsSecretKey(key)) {
    return ProblemHere("its name is no key (letters, digits, `_`, `-`, `.`)");
  }
  const std::optional<SecretBytes> bytes = ReadFile(file, limits_.max_secret_bytes + 2);
  if (!bytes) return;
  std::string_view value(bytes->data(), bytes->size());
  if (value.ends_with('\n')) value.remove_suffix(1);
  if (value.ends_with('\r') && value.size() + 1 == bytes->size()) value.remove_suffix(1);
  if (value.find('\0') != std::string_view::npos) {
    return ProblemHere("has NUL bytes, which no environment can carry");
  }
  Add(key, value);
}

void Reader::Add(std::string_view key, std::string_view value) {
  if (value.size() > limits_.max_secret_bytes) {
    return ProblemHere(absl::StrCat("larger than ", limits_.max_secret_bytes, " bytes"));
  }
  const auto [it, added] = snapshot_.values.try_emplace(std::string(key));
  if (!added) {
    ProblemHere("its key is set more than once; the last one counts");
    total_bytes_ -= it->first.size() + it->second.size();
  }
  if (snapshot_.values.size() > limits_.max_secrets ||
      total_bytes_ + key.size() + value.size() > limits_.max_secrets_total_bytes) {
    snapshot_.values.erase(it);
    return ProblemHere(absl::StrCat("left out: more than ", limits_.max_secrets, " secrets or ",
                                    limits_.max_secrets_total_bytes, " bytes in all"));
  }
  total_bytes_ += key.size() + value.size();
  it->second.assign(value.begin(), value.end());
}

absl::Status ErrnoStatus(const char* what) {
  return absl::InternalError(absl::StrCat(what, " for the secrets: ", ::strerror(errno)));
}

}  // namespace

void WipeBytes(void* data, size_t bytes) {
  if (bytes > 0) ::explicit_bzero(data, bytes);
}

bool IsSecretKey(std::string_view key) {
  if (key.empty() || key.size() > kMaxKeyBytes) return false;
  const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
  const auto ok = [&](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || is_digit(c) || c == '_' ||
           c == '-' || c == '.';
  };
  return !is_digit(key.front()) && std::all_of(key.begin(), key.end(), ok);
}

SecretsSnapshot ReadSecrets(const std::string& directory, const SecretsLimits& limits) {
  Reader reader(limits);
  reader.ReadDirectory(directory);
  return reader.Take();
}

absl::StatusOr<SealedSecrets> SealSecrets(const SecretsSnapshot& snapshot,
                                          const std::string& config) {
  // One segment of our own for the whole message, so that every copy is wiped.
  size_t bytes = 256 + config.size();
  for (const auto& [key, value] : snapshot.values) bytes += key.size() + value.size() + 64;
  std::vector<capnp::word, WipingAllocator<capnp::word>> segment(bytes / sizeof(capnp::word) + 1);
  SealedSecrets sealed;
  sealed.fd.reset(::memfd_create("baton-secrets", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!sealed.fd) return ErrnoStatus("memfd_create");
  try {
    capnp::MallocMessageBuilder message(kj::arrayPtr(segment.data(), segment.size()));
    auto secrets = message.initRoot<ipc::schema::Secrets>();
    secrets.setConfig(config);
    auto entries = secrets.initEntries(static_cast<uint32_t>(snapshot.values.size()));
    uint32_t i = 0;
    for (const auto& [key, value] : snapshot.values) {
      auto entry = entries[i++];
      entry.setKey(key);
      entry.setValue(
          kj::arrayPtr(reinterpret_cast<const capnp::byte*>(value.data()), value.size()));
    }
    capnp::writeMessageToFd(sealed.fd.get(), message);
    sealed.bytes = capnp::computeSerializedSizeInWords(message) * sizeof(capnp::word);
  } catch (const kj::Exception& error) {
    return absl::InternalError(
        absl::StrCat("writing the secrets for the worker: ", error.getDescription().cStr()));
  }
  constexpr int kSeals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
  if (::fcntl(sealed.fd.get(), F_ADD_SEALS, kSeals) != 0) return ErrnoStatus("F_ADD_SEALS");
  return sealed;
}

}  // namespace baton::runtime
