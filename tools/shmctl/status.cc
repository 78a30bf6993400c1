// shmctl status: how servers are.
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "capnp/message.h"

#include "ipc/schema_convert.h"
#include "tools/shmctl/command_line.h"
#include "tools/shmctl/quantity_text.h"
#include "tools/shmctl/report_json.h"
#include "tools/shmctl/server_client.h"
#include "tools/shmctl/terminal.h"
#include "tools/shmctl/wrapped_text.h"

namespace baton::shmctl {
namespace {

namespace schema = ipc::schema;

struct Options {
  std::string name;
  TimeoutOption timeout{5};
  bool json = false;
};

absl::StatusOr<ipc::ControlMessage> AskStatus(const std::string& run_directory,
                                              const std::string& name, absl::Duration timeout) {
  absl::StatusOr<ServerClient> client = ServerClient::Connect(run_directory, name, timeout);
  if (!client.ok()) return client.status();
  absl::StatusOr<ipc::ControlMessage> reply =
      client->Call([](schema::Envelope::Builder ask) { ask.setStatus(); }, timeout);
  if (reply.ok() && !reply->envelope().isStatusReply()) {
    return absl::InternalError(
        absl::StrCat("server '", name, "' answered with something that is no status"));
  }
  return reply;
}

const char* YesNo(bool yes) { return yes ? "yes" : "no"; }

std::string OfCapacity(schema::ServerStatus::Reader status) {
  const uint64_t capacity = status.getDeviceCapacityBytes();
  return capacity == 0
             ? BytesText(status.getDeviceBytes())
             : absl::StrCat(BytesText(status.getDeviceBytes()), " of ", BytesText(capacity));
}

std::string GapText(uint64_t ns) { return ns == 0 ? "not known" : DurationText(ns); }

std::string Gaps(schema::ServerStatus::Reader status) {
  if (status.getGapsMeasured() == 0) return "none measured yet";
  return absl::StrCat("expected ", GapText(status.getExpectedGapNs()), ", last ",
                      GapText(status.getLastGapNs()), ", ", status.getGapsMeasured(), " measured");
}

std::string Batches(schema::ServerStatus::Reader status) {
  const uint64_t tenths = status.getBatchRows() * 10 / status.getBatches();
  return absl::StrCat(status.getBatches(), ", of ", tenths / 10, ".", tenths % 10,
                      " rows on average");
}

std::string Failures(schema::ServerStatus::Reader status) {
  std::string text = absl::StrCat(status.getFailuresInARow(), " in a row");
  if (status.getRetryInNs() > 0) {
    absl::StrAppend(&text, ", next try in ", DurationText(status.getRetryInNs()));
  }
  return text;
}

std::string Uptime(uint64_t ns) {
  return absl::FormatDuration(
      absl::Trunc(absl::Nanoseconds(static_cast<int64_t>(ns)), absl::Seconds(1)));
}

void PrintOne(schema::ServerStatus::Reader status) {
  const size_t width = OutputWidth();
  const auto row = [width](const char* key, const std::string& value) {
    std::printf("%s", WrappedRow(key, 12, value, width).c_str());
  };
  row("name", status.getServer());
  row("state", status.getState());
  if (status.getReason().size() > 0) row("reason", status.getReason());
  row("generation", absl::StrCat(status.getGeneration()));
  row("live", YesNo(status.getLive()));
  row("ready", YesNo(status.getReady()));
  row("started", YesNo(status.getStarted()));
  row("model", absl::StrCat(std::string(status.getDirectory().cStr()), " (",
                            std::string(status.getLoader().cStr()), ")"));
  row("device", absl::StrCat(std::string(status.getDevice().cStr()), ", ", OfCapacity(status)));
  row("worker",
      absl::StrCat("pid ", status.getWorkerPid(), ", restarts ", status.getWorkerRestarts(),
                   ", supervisor pid ", status.getSupervisorPid()));
  row("reloads",
      absl::StrCat(status.getReloads(), ", last verdict ",
                   status.getLastVerdict().size() > 0 ? status.getLastVerdict().cStr() : "none"));
  row("strategy",
      absl::StrCat(status.getStrategy().cStr(),
                   ", when memory is not confirmed freed: ", status.getUnconfirmedPolicy().cStr()));
  row("watch", absl::StrCat("secrets ", YesNo(status.getSecretsReload()), ", code and weights ",
                            YesNo(status.getModelWatch())));
  row("gap", Gaps(status));
  row("failures", Failures(status));
  row("requests", absl::StrCat(status.getRequestsCompleted(), " completed of ",
                               status.getRequestsTaken(), " taken"));
  if (status.getBatches() > 0) row("batches", Batches(status));
  row("fronts", absl::StrCat(status.getFronts(), ", channels ", status.getChannels()));
  row("uptime", Uptime(status.getUptimeNs()));
}

void PrintTable(capnp::List<schema::ServerStatus>::Reader servers) {
  std::printf("%-20s %-12s %5s %-5s %8s %8s %12s %s\n", "NAME", "STATE", "GEN", "READY", "WORKER",
              "CHANNELS", "COMPLETED", "UPTIME");
  for (const schema::ServerStatus::Reader status : servers) {
    std::printf("%-20s %-12s %5llu %-5s %8d %8u %12llu %s\n",
                Printable(status.getServer().cStr()).c_str(),
                Printable(status.getState().cStr()).c_str(),
                static_cast<unsigned long long>(status.getGeneration()), YesNo(status.getReady()),
                status.getWorkerPid(), status.getChannels(),
                static_cast<unsigned long long>(status.getRequestsCompleted()),
                Uptime(status.getUptimeNs()).c_str());
  }
}

absl::Status ShowOne(const std::string& run_directory, const Options& options) {
  absl::StatusOr<ipc::ControlMessage> reply =
      AskStatus(run_directory, options.name, options.timeout.duration());
  if (!reply.ok()) return reply.status();
  const schema::ServerStatus::Reader status = reply->envelope().getStatusReply();
  if (!options.json) {
    PrintOne(status);
    return absl::OkStatus();
  }
  capnp::MallocMessageBuilder message;
  auto report = message.initRoot<schema::StatusReport>();
  report.initServers(1).setWithCaveats(0, status);
  PrintReport(report);
  return absl::OkStatus();
}

// All that can be shown is shown, then those that did not answer are the error.
absl::Status ShowAll(const std::string& run_directory, const Options& options) {
  absl::StatusOr<ipc::RunDirectory> directory = OpenRunDirectory(run_directory);
  if (!directory.ok()) return directory.status();
  absl::StatusOr<std::vector<ipc::ServerEntry>> entries = directory->ListServers();
  if (!entries.ok()) return entries.status();
  capnp::MallocMessageBuilder message;
  auto report = message.initRoot<schema::StatusReport>();
  auto servers = report.initServers(static_cast<uint32_t>(entries->size()));
  absl::Status worst;
  for (uint32_t i = 0; i < servers.size(); ++i) {
    const ipc::ServerEntry& entry = (*entries)[i];
    absl::StatusOr<ipc::ControlMessage> reply =
        AskStatus(run_directory, entry.name, options.timeout.duration());
    if (reply.ok()) {
      servers.setWithCaveats(i, reply->envelope().getStatusReply());
      continue;
    }
    servers[i].setServer(entry.name);
    servers[i].setState("UNREACHABLE");
    servers[i].setReason(std::string(reply.status().message()));
    servers[i].setSupervisorPid(entry.pid);
    worst = absl::UnavailableError(std::string(reply.status().message()));
  }
  if (options.json) {
    PrintReport(report);
  } else if (servers.size() == 0) {
    std::printf("no server runs in %s\n", directory->path().c_str());
  } else {
    PrintTable(report.asReader().getServers());
  }
  return worst;
}

}  // namespace

void AddStatus(CommandLine& line) {
  CLI::App& verb = line.AddVerb(
      "status", "Shows how a server is, or how all are: state, generation, worker, memory, counts.",
      "shmctl status digits --json | jq -r '.servers[0].state'");
  auto options = std::make_shared<Options>();
  verb.add_option("name", options->name, "The server (default: all)")->type_name("NAME");
  AddTimeout(verb, options->timeout, "How long to wait for a server's answer");
  AddJson(verb, options->json);
  line.OnRun(verb, [&line, options] {
    return options->name.empty() ? ShowAll(line.run_directory(), *options)
                                 : ShowOne(line.run_directory(), *options);
  });
}

}  // namespace baton::shmctl
