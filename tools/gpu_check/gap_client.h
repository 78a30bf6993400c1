// A client that calls a server back to back, from a thread of its own for as
// long as it lives, and knows how long it ever went without an answer.
//
// Thread safety: any thread may ask.
#ifndef BATON_TOOLS_GPU_CHECK_GAP_CLIENT_H_
#define BATON_TOOLS_GPU_CHECK_GAP_CLIENT_H_

#include <atomic>
#include <cstdint>
#include <mutex>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "absl/time/time.h"

#include "baton/front.h"

namespace baton::gpu_check {

class GapClient {
 public:
  // Of weights_model.cc.
  explicit GapClient(Channel channel);
  ~GapClient();
  GapClient(const GapClient&) = delete;
  GapClient& operator=(const GapClient&) = delete;

  // Forgets what was seen so far.
  void Reset() { longest_ns_.store(0); }
  // The longest from one answer to the next since Reset.
  double longest_ns() const { return longest_ns_.load(); }
  uint64_t answered() const { return answered_.load(); }
  // Waits for an answer of that generation. DEADLINE_EXCEEDED; or the error
  // that a request ended with, after which nothing is called any more.
  absl::Status AwaitGeneration(uint64_t generation, absl::Duration timeout) const;
  absl::Status status() const;

 private:
  void Run();
  absl::Status CallOnce();

  Channel channel_;
  std::atomic<bool> stop_{false};
  std::atomic<double> longest_ns_{0};
  std::atomic<uint64_t> answered_{0};
  std::atomic<uint64_t> generation_{0};
  mutable std::mutex mutex_;
  absl::Status status_;  // guarded by mutex_
  std::thread thread_;
};

}  // namespace baton::gpu_check

#endif  // BATON_TOOLS_GPU_CHECK_GAP_CLIENT_H_
