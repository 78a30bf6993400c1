// An array on the machine under test, with guards around it.
#ifndef BATON_TESTS_KERNELS_DEVICE_ARRAY_H_
#define BATON_TESTS_KERNELS_DEVICE_ARRAY_H_

#include <cstring>
#include <span>
#include <vector>

#include "gtest/gtest.h"

#include "tests/kernels/kernel_machine.h"

namespace baton::kernels::cuda {

// Failures of the machine, and guards that were written over, fail the test.
template <class Element>
class DeviceArray {
 public:
  // `offset_bytes` from an address that is aligned to 256.
  DeviceArray(KernelMachine& machine, std::span<const Element> values, uint64_t offset_bytes = 0)
      : machine_(machine),
        front_(kFrontGuard + offset_bytes),
        bytes_(values.size_bytes()),
        image_(front_ + bytes_ + machine.GuardBytes(), kGuard) {
    if (bytes_ > 0) std::memcpy(image_.data() + front_, values.data(), bytes_);
    const auto base = machine_.Allocate(image_.size());
    EXPECT_TRUE(base.ok()) << base.status();
    base_ = base.value_or(0);
    const absl::Status written = machine_.Write(base_, image_);
    EXPECT_TRUE(written.ok()) << written;
  }
  DeviceArray(KernelMachine& machine, const std::vector<Element>& values, uint64_t offset_bytes = 0)
      : DeviceArray(machine, std::span<const Element>(values), offset_bytes) {}
  ~DeviceArray() { machine_.Free(base_); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;

  uint64_t address() const { return base_ + front_; }

  // What is there now.
  std::vector<Element> Read() {
    const absl::Status read = machine_.Read(base_, image_);
    EXPECT_TRUE(read.ok()) << read;
    for (size_t i = 0; i < image_.size(); ++i) {
      const bool inside = i >= front_ && i < front_ + bytes_;
      if (!inside && image_[i] != kGuard) {
        ADD_FAILURE() << "wrote outside of an array of " << bytes_ << " bytes, at byte "
                      << static_cast<int64_t>(i) - static_cast<int64_t>(front_);
        break;
      }
    }
    std::vector<Element> values(bytes_ / sizeof(Element));
    if (bytes_ > 0) std::memcpy(values.data(), image_.data() + front_, bytes_);
    return values;
  }

 private:
  static constexpr uint64_t kFrontGuard = 256;
  static constexpr std::byte kGuard{0xA5};

  KernelMachine& machine_;
  uint64_t front_;
  uint64_t bytes_;
  std::vector<std::byte> image_;
  uint64_t base_ = 0;
};

}  // namespace baton::kernels::cuda

#endif  // BATON_TESTS_KERNELS_DEVICE_ARRAY_H_
