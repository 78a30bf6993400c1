// A snapshot of a secrets directory: what the next worker finds in its
// environment.
//
// Thread safety: plain values; ReadSecrets may be called from any thread.
//
// Two layouts, in one directory if need be (A11):
//   <dir>/<name>/<name>   a dotenv file: KEY=value lines
//   <dir>/<key>           the file's content is the value (Kubernetes mounts a
//                         secret like this, through a `..data` symlink)
// Names that start with a dot are not looked at (`..data` and its targets,
// editors' temporary files).
//
// dotenv: blank lines and lines whose first character is `#` are skipped; an
// `export ` in front is ignored; the first `=` splits, so that a value may hold
// more of them; key and value are trimmed; one pair of matching quotes around
// the value is taken off. There is no escape, no expansion and no comment after
// a value: what stands there is the value.
//
// Files of one value keep their bytes, but for one line end (\n or \r\n) at the
// very end, which editors and `echo` add and nobody means.
//
// No function here puts a value, or a line that might be one, into a message,
// and values are overwritten when their memory is given back (A16).
#ifndef BATON_RUNTIME_SUPERVISOR_SECRETS_H_
#define BATON_RUNTIME_SUPERVISOR_SECRETS_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "ipc/unique_fd.h"

namespace baton::runtime {

// Overwrites `bytes` at `data`, in a way that no compiler leaves out.
void WipeBytes(void* data, size_t bytes);

// Overwrites memory before it is given back, growth included.
template <typename T>
struct WipingAllocator {
  using value_type = T;
  WipingAllocator() = default;
  template <typename U>
  WipingAllocator(const WipingAllocator<U>&) {}
  T* allocate(size_t n) { return std::allocator<T>().allocate(n); }
  void deallocate(T* p, size_t n) {
    WipeBytes(p, n * sizeof(T));
    std::allocator<T>().deallocate(p, n);
  }
  friend bool operator==(const WipingAllocator&, const WipingAllocator&) { return true; }
};

using SecretBytes = std::vector<char, WipingAllocator<char>>;

struct SecretsLimits {
  uint64_t max_secret_bytes = 64 * 1024;           // one value
  uint64_t max_file_bytes = 1024 * 1024;           // one dotenv file
  uint64_t max_secrets_total_bytes = 1024 * 1024;  // all keys and values
  uint32_t max_secrets = 4096;                     // how many
};

struct SecretsSnapshot {
  std::map<std::string, SecretBytes> values;
  // What was left out and why, naming file and line, never a value, nor what
  // stands where a key should: it may be the rest of a value. Sorted as the
  // files are, so that equal directories give equal lists; a few of each file.
  std::vector<std::string> problems;

  bool SameValues(const SecretsSnapshot& other) const { return values == other.values; }
};

// Reads `directory`; one that does not exist is empty. What cannot be used
// (unreadable, too large, a NUL byte, a bad key, no regular file) is left out
// and told in `problems`. Never waits on a pipe or a device.
SecretsSnapshot ReadSecrets(const std::string& directory, const SecretsLimits& limits = {});

// The snapshot as a schema::Secrets message (standard framing) in a memfd that
// nobody can change any more, and with it the text of config.yaml that goes
// with this worker (empty: it reads the file itself).
struct SealedSecrets {
  ipc::UniqueFd fd;
  uint64_t bytes = 0;
};
absl::StatusOr<SealedSecrets> SealSecrets(const SecretsSnapshot& snapshot,
                                          const std::string& config = "");

// Letters, digits, `_`, `-` and `.`, not starting with a digit; at most 255 bytes.
bool IsSecretKey(std::string_view key);

}  // namespace baton::runtime

#endif  // BATON_RUNTIME_SUPERVISOR_SECRETS_H_
