// shmctl stop: ends a server.
#include <cstdio>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"

#include "tools/shmctl/command_line.h"
#include "tools/shmctl/server_client.h"

namespace baton::shmctl {
namespace {

struct Options {
  std::string name;
  TimeoutOption timeout{120};
};

absl::Status Stop(const std::string& run_directory, const Options& options) {
  absl::StatusOr<ServerClient> client =
      ServerClient::Connect(run_directory, options.name, options.timeout.duration());
  if (!client.ok()) return client.status();
  absl::StatusOr<ipc::ControlMessage> reply = client->Call(
      [](ipc::schema::Envelope::Builder ask) { ask.setStop(); }, options.timeout.duration());
  if (!reply.ok()) return reply.status();
  if (absl::Status ended = client->WaitForEnd(options.timeout.duration()); !ended.ok()) {
    return ended;
  }
  std::printf("stopped name=%s\n", options.name.c_str());
  return absl::OkStatus();
}

}  // namespace

void AddStop(CommandLine& line) {
  CLI::App& verb = line.AddVerb(
      "stop", "Ends a server: requests in flight finish first. Waits until it is gone.",
      "shmctl stop digits");
  auto options = std::make_shared<Options>();
  AddServerName(verb, options->name);
  AddTimeout(verb, options->timeout, "How long to wait for its end");
  line.OnRun(verb, [&line, options] { return Stop(line.run_directory(), *options); });
}

}  // namespace baton::shmctl
