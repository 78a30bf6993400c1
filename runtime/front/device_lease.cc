#include "baton/device_lease.h"

#include <utility>

#include "runtime/front/arena_leases.h"
#include "runtime/front/session.h"

namespace baton {

DeviceLease::DeviceLease(std::shared_ptr<internal::Session> session, internal::LeasedArena* arena,
                         uint64_t channel)
    : session_(std::move(session)), arena_(arena), channel_(channel) {}

DeviceLease::DeviceLease(DeviceLease&& other) noexcept
    : session_(std::move(other.session_)),
      arena_(std::exchange(other.arena_, nullptr)),
      channel_(other.channel_) {}

DeviceLease& DeviceLease::operator=(DeviceLease&& other) noexcept {
  if (this != &other) {
    Reset();
    session_ = std::move(other.session_);
    arena_ = std::exchange(other.arena_, nullptr);
    channel_ = other.channel_;
  }
  return *this;
}

DeviceLease::~DeviceLease() { Reset(); }

void DeviceLease::Reset() {
  if (arena_ == nullptr) return;
  session_->ReturnLease(std::exchange(arena_, nullptr), channel_);
  session_.reset();
}

uint64_t DeviceLease::generation() const { return arena_ == nullptr ? 0 : arena_->generation(); }

uint64_t DeviceLease::device_address() const {
  return arena_ == nullptr || session_->forked() ? 0 : arena_->device_address();
}

int DeviceLease::device_ordinal() const {
  return arena_ == nullptr ? -1 : arena_->device_ordinal();
}

uint64_t DeviceLease::size_bytes() const { return arena_ == nullptr ? 0 : arena_->size_bytes(); }

std::span<const std::byte> DeviceLease::bytes() const {
  if (arena_ == nullptr || session_->forked()) return {};
  return arena_->bytes();
}

}  // namespace baton
