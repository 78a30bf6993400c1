// shmctl ls: which servers run.
#include <cstdio>
#include <memory>
#include <vector>

#include "capnp/message.h"

#include "tools/shmctl/command_line.h"
#include "tools/shmctl/report_json.h"
#include "tools/shmctl/server_client.h"

namespace baton::shmctl {
namespace {

absl::Status List(const std::string& run_directory, bool json) {
  absl::StatusOr<ipc::RunDirectory> directory = OpenRunDirectory(run_directory);
  if (!directory.ok()) return directory.status();
  absl::StatusOr<std::vector<ipc::ServerEntry>> entries = directory->ListServers();
  if (!entries.ok()) return entries.status();
  if (!json) {
    for (const ipc::ServerEntry& entry : *entries) {
      std::printf("%-20s pid %-8d %s\n", entry.name.c_str(), entry.pid, entry.folder.c_str());
    }
    return absl::OkStatus();
  }
  capnp::MallocMessageBuilder message;
  auto report = message.initRoot<ipc::schema::ServerList>();
  auto servers = report.initServers(static_cast<uint32_t>(entries->size()));
  for (uint32_t i = 0; i < servers.size(); ++i) {
    const ipc::ServerEntry& entry = (*entries)[i];
    servers[i].setName(entry.name);
    servers[i].setPid(entry.pid);
    servers[i].setFolder(entry.folder);
    servers[i].setControlSocket(entry.control_socket);
  }
  PrintReport(report);
  return absl::OkStatus();
}

}  // namespace

void AddLs(CommandLine& line) {
  CLI::App& verb = line.AddVerb("ls", "Lists the servers that run. Disturbs none of them.",
                                "shmctl ls --json | jq -r '.servers[].name'");
  auto json = std::make_shared<bool>(false);
  AddJson(verb, *json);
  line.OnRun(verb, [&line, json] { return List(line.run_directory(), *json); });
}

}  // namespace baton::shmctl
