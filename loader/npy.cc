#include "loader/npy.h"

#include <array>
#include <cstring>
#include <optional>
#include <string_view>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "loader/file_reader.h"
#include "loader/npy_header.h"

namespace baton::loader {
namespace {

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr size_t kVersionBytes = 2;
constexpr size_t kMaxHeaderBytes = 64 * 1024;
constexpr size_t kDataAlignment = 64;  // as NumPy writes it

constexpr struct {
  const char* descr;
  DType dtype;
} kDTypes[] = {{"|b1", DType::kBool},    {"|u1", DType::kUInt8},   {"|i1", DType::kInt8},
               {"<u2", DType::kUInt16},  {"<i2", DType::kInt16},   {"<u4", DType::kUInt32},
               {"<i4", DType::kInt32},   {"<u8", DType::kUInt64},  {"<i8", DType::kInt64},
               {"<f2", DType::kFloat16}, {"<f4", DType::kFloat32}, {"<f8", DType::kFloat64}};

absl::Status Invalid(const std::string& name, const std::string& message) {
  return absl::InvalidArgumentError(absl::StrCat(name, ": ", message));
}

absl::StatusOr<DType> DTypeFromDescr(const std::string& name, std::string descr) {
  // Single bytes have no byte order: '<u1' is '|u1'.
  if (descr.ends_with("1") && (descr.starts_with("<") || descr.starts_with("="))) descr[0] = '|';
  for (const auto& entry : kDTypes) {
    if (descr == entry.descr) return entry.dtype;
  }
  std::string hint;
  if (descr.starts_with(">")) hint = "; it is big-endian: save array.astype('<' + ...)";
  return Invalid(name, absl::StrCat("Baton has no dtype for NumPy's '",
                                    absl::Utf8SafeCEscape(descr), "'", hint));
}

std::optional<std::string> DescrFromDType(DType dtype) {
  for (const auto& entry : kDTypes) {
    if (entry.dtype == dtype) return entry.descr;
  }
  return std::nullopt;
}

}  // namespace

absl::StatusOr<NpyArray> ParseNpy(const std::string& name, std::span<const std::byte> file) {
  const std::string_view text(reinterpret_cast<const char*>(file.data()), file.size());
  if (!text.starts_with(kMagic) || text.size() < kMagic.size() + kVersionBytes) {
    return Invalid(name, "not an .npy file");
  }
  const int major = text[kMagic.size()];
  if (major < 1 || major > 3) return Invalid(name, absl::StrCat("unknown .npy version ", major));
  const size_t length_bytes = major == 1 ? 2 : 4;
  const size_t header_offset = kMagic.size() + kVersionBytes + length_bytes;
  if (text.size() < header_offset) return Invalid(name, "cut in its header");
  uint32_t header_bytes = 0;
  std::memcpy(&header_bytes, text.data() + header_offset - length_bytes, length_bytes);
  if (header_bytes > kMaxHeaderBytes) {
    return Invalid(name, absl::StrCat("a header of ", header_bytes, " bytes; at most ",
                                      kMaxHeaderBytes, " are read"));
  }
  if (text.size() - header_offset < header_bytes) return Invalid(name, "cut in its header");
  const absl::StatusOr<NpyHeader> header = ParseNpyHeader(text.substr(header_offset, header_bytes));
  if (!header.ok()) return Invalid(name, std::string(header.status().message()));
  const absl::StatusOr<DType> dtype = DTypeFromDescr(name, header->descr);
  if (!dtype.ok()) return dtype.status();
  if (header->fortran_order && header->shape.size() > 1) {
    return Invalid(name, "in Fortran order; save numpy.ascontiguousarray(array)");
  }
  const std::span<const std::byte> data = file.subspan(header_offset + header_bytes);
  const std::optional<uint64_t> bytes = TensorBytes(*dtype, header->shape);
  if (!bytes || *bytes != data.size()) {
    return Invalid(name, absl::StrCat("holds ", data.size(), " bytes, but ",
                                      ToString({"array", *dtype, header->shape}), " takes ",
                                      bytes ? absl::StrCat(*bytes) : "too many"));
  }
  return NpyArray{.dtype = *dtype, .shape = header->shape, .bytes = {data.begin(), data.end()}};
}

absl::StatusOr<NpyArray> LoadNpy(const std::string& path) {
  constexpr uint64_t kMaxFileBytes = uint64_t{1} << 40;
  const absl::StatusOr<std::string> file = ReadWholeFile(path, kMaxFileBytes);
  if (!file.ok()) return file.status();
  return ParseNpy(path, std::as_bytes(std::span(*file)));
}

absl::Status SaveNpy(const std::string& path, DType dtype, std::span<const int64_t> shape,
                     std::span<const std::byte> bytes) {
  const std::optional<std::string> descr = DescrFromDType(dtype);
  if (!descr) {
    return Invalid(path, absl::StrCat("NumPy has no ", std::string(DTypeName(dtype)),
                                      "; save it as safetensors"));
  }
  const std::optional<uint64_t> wanted = TensorBytes(dtype, shape);
  if (!wanted || *wanted != bytes.size()) {
    return Invalid(path, absl::StrCat(bytes.size(), " bytes are not those of the shape"));
  }
  std::string header =
      absl::StrCat("{'descr': '", *descr, "', 'fortran_order': False, 'shape': (",
                   absl::StrJoin(shape, ", "), shape.size() == 1 ? "," : "", "), }");
  constexpr size_t kPrefixBytes = 10;  // magic, version, length
  const size_t unpadded = kPrefixBytes + header.size() + 1;
  header.append((kDataAlignment - unpadded % kDataAlignment) % kDataAlignment, ' ');
  header += '\n';
  const auto length = static_cast<uint16_t>(header.size());
  std::string prefix(kMagic);
  prefix += {'\x01', '\x00', static_cast<char>(length & 0xff), static_cast<char>(length >> 8)};
  const std::array<std::span<const std::byte>, 3> pieces = {
      std::as_bytes(std::span(prefix)), std::as_bytes(std::span(header)), bytes};
  return ReplaceFile(path, pieces);
}

}  // namespace baton::loader
