#include "tools/shmctl/receipts_file.h"

#include <sys/stat.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <deque>
#include <fstream>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"

#include "tools/shmctl/exit_code.h"
#include "tools/shmctl/report_json.h"
#include "tools/shmctl/server_client.h"
#include "tools/shmctl/wrapped_text.h"

namespace baton::shmctl {
namespace {

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

}  // namespace

absl::StatusOr<StoredReceipt> StoredReceipt::Parse(const std::string& line) {
  StoredReceipt receipt;
  receipt.message_ = std::make_unique<capnp::MallocMessageBuilder>();
  const absl::Status status =
      ParseReceiptJson(line, receipt.message_->initRoot<ipc::schema::Receipt>());
  if (!status.ok()) return status;
  uint64_t total_ns = 0;
  for (const auto state : receipt.reader().getStates()) {
    if (state.getNs() > UINT64_MAX - total_ns) {
      return absl::InvalidArgumentError("its times add up to more than 2^64 ns");
    }
    total_ns += state.getNs();
  }
  return receipt;
}

absl::StatusOr<std::vector<StoredReceipt>> ReadReceipts(const std::string& run_directory,
                                                        const std::string& server, uint32_t last) {
  absl::StatusOr<std::string> folder = FindFolder(run_directory, server);
  if (!folder.ok()) return folder.status();
  const std::string path = *folder + "/receipts.jsonl";
  std::deque<StoredReceipt> receipts;
  errno = 0;
  std::ifstream in(path);
  // Without the file: it was never reloaded.
  if (const int error = errno; !in.is_open() && error != ENOENT) {
    return absl::ErrnoToStatus(
        error, absl::StrCat("cannot open the receipts of server '", server, "' (", path, ")"));
  }
  std::string text;
  for (uint64_t number = 1; std::getline(in, text); ++number) {
    absl::StatusOr<StoredReceipt> receipt = StoredReceipt::Parse(text);
    if (!receipt.ok()) {
      std::fprintf(stderr, "shmctl: %s:%llu: %s: skipped\n", path.c_str(),
                   static_cast<unsigned long long>(number),
                   Printable(receipt.status().message()).c_str());
      continue;
    }
    receipts.push_back(*std::move(receipt));
    if (last > 0 && receipts.size() > last) receipts.pop_front();
  }
  if (in.bad()) {
    return absl::InternalError(
        absl::StrCat("cannot read the receipts of server '", server, "' (", path, ")"));
  }
  return std::vector<StoredReceipt>(std::make_move_iterator(receipts.begin()),
                                    std::make_move_iterator(receipts.end()));
}

}  // namespace baton::shmctl
