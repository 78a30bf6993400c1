// shmctl timeline: a server's last reloads, drawn. Reads the file that the
// server writes, so that it works when the server is gone.
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "capnp/message.h"

#include "tools/shmctl/command_line.h"
#include "tools/shmctl/receipts_file.h"
#include "tools/shmctl/reload_timeline.h"
#include "tools/shmctl/report_json.h"
#include "tools/shmctl/terminal.h"
#include "tools/shmctl/timeline_drawing.h"

namespace baton::shmctl {
namespace {

namespace schema = ipc::schema;

struct Options {
  std::string name;
  uint32_t last = 5;
  bool json = false;
};

absl::Status ShowTimeline(const std::string& run_directory, const Options& options) {
  const absl::StatusOr<std::vector<StoredReceipt>> receipts =
      ReadReceipts(run_directory, options.name, options.last);
  if (!receipts.ok()) return receipts.status();
  if (options.json) {
    capnp::MallocMessageBuilder message;
    auto report = message.initRoot<schema::TimelineReport>();
    report.setServer(options.name);
    auto reloads = report.initReloads(static_cast<uint32_t>(receipts->size()));
    for (uint32_t i = 0; i < reloads.size(); ++i)
      WriteTimeline((*receipts)[i].reader(), reloads[i]);
    PrintReport(report);
    return absl::OkStatus();
  }
  if (receipts->empty()) {
    std::printf("'%s' has not been reloaded yet\n", options.name.c_str());
    return absl::OkStatus();
  }
  std::vector<schema::Receipt::Reader> readers;
  for (const StoredReceipt& receipt : *receipts) readers.push_back(receipt.reader());
  const std::string drawing = DrawTimeline(readers, {.width = OutputWidth(),
                                                     .colours = OutputHasColours(),
                                                     .utf8 = OutputIsUtf8(),
                                                     .zone = absl::LocalTimeZone()});
  std::fwrite(drawing.data(), 1, drawing.size(), stdout);
  return absl::OkStatus();
}

}  // namespace

void AddTimeline(CommandLine& line) {
  CLI::App& verb = line.AddVerb(
      "timeline",
      "Draws a server's last reloads, oldest first: the time in each state, and when nobody "
      "served; also when it is gone. Bars are in proportion within a reload, but never shorter "
      "than a cell. As wide as $COLUMNS or the terminal; no colours with NO_COLOR or in a pipe.",
      "shmctl timeline digits 1\n  shmctl timeline digits --json | jq '.reloads[-1].states'");
  auto options = std::make_shared<Options>();
  AddServerName(verb, options->name);
  verb.add_option("last", options->last, "How many")
      ->type_name("N")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  AddJson(verb, options->json);
  line.OnRun(verb, [&line, options] { return ShowTimeline(line.run_directory(), *options); });
}

}  // namespace baton::shmctl
