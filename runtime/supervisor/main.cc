// baton-supervisor: one server, started by Front::Launch or by hand.
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdio>
#include <string>
#include <utility>

#include "CLI/CLI.hpp"

#include "runtime/supervisor/supervisor.h"

namespace {

std::atomic<baton::runtime::Supervisor*> running{nullptr};

void OnStopSignal(int) {
  if (auto* supervisor = running.load()) supervisor->RequestStop();
}

void HandleStopSignals() {
  struct sigaction action {};
  action.sa_handler = OnStopSignal;
  action.sa_flags = SA_RESTART;
  ::sigaction(SIGTERM, &action, nullptr);
  ::sigaction(SIGINT, &action, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
}

// Who launched us reads this to its end.
void SayReady(int fd, const std::string& text) {
  if (fd < 0) return;
  const std::string line = text + "\n";
  for (size_t done = 0; done < line.size();) {
    const ssize_t n = ::write(fd, line.data() + done, line.size() - done);
    if (n <= 0) break;
    done += static_cast<size_t>(n);
  }
  ::close(fd);
}

absl::Status Serve(baton::runtime::SupervisorOptions options) {
  auto supervisor = baton::runtime::Supervisor::Create(std::move(options));
  if (!supervisor.ok()) return supervisor.status();
  running = supervisor->get();
  HandleStopSignals();
  absl::Status ended = (*supervisor)->Run();
  running = nullptr;
  return ended;
}

}  // namespace

int main(int argc, char** argv) {
  baton::runtime::SupervisorOptions options;
  int ready_fd = -1;
  double wedge_timeout_s = 0;
  double wedge_grace_s = absl::ToDoubleSeconds(options.wedge_grace);
  double heartbeat_timeout_s = absl::ToDoubleSeconds(options.heartbeat_timeout);
  CLI::App app(
      "Serves one model: spawns and replaces its worker, and proves that the memory of "
      "the one before was freed.\nExample: baton-supervisor models/digits --name digits");
  app.add_option("directory", options.directory, "model directory, with config.yaml")->required();
  app.add_option("--name", options.name, "the server's name (default: as config.yaml says)");
  app.add_option("--secrets", options.secrets_directory, "directory of secrets");
  app.add_option("--device", options.device, "device (default: as config.yaml says)");
  app.add_flag("--disable-secrets-reload", options.disable_secrets_reload,
               "load secrets at start, but do not reload when they change");
  app.add_option("--run-directory", options.run_directory, "where servers are found");
  app.add_option("--worker", options.worker_executable, "the worker's program");
  app.add_option("--confirm-helper", options.confirm_executable,
                 "the confirmation helper's program");
  app.add_option("--wedge-timeout", wedge_timeout_s,
                 "seconds after which a running request means a wedged worker (0: never)")
      ->check(CLI::NonNegativeNumber);
  app.add_option("--wedge-grace", wedge_grace_s,
                 "seconds that a request may run after its own deadline before its worker counts "
                 "as wedged (0: for ever)")
      ->check(CLI::NonNegativeNumber);
  app.add_option("--heartbeat-timeout", heartbeat_timeout_s,
                 "seconds of silence after which an idle worker is wedged (0: never)")
      ->check(CLI::NonNegativeNumber);
  app.add_option("--die-with-fd", options.die_with_fd, "stop when this descriptor ends");
  app.add_option("--ready-fd", ready_fd, "write `ready`, or the error, to this descriptor");
  CLI11_PARSE(app, argc, argv);

  options.wedge_timeout = absl::Seconds(wedge_timeout_s);
  options.wedge_grace = absl::Seconds(wedge_grace_s);
  options.heartbeat_timeout = absl::Seconds(heartbeat_timeout_s);
  options.on_ready = [&ready_fd](const std::string&, uint64_t) {
    SayReady(ready_fd, "ready");
    ready_fd = -1;
  };
  const absl::Status ended = Serve(std::move(options));
  if (ended.ok()) return 0;
  const std::string error(ended.message());
  std::fprintf(stderr, "baton-supervisor: %s\n", error.c_str());
  SayReady(ready_fd, error);
  return 1;
}
