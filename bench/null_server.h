// A private server of the null model (a fixed tiny answer, no work), with its
// worker pinned: what a benchmark of the runtime itself talks to.
#ifndef BATON_BENCH_NULL_SERVER_H_
#define BATON_BENCH_NULL_SERVER_H_

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"

#include "baton/front.h"

namespace baton::bench {

class NullServer {
 public:
  // What the model sets aside for results that stay on the device (the host's),
  // for one channel.
  static constexpr uint64_t kDeviceResultBytes = 64 * 1024;

  // Launches it and pins the worker's serving thread to `worker_cpu`. Several
  // may live in one process, which makes them on one thread.
  static absl::StatusOr<std::unique_ptr<NullServer>> Launch(int worker_cpu) {
    return Launch(worker_cpu, "");
  }
  // The same of a worker that spins for so long before it sleeps, as one may that owns its CPU:
  // what waits for a front that takes long to write a payload.
  static absl::StatusOr<std::unique_ptr<NullServer>> LaunchSpinning(int worker_cpu) {
    return Launch(worker_cpu, "worker: {max_spin: 2ms}\n");
  }
  // The same of the one that is written in Python (bench/null_python_model).
  static absl::StatusOr<std::unique_ptr<NullServer>> LaunchPython(int worker_cpu);
  ~NullServer();

  Front& front() { return *front_; }
  pid_t worker_pid() const { return worker_pid_; }

 private:
  NullServer() = default;
  static absl::StatusOr<std::unique_ptr<NullServer>> Launch(int worker_cpu,
                                                            const std::string& config);
  absl::Status Start(const std::string& directory, int worker_cpu);

  std::string directory_;  // removed at the end; empty: none
  std::unique_ptr<Front> front_;
  pid_t worker_pid_ = 0;
};

// The two that latency_bench has; null until they are launched.
struct NullServers {
  NullServer* usual = nullptr;
  NullServer* spinning = nullptr;
};

}  // namespace baton::bench

#endif  // BATON_BENCH_NULL_SERVER_H_
