// Tensors in safetensors files: read into memory of the caller, and written.
#ifndef BATON_LOADER_SAFETENSORS_H_
#define BATON_LOADER_SAFETENSORS_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "baton/tensor.h"
#include "loader/file_reader.h"
#include "loader/safetensors_header.h"

namespace baton::loader {

// An open file whose header was checked. Tensors are read with pread into the
// caller's memory, not mapped: a file that is cut while it is staged gives
// DATA_LOSS, not SIGBUS (R7).
//
// Thread safety: const calls may run at the same time.
class SafetensorsFile {
 public:
  // INVALID_ARGUMENT "path: tensor 'x': what" for a bad file; the errors of
  // FileReader. Cost: reads and parses the header only.
  static absl::StatusOr<SafetensorsFile> Open(const std::string& path);

  const std::string& path() const { return file_.path(); }
  // In the order in which they lie in the file.
  const std::vector<StoredTensor>& tensors() const { return header_.tensors; }
  const std::map<std::string, std::string>& metadata() const { return header_.metadata; }

  // NOT_FOUND names the file and the tensors it has.
  absl::StatusOr<const StoredTensor*> Find(const std::string& name) const;

  // Reads one of tensors() to `to`, which has its size.
  absl::Status Read(const StoredTensor& tensor, std::span<std::byte> to) const;

 private:
  SafetensorsFile(FileReader file, SafetensorsHeader header, uint64_t data_offset);

  FileReader file_;
  SafetensorsHeader header_;
  uint64_t data_offset_;
};

// A tensor to write; the bytes are the caller's.
struct TensorToSave {
  TensorSpec spec;
  std::span<const std::byte> bytes;
};

// Writes a file that replaces `path` in one step. INVALID_ARGUMENT when a
// tensor's bytes are not those of its dtype and shape, or a name comes twice.
absl::Status SaveSafetensors(const std::string& path, std::span<const TensorToSave> tensors,
                             const std::map<std::string, std::string>& metadata = {});

}  // namespace baton::loader

#endif  // BATON_LOADER_SAFETENSORS_H_
