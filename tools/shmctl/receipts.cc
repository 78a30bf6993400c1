// shmctl receipts: what a server's reloads did. Reads the file that the server
// writes, so that it works when the server is gone.
#include <sys/stat.h>

#include <cstdio>
#include <deque>
#include <fstream>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "capnp/message.h"

#include "tools/shmctl/command_line.h"
#include "tools/shmctl/receipt_text.h"
#include "tools/shmctl/report_json.h"
#include "tools/shmctl/server_client.h"

namespace baton::shmctl {
namespace {

namespace schema = ipc::schema;
using ReceiptMessage = std::unique_ptr<capnp::MallocMessageBuilder>;

struct Options {
  std::string name;
  uint32_t last = 0;  // 0: all
  bool json = false;
};

// Where the server's folder is. A server that runs, or has run, has one.
absl::StatusOr<std::string> FindFolder(const std::string& run_directory, const std::string& name) {
  absl::StatusOr<ipc::RunDirectory> directory = OpenRunDirectory(run_directory);
  if (!directory.ok()) return directory.status();
  absl::StatusOr<std::string> folder = directory->FolderOf(name);
  if (!folder.ok()) return UsageError(std::string(folder.status().message()));
  struct stat info;
  if (::stat(folder->c_str(), &info) != 0) {
    return NoSuchServer(absl::NotFoundError(
        absl::StrCat("no server named '", name, "' runs or has run: see shmctl ls, and look in ",
                     directory->path())));
  }
  return folder;
}

// The last ones, oldest first. A line that is no receipt (a supervisor was
// killed while it wrote) is told and skipped.
std::deque<ReceiptMessage> ReadReceipts(const std::string& path, uint32_t last) {
  std::deque<ReceiptMessage> receipts;
  std::ifstream in(path);
  std::string text;
  for (uint64_t number = 1; std::getline(in, text); ++number) {
    auto message = std::make_unique<capnp::MallocMessageBuilder>();
    const absl::Status status = ParseReceiptJson(text, message->initRoot<schema::Receipt>());
    if (!status.ok()) {
      std::fprintf(stderr, "shmctl: %s:%llu: %s: skipped\n", path.c_str(),
                   static_cast<unsigned long long>(number), std::string(status.message()).c_str());
      continue;
    }
    receipts.push_back(std::move(message));
    if (last > 0 && receipts.size() > last) receipts.pop_front();
  }
  return receipts;
}

absl::Status ShowReceipts(const std::string& run_directory, const Options& options) {
  absl::StatusOr<std::string> folder = FindFolder(run_directory, options.name);
  if (!folder.ok()) return folder.status();
  const std::deque<ReceiptMessage> receipts =
      ReadReceipts(*folder + "/receipts.jsonl", options.last);
  if (!options.json) {
    for (const ReceiptMessage& receipt : receipts) {
      std::printf("%s\n", ReceiptText(receipt->getRoot<schema::Receipt>()).c_str());
    }
    return absl::OkStatus();
  }
  capnp::MallocMessageBuilder message;
  auto report = message.initRoot<schema::ReceiptsReport>();
  report.setServer(options.name);
  auto list = report.initReceipts(static_cast<uint32_t>(receipts.size()));
  for (uint32_t i = 0; i < list.size(); ++i) {
    list.setWithCaveats(i, receipts[i]->getRoot<schema::Receipt>().asReader());
  }
  PrintReport(report);
  return absl::OkStatus();
}

}  // namespace

void AddReceipts(CommandLine& line) {
  CLI::App& verb = line.AddVerb(
      "receipts", "Shows the receipts of a server's reloads, oldest first; also when it is gone.",
      "shmctl receipts digits --last 1 --json | jq '.receipts[0].verdict'");
  auto options = std::make_shared<Options>();
  AddServerName(verb, options->name);
  verb.add_option("--last", options->last, "Only the last K")
      ->type_name("K")
      ->check(CLI::PositiveNumber);
  AddJson(verb, options->json);
  line.OnRun(verb, [&line, options] { return ShowReceipts(line.run_directory(), *options); });
}

}  // namespace baton::shmctl
