// A device whose memory is the test's heap, named as the test likes. Copies are
// checked against the arena that it gave last.
#ifndef BATON_TESTS_LOADER_HEAP_DEVICE_H_
#define BATON_TESTS_LOADER_HEAP_DEVICE_H_

#include <cstring>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "ipc/device.h"
#include "loader/model.h"

namespace baton::loader {

class HeapDevice final : public ipc::Device {
 public:
  explicit HeapDevice(std::string name = "host") : name_(std::move(name)) {}

  std::string_view name() const override { return name_; }

  absl::StatusOr<std::unique_ptr<ipc::DeviceArena>> CreateArena(uint64_t, uint64_t) override {
    return absl::UnimplementedError("use Region");
  }

  absl::Status CopyToDevice(uint64_t to_address, std::span<const std::byte> from) override {
    const auto base = reinterpret_cast<uint64_t>(memory_.get());
    if (to_address < base || to_address + from.size() > base + bytes_) {
      return absl::OutOfRangeError("a copy outside the region");
    }
    std::memcpy(reinterpret_cast<void*>(to_address), from.data(), from.size());
    return absl::OkStatus();
  }

  absl::Status CopyFileToDevice(uint64_t, int, uint64_t, uint64_t) override {
    return absl::UnimplementedError("use CopyToDevice");
  }
  absl::Status CopyFromDevice(std::span<std::byte> to, uint64_t from_address) override {
    std::memcpy(to.data(), reinterpret_cast<const void*>(from_address), to.size());
    return absl::OkStatus();
  }

  // A zeroed region that replaces the one before.
  DeviceRegion Region(uint64_t bytes) {
    memory_.reset(static_cast<std::byte*>(::operator new(bytes, kAlignment)));
    std::memset(memory_.get(), 0, bytes);
    bytes_ = bytes;
    return {.device = this, .address = reinterpret_cast<uint64_t>(memory_.get()), .bytes = bytes};
  }

 private:
  static constexpr std::align_val_t kAlignment{128};
  struct Free {
    void operator()(std::byte* memory) const { ::operator delete(memory, kAlignment); }
  };

  std::string name_;
  std::unique_ptr<std::byte, Free> memory_;
  uint64_t bytes_ = 0;
};

}  // namespace baton::loader

#endif  // BATON_TESTS_LOADER_HEAP_DEVICE_H_
