// A response: a lease on the block in which the model wrote its results.
#ifndef BATON_RESPONSE_H_
#define BATON_RESPONSE_H_

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

// The results, read in place. The block is loaned again only after this goes.
//
// The worker that wrote the bytes may write them again while it lives (it is
// another process, and may be broken): read values once where that matters.
// Names, dtypes, shapes and addresses were checked and are private.
//
// Ownership: move-only; may outlive its Channel and its worker.
// Thread safety: belongs to its Channel's thread; the tensors' bytes may be
// read by any thread while the Response lives.
class Response {
 public:
  Response() = default;
  Response(Response&& other) noexcept;
  Response& operator=(Response&& other) noexcept;
  ~Response();

  bool valid() const { return core_ != nullptr; }

  // The outputs in the order of the signature.
  std::span<const TensorView> outputs() const;
  // nullptr when there is no such output.
  const TensorView* output(std::string_view name) const;
  // The elements of an output; empty when there is none of that name or T is
  // not its dtype.
  template <typename T>
  std::span<const T> output(std::string_view name) const {
    const TensorView* view = output(name);
    return view == nullptr ? std::span<const T>() : view->As<T>();
  }
  template <typename T>
  std::span<const T> output(size_t index) const {
    return index < outputs().size() ? outputs()[index].As<T>() : std::span<const T>();
  }

  // The generation of the worker that answered.
  uint64_t generation() const;
  // Time in the model.
  absl::Duration service_time() const;

 private:
  friend class Channel;
  friend class Stream;
  friend class internal::ChannelCore;
  Response(internal::ChannelCore* core, uint32_t slot) : core_(core), slot_(slot) {}
  void Reset();

  internal::ChannelCore* core_ = nullptr;
  uint32_t slot_ = 0;
};

}  // namespace baton

#endif  // BATON_RESPONSE_H_
