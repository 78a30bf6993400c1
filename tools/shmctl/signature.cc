// shmctl signature: what a model takes and gives.
#include <cstdio>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "capnp/message.h"

#include "tools/shmctl/command_line.h"
#include "tools/shmctl/report_json.h"
#include "tools/shmctl/server_client.h"

namespace baton::shmctl {
namespace {

struct Options {
  std::string name;
  TimeoutOption timeout{5};
  bool json = false;
};

void PrintSpecs(const char* title, const std::vector<TensorSpec>& specs) {
  std::printf("%s\n", title);
  for (const TensorSpec& spec : specs) std::printf("  %s\n", ToString(spec).c_str());
}

absl::Status ShowSignature(const std::string& run_directory, const Options& options) {
  absl::StatusOr<ServerClient> client =
      ServerClient::Connect(run_directory, options.name, options.timeout.duration());
  if (!client.ok()) return client.status();
  const Signature& signature = client->signature();
  if (signature.inputs.empty() && signature.outputs.empty()) {
    return absl::UnavailableError(
        absl::StrCat("server '", options.name,
                     "' has not loaded its model yet: wait for it, see shmctl status"));
  }
  if (!options.json) {
    PrintSpecs("inputs", signature.inputs);
    PrintSpecs("outputs", signature.outputs);
    return absl::OkStatus();
  }
  capnp::MallocMessageBuilder message;
  auto report = message.initRoot<ipc::schema::SignatureReport>();
  report.setServer(client->server());
  report.setGeneration(client->generation());
  WriteTensorTypes(signature.inputs,
                   report.initInputs(static_cast<uint32_t>(signature.inputs.size())));
  WriteTensorTypes(signature.outputs,
                   report.initOutputs(static_cast<uint32_t>(signature.outputs.size())));
  PrintReport(report);
  return absl::OkStatus();
}

}  // namespace

void AddSignature(CommandLine& line) {
  CLI::App& verb = line.AddVerb("signature", "Shows what a model takes and gives.",
                                "shmctl signature digits --json");
  auto options = std::make_shared<Options>();
  AddServerName(verb, options->name);
  AddTimeout(verb, options->timeout, "How long to wait for the server's answer");
  AddJson(verb, options->json);
  line.OnRun(verb, [&line, options] { return ShowSignature(line.run_directory(), *options); });
}

}  // namespace baton::shmctl
