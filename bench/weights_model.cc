// A model whose only work is to have weights: `weights_file` is mapped and
// brought into the page cache when it is staged, and copied to the device when
// it is admitted. A request asks for the byte at an offset, so that an answer
// shows that the weights are there.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <string>

#include "baton/model.h"

namespace {

class WeightsModel final : public baton::Model {
 public:
  explicit WeightsModel(const baton::ModelContext& context) {
    const std::string path = context.Option("weights_file");
    if (path.empty()) return;
    const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    struct stat info {};
    if (file < 0 || ::fstat(file, &info) != 0) throw baton::ModelError(BATON_NOT_FOUND, path);
    bytes_ = static_cast<uint64_t>(info.st_size);
    staged_ = ::mmap(nullptr, bytes_, PROT_READ, MAP_SHARED | MAP_POPULATE, file, 0);
    ::close(file);
    if (staged_ == MAP_FAILED) throw baton::ModelError(BATON_RESOURCE_EXHAUSTED, path);
  }

  baton::Signature signature() const override {
    return {.inputs = {{"offset", baton::DType::kUInt64, {1}}},
            .outputs = {{"byte", baton::DType::kUInt8, {1}}}};
  }
  uint64_t device_bytes() const override { return bytes_; }

  void Upload(const baton::DeviceMemory& memory) override {
    if (bytes_ == 0) return;
    memory.Write(0, {static_cast<const std::byte*>(staged_), bytes_});
    ::munmap(staged_, bytes_);
    weights_ = reinterpret_cast<const uint8_t*>(memory.address());
  }

  void Run(std::span<const baton::TensorView> inputs, baton::Outputs& outputs) override {
    const uint64_t offset = inputs[0].As<uint64_t>()[0];
    outputs.Allocate<uint8_t>(0, {1})[0] = offset < bytes_ ? weights_[offset] : 0;
  }

 private:
  void* staged_ = nullptr;
  uint64_t bytes_ = 0;
  const uint8_t* weights_ = nullptr;
};

}  // namespace

BATON_REGISTER_MODEL(WeightsModel)
