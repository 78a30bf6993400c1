// shmctl serve: a supervisor in the foreground.
#include <atomic>
#include <csignal>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>

#include "ipc/run_directory.h"
#include "runtime/supervisor/supervisor.h"
#include "tools/shmctl/command_line.h"

namespace baton::shmctl {
namespace {

std::atomic<runtime::Supervisor*> running{nullptr};

// Handlers see a supervisor only while it lives.
void OnStopSignal(int) {
  if (runtime::Supervisor* supervisor = running.load()) supervisor->RequestStop();
}

void HandleStopSignals() {
  struct sigaction action = {};
  action.sa_handler = OnStopSignal;
  action.sa_flags = SA_RESTART;
  ::sigaction(SIGTERM, &action, nullptr);
  ::sigaction(SIGINT, &action, nullptr);
  // A front that hangs up, or whoever reads our output, must not end the server.
  ::signal(SIGPIPE, SIG_IGN);
}

absl::Status Serve(runtime::SupervisorOptions options) {
  if (!options.name.empty()) {
    if (const absl::Status name = ipc::CheckServerName(options.name); !name.ok()) {
      return UsageError(std::string(name.message()));
    }
  }
  options.on_ready = [](const std::string& name, uint64_t generation) {
    std::printf("ready name=%s generation=%llu\n", name.c_str(),
                static_cast<unsigned long long>(generation));
    std::fflush(stdout);
  };
  absl::StatusOr<std::unique_ptr<runtime::Supervisor>> supervisor =
      runtime::Supervisor::Create(std::move(options));
  if (!supervisor.ok()) return supervisor.status();
  running = supervisor->get();
  HandleStopSignals();
  const absl::Status ended = (*supervisor)->Run();
  running = nullptr;
  return ended;
}

}  // namespace

void AddServe(CommandLine& line) {
  CLI::App& verb = line.AddVerb(
      "serve",
      "Serves the model in DIR, in the foreground, until SIGTERM, SIGINT or shmctl stop. Prints "
      "`ready name=N generation=1` when it is; the log goes to standard error.",
      "shmctl serve loader/models/digits --name digits --secrets ~/secrets");
  auto options = std::make_shared<runtime::SupervisorOptions>();
  auto wedge_seconds = std::make_shared<double>(0);
  verb.add_option("directory", options->directory, "Model directory, with config.yaml")
      ->required()
      ->type_name("DIR");
  verb.add_option("--name", options->name, "The server's name (default: as config.yaml says)")
      ->type_name("N");
  verb.add_option("--secrets", options->secrets_directory,
                  "Directory of secrets for the model's environment; a change reloads it")
      ->type_name("DIR");
  verb.add_option("--device", options->device, "host, ... (default: as config.yaml says)");
  verb.add_flag("--disable-secrets-reload", options->disable_secrets_reload,
                "Load secrets at start, but do not reload when they change");
  verb.add_option("--wedge-timeout", *wedge_seconds,
                  "Replace a worker that is busy with one request for longer than this (0: never)")
      ->type_name("SECONDS")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  auto grace_seconds = std::make_shared<double>(absl::ToDoubleSeconds(options->wedge_grace));
  verb.add_option("--wedge-grace", *grace_seconds,
                  "Replace a worker that still runs a request this long after the request's own "
                  "deadline (0: never)")
      ->type_name("SECONDS")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  line.OnRun(verb, [&line, options, wedge_seconds, grace_seconds] {
    options->run_directory = line.run_directory();
    options->wedge_timeout = absl::Seconds(*wedge_seconds);
    options->wedge_grace = absl::Seconds(*grace_seconds);
    return Serve(*options);
  });
}

}  // namespace baton::shmctl
