// shmctl signature: what a model takes and gives.
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
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

// "  text: uint8[?]  text, str, optional: 'none'"
std::string Line(const TensorSpec& spec) {
  std::string line = "  " + ToString(spec);
  std::vector<std::string> more;
  if (spec.content != Content::kTensor) more.emplace_back(ContentName(spec.content));
  if (!spec.type_text.empty()) more.push_back(spec.type_text);
  if (spec.streamed) more.emplace_back("streamed");
  if (spec.optional) {
    more.push_back(spec.default_text.empty() ? "optional" : "optional: " + spec.default_text);
  }
  return more.empty() ? line : absl::StrCat(line, "  ", absl::StrJoin(more, ", "));
}

void PrintSpecs(const char* title, const std::vector<TensorSpec>& specs) {
  std::printf("%s\n", title);
  for (const TensorSpec& spec : specs) std::printf("%s\n", Line(spec).c_str());
}

void PrintMethods(const std::vector<Method>& methods) {
  // A model of tensors alone has one, and nobody need know its name.
  const bool alone = methods.size() == 1 && methods[0].doc.empty() && !methods[0].streams();
  for (const Method& method : methods) {
    if (!alone) {
      std::printf("%s%s (%s)\n", &method == &methods[0] ? "" : "\n", method.name.c_str(),
                  std::string(MethodKind(method)).c_str());
      for (const auto line : absl::StrSplit(method.doc, '\n', absl::SkipWhitespace())) {
        std::printf("  %s\n", std::string(line).c_str());
      }
    }
    PrintSpecs("inputs", method.signature.inputs);
    PrintSpecs("outputs", method.signature.outputs);
  }
}

absl::Status ShowSignature(const std::string& run_directory, const Options& options) {
  absl::StatusOr<ServerClient> client =
      ServerClient::Connect(run_directory, options.name, options.timeout.duration());
  if (!client.ok()) return client.status();
  const std::vector<Method>& methods = client->methods();
  if (methods.empty()) {
    return absl::UnavailableError(
        absl::StrCat("server '", options.name,
                     "' has not loaded its model yet: wait for it, see shmctl status"));
  }
  if (!options.json) {
    PrintMethods(methods);
    return absl::OkStatus();
  }
  capnp::MallocMessageBuilder message;
  auto report = message.initRoot<ipc::schema::SignatureReport>();
  report.setServer(client->server());
  report.setGeneration(client->generation());
  const Signature& signature = methods.front().signature;
  WriteTensorTypes(signature.inputs,
                   report.initInputs(static_cast<uint32_t>(signature.inputs.size())));
  WriteTensorTypes(signature.outputs,
                   report.initOutputs(static_cast<uint32_t>(signature.outputs.size())));
  WriteMethodTypes(methods, report.initMethods(static_cast<uint32_t>(methods.size())));
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
