// A private server of a model with so many bytes of weights, and a client that
// calls it back to back and notes how long it ever went without an answer.
#ifndef BATON_BENCH_WEIGHTS_SERVER_H_
#define BATON_BENCH_WEIGHTS_SERVER_H_

#include <sys/types.h>

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "baton/front.h"
#include "ipc/control_socket.h"
#include "ipc/segment.h"

namespace baton::bench {

// What a reload was, as its receipt says.
struct ReloadFacts {
  std::vector<std::pair<std::string, uint64_t>> states_ns;
  uint64_t gap_ns = 0;
  uint64_t peak_bytes = 0;
  uint64_t successor = 0;
};

class WeightsServer {
 public:
  static absl::StatusOr<std::unique_ptr<WeightsServer>> Launch(uint64_t bytes);
  ~WeightsServer();

  Front& front() { return *front_; }
  pid_t supervisor_pid() const { return supervisor_pid_; }
  // The weights, mapped and in the page cache: what the floor copies.
  std::span<const std::byte> weights() const;
  // The byte at `offset` of the weights, by the rule that they were written by.
  static uint8_t ByteAt(uint64_t offset);

  // Asks for a reload; returns at its end.
  absl::StatusOr<ReloadFacts> Reload();

 private:
  WeightsServer() = default;
  absl::Status WriteWeights(uint64_t bytes);
  absl::Status Connect();

  std::string directory_;
  uint64_t bytes_ = 0;
  const std::byte* weights_ = nullptr;
  std::unique_ptr<Front> front_;
  ipc::ControlSocket control_;
  pid_t supervisor_pid_ = 0;
};

// Calls from a thread of its own for as long as it lives, and checks each answer.
class GapClient {
 public:
  GapClient(Channel channel, uint64_t weight_bytes);
  ~GapClient();

  // Returns when no request is out and none will be before Resume: the machine is the caller's.
  void Pause();
  // Goes on. The time of the pause counts for nothing.
  void Resume();

  // Forgets what was seen so far.
  void Reset() { longest_ns_.store(0); }
  // The longest time between two answers since Reset.
  int64_t longest_ns() const { return longest_ns_.load(); }
  // The generation that answered last.
  uint64_t generation() const { return generation_.load(); }
  uint64_t answered() const { return answered_.load(); }
  uint64_t failed() const { return failed_.load(); }

 private:
  void Run();
  // False: it shall end. Parks while it is to pause; `last` is new then.
  bool MayCall(int64_t* last);
  Channel channel_;
  const uint64_t weight_bytes_;
  std::atomic<bool> asked_{false};  // to stop or to pause: look under the mutex
  std::mutex mutex_;
  std::condition_variable changed_;
  // Guarded by the mutex.
  bool stop_ = false;
  bool pause_ = false;
  bool parked_ = false;  // or ended
  std::atomic<int64_t> longest_ns_{0};
  std::atomic<uint64_t> generation_{0};
  std::atomic<uint64_t> answered_{0};
  std::atomic<uint64_t> failed_{0};
  std::thread thread_;
};

}  // namespace baton::bench

#endif  // BATON_BENCH_WEIGHTS_SERVER_H_
