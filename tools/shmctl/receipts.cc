// shmctl receipts: what a server's reloads did. Reads the file that the server
// writes, so that it works when the server is gone.
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "capnp/message.h"

#include "tools/shmctl/command_line.h"
#include "tools/shmctl/receipt_text.h"
#include "tools/shmctl/receipts_file.h"
#include "tools/shmctl/report_json.h"
#include "tools/shmctl/terminal.h"

namespace baton::shmctl {
namespace {

namespace schema = ipc::schema;

struct Options {
  std::string name;
  uint32_t last = 0;  // 0: all
  bool json = false;
};

absl::Status ShowReceipts(const std::string& run_directory, const Options& options) {
  const absl::StatusOr<std::vector<StoredReceipt>> receipts =
      ReadReceipts(run_directory, options.name, options.last);
  if (!receipts.ok()) return receipts.status();
  if (!options.json) {
    const TextStyle style = {.width = OutputWidth(), .zone = absl::LocalTimeZone()};
    for (size_t i = 0; i < receipts->size(); ++i) {
      std::printf("%s%s", i > 0 ? "\n" : "", ReceiptText((*receipts)[i].reader(), style).c_str());
    }
    return absl::OkStatus();
  }
  capnp::MallocMessageBuilder message;
  auto report = message.initRoot<schema::ReceiptsReport>();
  report.setServer(options.name);
  auto list = report.initReceipts(static_cast<uint32_t>(receipts->size()));
  for (uint32_t i = 0; i < list.size(); ++i) {
    list.setWithCaveats(i, (*receipts)[i].reader());
  }
  PrintReport(report);
  return absl::OkStatus();
}

}  // namespace

void AddReceipts(CommandLine& line) {
  CLI::App& verb = line.AddVerb(
      "receipts",
      "Shows the receipts of a server's reloads, oldest first: what was done, and how each fact is "
      "known; also when it is gone.",
      "shmctl receipts digits --last 1 --json | jq '.receipts[0].evidence'");
  auto options = std::make_shared<Options>();
  AddServerName(verb, options->name);
  verb.add_option("--last", options->last, "Only the last K")
      ->type_name("K")
      ->check(CLI::PositiveNumber);
  AddJson(verb, options->json);
  line.OnRun(verb, [&line, options] { return ShowReceipts(line.run_directory(), *options); });
}

}  // namespace baton::shmctl
