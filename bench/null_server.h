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
  static absl::StatusOr<std::unique_ptr<NullServer>> Launch(int worker_cpu);
  // The same of the one that is written in Python (bench/null_python_model).
  static absl::StatusOr<std::unique_ptr<NullServer>> LaunchPython(int worker_cpu);
  ~NullServer();

  Front& front() { return *front_; }
  pid_t worker_pid() const { return worker_pid_; }

 private:
  NullServer() = default;
  absl::Status Start(const std::string& directory, int worker_cpu);

  std::string directory_;  // removed at the end; empty: none
  std::unique_ptr<Front> front_;
  pid_t worker_pid_ = 0;
};

}  // namespace baton::bench

#endif  // BATON_BENCH_NULL_SERVER_H_
