#include "loader/safetensors.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace baton::loader {
namespace {

static_assert(std::endian::native == std::endian::little, "files are read as they are");

constexpr uint64_t kLengthBytes = sizeof(uint64_t);
constexpr uint64_t kDataAlignment = 8;  // of the data written by SaveSafetensors

absl::Status InFile(const std::string& path, const absl::Status& status) {
  return absl::Status(status.code(), absl::StrCat(path, ": ", status.message()));
}

}  // namespace

SafetensorsFile::SafetensorsFile(FileReader file, SafetensorsHeader header, uint64_t data_offset)
    : file_(std::move(file)), header_(std::move(header)), data_offset_(data_offset) {}

absl::StatusOr<SafetensorsFile> SafetensorsFile::Open(const std::string& path) {
  absl::StatusOr<FileReader> file = FileReader::Open(path);
  if (!file.ok()) return file.status();
  if (file->size() < kLengthBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": ", file->size(), " bytes are too few for a safetensors file"));
  }
  uint64_t header_bytes = 0;
  absl::Status read = file->ReadAt(0, std::as_writable_bytes(std::span(&header_bytes, 1)));
  if (!read.ok()) return read;
  if (header_bytes > file->size() - kLengthBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": a header of ", header_bytes, " bytes does not fit in a file of ",
                     file->size(), " (cut, or not a safetensors file?)"));
  }
  if (header_bytes > kMaxSafetensorsHeaderBytes) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": a header of ", header_bytes,
                                                   " bytes; at most ", kMaxSafetensorsHeaderBytes,
                                                   " are read"));
  }
  std::string json(header_bytes, '\0');
  read = file->ReadAt(kLengthBytes, std::as_writable_bytes(std::span(json)));
  if (!read.ok()) return read;
  const uint64_t data_offset = kLengthBytes + header_bytes;
  absl::StatusOr<SafetensorsHeader> header =
      ParseSafetensorsHeader(json, file->size() - data_offset);
  if (!header.ok()) return InFile(path, header.status());
  return SafetensorsFile(*std::move(file), *std::move(header), data_offset);
}

absl::StatusOr<const StoredTensor*> SafetensorsFile::Find(const std::string& name) const {
  std::vector<std::string> names;
  for (const StoredTensor& tensor : tensors()) {
    if (tensor.spec.name == name) return &tensor;
    constexpr size_t kMaxListed = 20;
    if (names.size() < kMaxListed) names.push_back(absl::Utf8SafeCEscape(tensor.spec.name));
  }
  return absl::NotFoundError(absl::StrCat(path(), ": no tensor '", absl::Utf8SafeCEscape(name),
                                          "'; it has ", absl::StrJoin(names, ", "),
                                          names.size() < tensors().size() ? ", ..." : ""));
}

absl::Status SafetensorsFile::Read(const StoredTensor& tensor, std::span<std::byte> to) const {
  if (to.size() != tensor.bytes) {
    return absl::InternalError(absl::StrCat(path(), ": tensor '", tensor.spec.name, "' has ",
                                            tensor.bytes, " bytes, not ", to.size()));
  }
  absl::Status read = file_.ReadAt(data_offset_ + tensor.offset, to);
  if (read.ok()) return read;
  return absl::Status(read.code(), absl::StrCat(read.message(), ", in tensor '",
                                                absl::Utf8SafeCEscape(tensor.spec.name), "'"));
}

absl::Status SaveSafetensors(const std::string& path, std::span<const TensorToSave> tensors,
                             const std::map<std::string, std::string>& metadata) {
  SafetensorsHeader header{.tensors = {}, .metadata = metadata};
  std::vector<std::span<const std::byte>> pieces(2);  // length and JSON come first
  uint64_t data_bytes = 0;
  for (const TensorToSave& tensor : tensors) {
    header.tensors.push_back(
        {.spec = tensor.spec, .offset = data_bytes, .bytes = tensor.bytes.size()});
    data_bytes += tensor.bytes.size();
    pieces.push_back(tensor.bytes);
  }
  absl::StatusOr<std::string> json = FormatSafetensorsHeader(header);
  if (!json.ok()) return InFile(path, json.status());
  // What we would not read is not written.
  absl::StatusOr<SafetensorsHeader> checked = ParseSafetensorsHeader(*json, data_bytes);
  if (!checked.ok()) return InFile(path, checked.status());
  json->append((kDataAlignment - json->size() % kDataAlignment) % kDataAlignment, ' ');
  const uint64_t length = json->size();
  pieces[0] = std::as_bytes(std::span(&length, 1));
  pieces[1] = std::as_bytes(std::span(*json));
  return ReplaceFile(path, pieces);
}

}  // namespace baton::loader
