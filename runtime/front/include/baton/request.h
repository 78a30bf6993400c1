// A request that is being filled, and the plan it was made from.
#ifndef BATON_REQUEST_H_
#define BATON_REQUEST_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "baton/tensor.h"

namespace baton {

namespace internal {
class ChannelCore;
struct PlanRep;
}  // namespace internal

// The shapes of a request, checked against the model's signature and laid out
// once; requests made from it cost no more than two loans and a copy of some
// hundred bytes. A light handle: copy it freely. Valid for as long as its
// Channel.
class RequestPlan {
 public:
  RequestPlan() = default;

 private:
  friend class Channel;
  friend class Stream;
  friend class internal::ChannelCore;
  explicit RequestPlan(const internal::PlanRep* rep) : rep_(rep) {}
  const internal::PlanRep* rep_ = nullptr;
};

// A loaned block in shared memory whose tensors the caller fills in place.
// What is written here is what the model reads: nothing is copied.
//
// Ownership: move-only; gives its block back when it goes unsubmitted. May
// outlive its Channel (its memory then stays until it goes).
// Thread safety: belongs to its Channel's thread.
class Request {
 public:
  Request() = default;
  Request(Request&& other) noexcept;
  Request& operator=(Request&& other) noexcept;
  ~Request();

  // False for a default-made, moved-from or submitted request.
  bool valid() const { return core_ != nullptr; }

  size_t input_count() const;
  // Bytes of input `index` of the plan, 128-byte aligned, uninitialised (they
  // may hold an earlier request's data). Empty when there is no such input.
  std::span<std::byte> input_bytes(size_t index) const;
  // On a GPU (PlanOptions::inputs_on_device) it is empty: see input_view.
  std::span<std::byte> input_bytes(std::string_view name) const;

  // Where input `index` lies: to be handed to a framework (ToDlpack), or with
  // its `device_address` to kernels and copies, that write it there. Valid until
  // the request is submitted or dropped. Empty when there is no such input.
  TensorView input_view(size_t index) const;
  // Whose device memory the inputs are in; 0: they lie on the host.
  uint64_t input_generation() const;

  // The elements of an input; empty when there is no such input or T is not
  // its dtype.
  template <typename T>
  std::span<T> input(size_t index) const {
    if (DTypeOf<T>() == DType::kInvalid || input_dtype(index) != DTypeOf<T>()) return {};
    const std::span<std::byte> bytes = input_bytes(index);
    return {reinterpret_cast<T*>(bytes.data()), bytes.size() / sizeof(T)};
  }
  template <typename T>
  std::span<T> input(std::string_view name) const {
    return input<T>(input_index(name));
  }

 private:
  friend class Channel;
  friend class Stream;
  friend class internal::ChannelCore;
  Request(internal::ChannelCore* core, uint32_t slot) : core_(core), slot_(slot) {}
  void Reset();
  DType input_dtype(size_t index) const;
  size_t input_index(std::string_view name) const;

  internal::ChannelCore* core_ = nullptr;
  uint32_t slot_ = 0;
};

}  // namespace baton

#endif  // BATON_REQUEST_H_
