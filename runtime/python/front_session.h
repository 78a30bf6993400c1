// A Front, its methods, and the channels that calls from Python take turns with.
#ifndef BATON_RUNTIME_PYTHON_FRONT_SESSION_H_
#define BATON_RUNTIME_PYTHON_FRONT_SESSION_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "baton/front.h"
#include "runtime/python/fork_guard.h"
#include "runtime/python/method_info.h"
#include "runtime/python/shared_channel.h"

namespace baton::python {

// Ownership: shared by the Python objects that call through it; ends what it
// has with Close, or with the last of them.
// Thread safety: the caller holds the GIL in every function, which guards all
// of it; what takes long lets go of the GIL meanwhile and says so.
class FrontSession {
 public:
  struct Options {
    FrontOptions front;
    ChannelOptions channel;
    // A request that needs more than channel.request_arena_bytes gets a channel
    // with more, up to this.
    uint64_t max_arena_bytes = uint64_t{4} << 30;
    uint32_t max_channels = 256;
  };

  // Lets go of the GIL, for front.connect_timeout at most.
  static absl::StatusOr<std::shared_ptr<FrontSession>> Attach(const std::string& name,
                                                              const Options& options);
  explicit FrontSession(std::unique_ptr<Front> front, const Options& options);
  ~FrontSession();

  // FAILED_PRECONDITION after Close and in a forked child.
  absl::Status CheckUsable() const;
  const std::deque<MethodInfo>& methods() const { return methods_; }
  const std::string& name() const { return name_; }
  // Null after Close.
  const std::shared_ptr<Front>& front() const { return front_; }
  const ForkGuard& fork_guard() const { return fork_guard_; }

  // A channel that nobody else uses, with room for a request of so many bytes.
  // Give it back with Return, or drop it: what was leased of it keeps it alive.
  // Lets go of the GIL where it has to open one (milliseconds).
  absl::StatusOr<std::shared_ptr<SharedChannel>> Take(uint64_t request_bytes);
  void Return(std::shared_ptr<SharedChannel> channel);
  // One that is not taken from, nor returned to, the others.
  absl::StatusOr<std::shared_ptr<SharedChannel>> Open(uint64_t request_bytes);

  // Idempotent. Calls that are under way end as they would; new ones fail.
  void Close();

 private:
  const Options options_;
  const ForkGuard fork_guard_;
  std::shared_ptr<Front> front_;
  std::string name_;
  std::deque<MethodInfo> methods_;  // a deque: addresses stay
  std::vector<std::shared_ptr<SharedChannel>> idle_;
  // Not yet gone, wherever they are; expired ones are cleared out by Open.
  std::vector<std::weak_ptr<SharedChannel>> alive_;
};

// A channel taken for one call: back with the others at its end, or dropped.
class TakenChannel {
 public:
  TakenChannel(FrontSession& session, std::shared_ptr<SharedChannel> channel)
      : session_(session), channel_(std::move(channel)) {}
  ~TakenChannel() {
    if (channel_ != nullptr) session_.Return(std::move(channel_));
  }
  TakenChannel(const TakenChannel&) = delete;
  TakenChannel& operator=(const TakenChannel&) = delete;

  const std::shared_ptr<SharedChannel>& shared() const { return channel_; }
  SharedChannel& operator*() const { return *channel_; }
  SharedChannel* operator->() const { return channel_.get(); }
  // Broken, or full of what others keep: nobody else gets it.
  void Drop() { channel_.reset(); }

 private:
  FrontSession& session_;
  std::shared_ptr<SharedChannel> channel_;
};

}  // namespace baton::python

#endif  // BATON_RUNTIME_PYTHON_FRONT_SESSION_H_
