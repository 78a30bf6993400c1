// A regular file, read in pieces that are checked.
//
// Files are read with pread and not mapped: a mapped file that somebody
// truncates kills the reader with SIGBUS, where a short read is an error that
// can be answered (R7).
#ifndef BATON_LOADER_FILE_READER_H_
#define BATON_LOADER_FILE_READER_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "ipc/unique_fd.h"

namespace baton::loader {

// Thread safety: const calls may run at the same time. Owns its descriptor.
class FileReader {
 public:
  // NOT_FOUND, PERMISSION_DENIED or INVALID_ARGUMENT (no regular file), naming
  // the path.
  static absl::StatusOr<FileReader> Open(const std::string& path);

  const std::string& path() const { return path_; }
  // Bytes in the file when it was opened.
  uint64_t size() const { return size_; }

  // Fills all of `to` from `offset` on. DATA_LOSS when the file ends before.
  absl::Status ReadAt(uint64_t offset, std::span<std::byte> to) const;

 private:
  FileReader(std::string path, ipc::UniqueFd fd, uint64_t size);

  std::string path_;
  ipc::UniqueFd fd_;
  uint64_t size_ = 0;
};

// The whole file. RESOURCE_EXHAUSTED when it has more than `max_bytes`.
absl::StatusOr<std::string> ReadWholeFile(const std::string& path, uint64_t max_bytes);

// Writes `pieces` one after the other to a new file that takes the place of
// `path` in one step: a reader sees the old bytes or the new ones.
absl::Status ReplaceFile(const std::string& path,
                         std::span<const std::span<const std::byte>> pieces);

}  // namespace baton::loader

#endif  // BATON_LOADER_FILE_READER_H_
