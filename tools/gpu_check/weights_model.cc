// The model that gpu_check measures servers with: weights of any size, and
// answers of any size with no work in them. Options (native: {options: ...}):
//
//   weights_bytes  device memory that it takes (default: 0)
//   weights_file   what is uploaded, from its start again and again until
//                  weights_bytes are there, so that 32 GiB need neither a disk
//                  nor host memory of that size. weights_bytes is a multiple of
//                  its size
//
// A request says how many bytes it wants; byte i of the answer is i modulo 251.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <string>

#include "baton/model.h"

namespace {

constexpr uint32_t kMaxAnswerBytes = 64 << 20;

class WeightsModel final : public baton::Model {
 public:
  explicit WeightsModel(const baton::ModelContext& context)
      : bytes_(std::stoull(context.Option("weights_bytes", "0"))) {
    for (size_t i = 0; i < sizeof(pattern_); ++i) pattern_[i] = static_cast<uint8_t>(i % 251);
    if (bytes_ > 0) MapFile(context.Option("weights_file"));
  }
  ~WeightsModel() override { UnmapFile(); }

  baton::Signature signature() const override {
    return {.inputs = {{"bytes", baton::DType::kUInt32, {1}}},
            .outputs = {{"data", baton::DType::kUInt8, {baton::kDynamicDim}}}};
  }
  uint64_t device_bytes() const override { return bytes_; }

  void Upload(const baton::DeviceMemory& memory) override {
    for (uint64_t at = 0; at < bytes_; at += file_bytes_) {
      memory.Write(at, {static_cast<const std::byte*>(file_), file_bytes_});
    }
    UnmapFile();
  }

  void Run(std::span<const baton::TensorView> inputs, baton::Outputs& outputs) override {
    const uint32_t bytes = inputs[0].As<uint32_t>()[0];
    if (bytes > kMaxAnswerBytes) throw baton::ModelError(BATON_INVALID_ARGUMENT, "too many bytes");
    const std::span<uint8_t> data = outputs.Allocate<uint8_t>(0, {static_cast<int64_t>(bytes)});
    for (size_t at = 0; at < data.size(); at += sizeof(pattern_)) {
      std::memcpy(data.data() + at, pattern_, std::min(sizeof(pattern_), data.size() - at));
    }
  }

 private:
  // In the page cache by then, and staged is all of it: what is left is the upload.
  void MapFile(const std::string& path) {
    const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    struct stat info {};
    if (file < 0 || ::fstat(file, &info) != 0) {
      throw baton::ModelError(BATON_NOT_FOUND, path + ": " + std::strerror(errno));
    }
    file_bytes_ = static_cast<uint64_t>(info.st_size);
    if (file_bytes_ == 0 || bytes_ % file_bytes_ != 0) {
      throw baton::ModelError(BATON_INVALID_ARGUMENT, path + " does not go into weights_bytes");
    }
    void* const mapped =
        ::mmap(nullptr, file_bytes_, PROT_READ, MAP_SHARED | MAP_POPULATE, file, 0);
    ::close(file);
    if (mapped == MAP_FAILED) throw baton::ModelError(BATON_RESOURCE_EXHAUSTED, path);
    file_ = mapped;
  }
  void UnmapFile() {
    if (file_ != nullptr) ::munmap(file_, file_bytes_);
    file_ = nullptr;
  }

  const uint64_t bytes_;
  void* file_ = nullptr;
  uint64_t file_bytes_ = 0;
  uint8_t pattern_[16 * 251];
};

}  // namespace

BATON_REGISTER_MODEL(WeightsModel)
