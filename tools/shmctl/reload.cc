// shmctl reload: a new worker in place of the one that serves.
#include <cstdio>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "capnp/message.h"

#include "ipc/schema_convert.h"
#include "tools/shmctl/command_line.h"
#include "tools/shmctl/receipt_text.h"
#include "tools/shmctl/reload_plan_text.h"
#include "tools/shmctl/report_json.h"
#include "tools/shmctl/server_client.h"
#include "tools/shmctl/terminal.h"

namespace baton::shmctl {
namespace {

namespace schema = ipc::schema;

struct Options {
  std::string name;
  TimeoutOption timeout{900};
  bool json = false;
  bool dry_run = false;
  bool override_unconfirmed = false;
};

absl::Status ShowPlan(const std::string& run_directory, const Options& options) {
  absl::StatusOr<ServerClient> client =
      ServerClient::Connect(run_directory, options.name, options.timeout.duration());
  if (!client.ok()) return client.status();
  absl::StatusOr<ipc::ControlMessage> reply = client->Call(
      [](schema::Envelope::Builder ask) { ask.setPlanReload(); }, options.timeout.duration());
  if (!reply.ok()) return reply.status();
  if (!reply->envelope().isReloadPlan()) {
    return absl::InternalError(
        absl::StrCat("server '", options.name, "' answered a dry run with something else"));
  }
  const schema::ReloadPlan::Reader plan = reply->envelope().getReloadPlan();
  if (options.json) {
    capnp::MallocMessageBuilder message;
    message.setRoot(plan);
    PrintReport(message.getRoot<schema::ReloadPlan>());
  } else {
    std::printf("%s", ReloadPlanText(options.name, plan, OutputWidth()).c_str());
  }
  return absl::OkStatus();
}

absl::Status Reload(const std::string& run_directory, const Options& options) {
  absl::StatusOr<ServerClient> client =
      ServerClient::Connect(run_directory, options.name, options.timeout.duration());
  if (!client.ok()) return client.status();
  absl::StatusOr<ipc::ControlMessage> reply = client->Call(
      [&options](schema::Envelope::Builder ask) {
        auto reload = ask.initReload();
        reload.setTrigger("command");
        reload.setOverrideUnconfirmed(options.override_unconfirmed);
      },
      options.timeout.duration());
  if (!reply.ok()) return reply.status();
  if (!reply->envelope().isReloadReply()) {
    return absl::InternalError(
        absl::StrCat("server '", options.name, "' answered a reload with something else"));
  }
  const schema::ReloadReply::Reader answer = reply->envelope().getReloadReply();
  const schema::Receipt::Reader receipt = answer.getReceipt();
  if (answer.hasReceipt()) {
    capnp::MallocMessageBuilder message;
    message.setRoot(receipt);
    if (options.json) {
      PrintReport(message.getRoot<schema::Receipt>());
    } else {
      const TextStyle style = {.width = OutputWidth(), .zone = absl::LocalTimeZone()};
      std::printf("%s", ReceiptText(receipt, style).c_str());
    }
  }
  if (absl::Status error = ipc::ReadStatus(answer.getError()); !error.ok()) return error;
  if (receipt.getOutcome() != "swapped") {
    return absl::FailedPreconditionError(absl::StrCat(
        "server '", options.name, "' was not reloaded (", receipt.getOutcome().cStr(),
        "): ", receipt.getReason().size() > 0 ? receipt.getReason().cStr() : "its log says why"));
  }
  return absl::OkStatus();
}

}  // namespace

void AddReload(CommandLine& line) {
  CLI::App& verb = line.AddVerb(
      "reload",
      "Loads the model again into a new worker, waits until it serves, and prints the receipt. "
      "Exits with 1 when the old worker was kept.",
      "shmctl reload digits\n"
      "  shmctl reload digits --dry-run\n"
      "  shmctl reload digits --override-unconfirmed   # when status says CONFIRMING, pinned-by "
      "PID");
  auto options = std::make_shared<Options>();
  AddServerName(verb, options->name);
  AddTimeout(verb, options->timeout, "How long to wait for it; the reload goes on after that");
  AddJson(verb, options->json);
  CLI::Option* dry_run = verb.add_flag(
      "--dry-run", options->dry_run,
      "Say what a reload would do now, on what grounds and with which obstacles; do nothing");
  verb.add_flag(
          "--override-unconfirmed", options->override_unconfirmed,
          "Go on after confirm_timeout although the old generation's memory is not confirmed "
          "freed. Acts on the reload under way when that is CONFIRMING (this one follows it), "
          "else on the one that this begins. RISK: two generations may hold device memory at "
          "once, which can run out; whoever pins the old one may still read or write it. The "
          "receipt keeps the verdict and says that it was overridden")
      ->excludes(dry_run);
  line.OnRun(verb, [&line, options] {
    return options->dry_run ? ShowPlan(line.run_directory(), *options)
                            : Reload(line.run_directory(), *options);
  });
}

}  // namespace baton::shmctl
