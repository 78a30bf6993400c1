// The front: what a service embeds to use a model that runs elsewhere.
//
//   auto front = baton::Front::Attach("digits");
//   auto channel = (*front)->OpenChannel();
//   auto request = channel->NewRequest();
//   std::ranges::copy(pixels, request->input<float>("pixels").begin());
//   auto response = channel->Call(*std::move(request));
//   std::span<const float> scores = response->output<float>("scores");
#ifndef BATON_FRONT_H_
#define BATON_FRONT_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "baton/channel.h"
#include "baton/options.h"
#include "baton/tensor.h"

namespace baton {

namespace internal {
class Session;
}  // namespace internal

// A connection to one server, over all of its worker generations.
//
// Thread safety: all functions may be called from any thread. Runs one thread
// of its own, which sleeps unless a reload is under way; all signals are
// blocked in it.
// Fork: a child of this process must not use the front; its calls fail with
// FAILED_PRECONDITION there. Nothing of ours keeps memory alive in a child.
class Front {
 public:
  // Joins a running server. NOT_FOUND (with the names there are) when there is
  // none of that name, PERMISSION_DENIED, or UNAVAILABLE when it does not
  // answer within connect_timeout.
  static absl::StatusOr<std::unique_ptr<Front>> Attach(const std::string& name,
                                                       const FrontOptions& options = {});

  // Starts a server of one's own and joins it. It ends with this Front, or
  // with this process, however that ends. The error is the server's own when
  // the model cannot be loaded.
  static absl::StatusOr<std::unique_ptr<Front>> Launch(const LaunchOptions& options);

  // Open channels stay usable until they are destroyed, but a launched server
  // is stopped here.
  ~Front();
  Front(const Front&) = delete;
  Front& operator=(const Front&) = delete;

  // Reserves, prefaults and shares the channel's memory. RESOURCE_EXHAUSTED
  // when /dev/shm (or memory) has no room for it. Cost: milliseconds.
  absl::StatusOr<Channel> OpenChannel(const ChannelOptions& options = {});

  const std::string& name() const;
  // The model's methods, at least one, and what the first takes and gives.
  const std::vector<Method>& methods() const;
  const Signature& signature() const;
  // The generation that serves, or that served last.
  uint64_t generation() const;
  // "SERVING", "STAGING", ...; "GONE" when the server has ended. Costs a load.
  std::string_view state() const;
  // With import_device: the newest generation whose device arena is mapped
  // here to stay, 0 when none is.
  uint64_t imported_generation() const;
  // The generation that a reload is about to take away, 0 when none is: see
  // FrontOptions::on_generation. Costs a load.
  uint64_t closing_generation() const;

 private:
  explicit Front(std::shared_ptr<internal::Session> session);
  std::shared_ptr<internal::Session> session_;
};

}  // namespace baton

#endif  // BATON_FRONT_H_
