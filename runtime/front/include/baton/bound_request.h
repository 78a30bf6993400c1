// A request that keeps its blocks: prepared once, submitted again and again.
#ifndef BATON_BOUND_REQUEST_H_
#define BATON_BOUND_REQUEST_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "absl/time/time.h"

#include "baton/tensor.h"

namespace baton {

namespace internal {
class ChannelCore;
}  // namespace internal

// One place for inputs and one for results, loaned until this goes. To submit
// it is to write one ring entry: nothing is loaned, described or copied anew.
//
//   absl::StatusOr<BoundRequest> bound = channel.Bind(plan);
//   for (;;) {
//     Fill(bound->input<float>(0));
//     if (absl::Status called = channel.Call(*bound); !called.ok()) ...
//     Use(bound->output<float>(size_t{0}));
//   }
//
// Inputs keep their place and, until the caller writes them, their values: what
// does not change need not be written again. (But those that the signature calls
// secret: they are overwritten with zeros when each submit has ended.)
// While it is under way they are the worker's to read: do not write them.
//
// Results are in place and valid until it is submitted again, ReleaseAnswer, or
// its end; what Response says of the bytes that a worker writes holds here, too.
//
// Ownership: move-only; may outlive its Channel. One that goes while it is under
// way is cancelled, and its blocks come back when that is certain.
// Thread safety: belongs to its Channel's thread.
// Errors: those of a Request. Each submit ends once, and it can be submitted
// again whatever the end was, once no worker has to do with it any more: after
// a deadline or a Cancel that is when the worker has come to it, or has died.
// Cost: see Channel::Bind.
class BoundRequest {
 public:
  BoundRequest() = default;
  BoundRequest(BoundRequest&& other) noexcept;
  BoundRequest& operator=(BoundRequest&& other) noexcept;
  ~BoundRequest();

  // False for a default-made or moved-from one.
  bool valid() const { return core_ != nullptr; }

  size_t input_count() const;
  // Bytes of input `index` of the plan, 128-byte aligned; the same place for as
  // long as this lives. Uninitialised at first (they may hold an earlier
  // request's data). Empty when there is no such input.
  std::span<std::byte> input_bytes(size_t index) const;
  // The elements of an input; empty when there is no such input or T is not
  // its dtype.
  template <typename T>
  std::span<T> input(size_t index) const {
    if (DTypeOf<T>() == DType::kInvalid || input_dtype(index) != DTypeOf<T>()) return {};
    const std::span<std::byte> bytes = input_bytes(index);
    return {reinterpret_cast<T*>(bytes.data()), bytes.size() / sizeof(T)};
  }

  // Submitted, and its end not given out yet.
  bool under_way() const;

  // What the last submit gave, in the order of the signature; empty while it is
  // under way, after an error, and after ReleaseAnswer.
  std::span<const TensorView> outputs() const;
  // nullptr when there is no such output.
  const TensorView* output(std::string_view name) const;
  // The elements of an output; empty when there is none or T is not its dtype.
  template <typename T>
  std::span<const T> output(size_t index) const {
    return index < outputs().size() ? outputs()[index].As<T>() : std::span<const T>();
  }
  template <typename T>
  std::span<const T> output(std::string_view name) const {
    const TensorView* view = output(name);
    return view == nullptr ? std::span<const T>() : view->As<T>();
  }
  // The generation of the worker that answered last; 0: none did.
  uint64_t generation() const;
  // Time in the model, of the last answer.
  absl::Duration service_time() const;

  // Ends the results before the next submit does. Results on the device are a
  // lease of their generation until then, which a reload waits for; on the host
  // they hold nothing up.
  void ReleaseAnswer();

  // The caller's own number, which Outcome::tag gives back. 0 at first.
  uint64_t tag() const { return tag_; }
  void set_tag(uint64_t tag) { tag_ = tag; }

 private:
  friend class Channel;
  BoundRequest(internal::ChannelCore* core, uint32_t slot) : core_(core), slot_(slot) {}
  void Reset();
  DType input_dtype(size_t index) const;

  internal::ChannelCore* core_ = nullptr;
  uint32_t slot_ = 0;
  uint64_t tag_ = 0;
};

}  // namespace baton

#endif  // BATON_BOUND_REQUEST_H_
