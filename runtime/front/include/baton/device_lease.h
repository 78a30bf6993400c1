// A claim on a generation's device memory.
#ifndef BATON_DEVICE_LEASE_H_
#define BATON_DEVICE_LEASE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

namespace baton {

namespace internal {
class LeasedArena;
class Session;
}  // namespace internal

// One generation's device arena, read in place; see Channel::LeaseDevice.
//
// As long as it lives the arena stays mapped here, and its generation is kept
// from being replaced: a reload waits for it (drain_timeout), then keeps the
// old generation and names this process, the channel and the number of its
// leases. Return leases soon, at the latest when FrontOptions::on_generation
// says kClosing (which it also does when the worker has died: a front that
// leases maps the arena). Where the worker has died already, or the server has,
// the bytes stay what they are; the memory cannot be used again before the end of
// the lease.
//
// Ownership: move-only; may outlive its Channel, the Front and the server (it
// keeps the connection). The end of whatever keeps it last waits for a call of
// on_generation that is under way: not under a lock that the callback takes.
// Thread safety: any thread may use, move or destroy it, one at a time; it is
// not bound to its channel's thread.
// Cost: a short mutex to take and to return one; a system call only in the
// return of one whose generation is closing.
class DeviceLease {
 public:
  DeviceLease() = default;
  DeviceLease(DeviceLease&& other) noexcept;
  DeviceLease& operator=(DeviceLease&& other) noexcept;
  ~DeviceLease();

  // False for a default-made or moved-from one.
  bool valid() const { return arena_ != nullptr; }
  uint64_t generation() const;
  // The whole arena. Empty where the CPU cannot read the device, and in a
  // forked child. The worker may write it while it lives.
  std::span<const std::byte> bytes() const;
  // On a GPU: where the arena lies for this process's context (the primary one)
  // on that device, to be read there; 0 on the host device and in a forked child.
  // By CUDA IPC the driver keeps nobody from writing: do not.
  uint64_t device_address() const;
  int device_ordinal() const;  // of that GPU, as this process counts them; -1
  // Of the whole arena, on any device.
  uint64_t size_bytes() const;

 private:
  friend class internal::Session;
  DeviceLease(std::shared_ptr<internal::Session> session, internal::LeasedArena* arena,
              uint64_t channel);
  void Reset();

  std::shared_ptr<internal::Session> session_;
  internal::LeasedArena* arena_ = nullptr;
  uint64_t channel_ = 0;
};

}  // namespace baton

#endif  // BATON_DEVICE_LEASE_H_
