// One server: a supervisor process's whole life.
//
//   SupervisorOptions options;
//   options.directory = "models/digits";
//   auto supervisor = baton::runtime::Supervisor::Create(std::move(options));
//   if (!supervisor.ok()) ...
//   absl::Status ended = (*supervisor)->Run();
//
// Create and Run belong to one thread, the one that lives as long as the
// process: workers are killed by the kernel when it ends. RequestStop may be
// called from any thread and from signal handlers.
#ifndef BATON_RUNTIME_SUPERVISOR_SUPERVISOR_H_
#define BATON_RUNTIME_SUPERVISOR_SUPERVISOR_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "runtime/supervisor/front_limits.h"

namespace baton::runtime {

struct SupervisorOptions {
  std::string directory;          // model directory, with config.yaml
  std::string name;               // empty: as config.yaml says
  std::string secrets_directory;  // empty: none. May appear later
  std::string device;             // empty: as config.yaml says
  // Initial secrets are loaded and `shmctl reload` works, but a change of them
  // starts nothing. Also set by BATON_DISABLE_SECRETS_RELOAD and
  // CLARIFAI_DISABLE_SECRETS_RELOAD in {1, true, yes} (A24).
  bool disable_secrets_reload = false;
  std::string run_directory;  // empty: the user's own
  // Empty: looked up, see runtime/executable_path.h.
  std::string worker_executable;   // baton-worker
  std::string confirm_executable;  // baton-confirm
  // Stop when this descriptor reaches its end, or this process's parent ends:
  // the launching process is gone. Not owned. -1: none.
  int die_with_fd = -1;

  // A request that runs for longer than this means that the worker is wedged;
  // it is killed and replaced. Zero: no limit, since long requests are legal.
  absl::Duration wedge_timeout = absl::ZeroDuration();
  // So is one that still runs a request this long after the request's own
  // deadline: whoever sent it has long been told. Zero: no limit.
  absl::Duration wedge_grace = absl::Minutes(1);
  // A worker that runs no request and says nothing for this long is wedged too
  // (it beats ten times a second). Zero: no limit.
  absl::Duration heartbeat_timeout = absl::Seconds(10);

  FrontLimits limits;

  // Called once, when the first generation serves.
  std::function<void(const std::string& name, uint64_t generation)> on_ready;
};

class SupervisorCore;

class Supervisor {
 public:
  // Reads the configuration, makes the name ours and listens; starts no worker.
  // INVALID_ARGUMENT or NOT_FOUND for the model directory, ALREADY_EXISTS when
  // the name is being served.
  static absl::StatusOr<std::unique_ptr<Supervisor>> Create(SupervisorOptions options);
  // Kills and reaps what is left of the workers.
  ~Supervisor();

  const std::string& name() const;

  // Serves until it is told to stop. OK after a stop that was asked for; the
  // worker's own error when the first generation could not be brought up.
  absl::Status Run();

  // Async-signal-safe. Requests in flight end, the worker cleans up, exits and
  // is confirmed gone (A30).
  void RequestStop();

 private:
  explicit Supervisor(std::unique_ptr<SupervisorCore> core);
  std::unique_ptr<SupervisorCore> core_;
};

// Whether `value` of one of the two variables means yes.
bool MeansYes(const char* value);

}  // namespace baton::runtime

#endif  // BATON_RUNTIME_SUPERVISOR_SUPERVISOR_H_
