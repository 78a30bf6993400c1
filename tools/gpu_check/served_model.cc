#include "tools/gpu_check/served_model.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <cerrno>
#include <deque>
#include <filesystem>
#include <fstream>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/time.h"

#include "ipc/schema_convert.h"
#include "ipc/unique_fd.h"

namespace baton::gpu_check {
namespace {

namespace fs = std::filesystem;

constexpr absl::Duration kStartLimit = absl::Minutes(2);
constexpr absl::Duration kReloadLimit = absl::Minutes(2);
constexpr absl::Duration kAnswerLimit = absl::Seconds(10);
constexpr size_t kLogLines = 4;

// What this process starts meanwhile writes its errors to a file.
class ErrorsTo {
 public:
  explicit ErrorsTo(const std::string& path) : before_(::fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3)) {
    const ipc::UniqueFd file(::open(path.c_str(), O_CREAT | O_APPEND | O_WRONLY | O_CLOEXEC, 0600));
    if (file && before_) ::dup2(file.get(), STDERR_FILENO);
  }
  ~ErrorsTo() {
    if (before_) ::dup2(before_.get(), STDERR_FILENO);
  }
  ErrorsTo(const ErrorsTo&) = delete;
  ErrorsTo& operator=(const ErrorsTo&) = delete;

 private:
  const ipc::UniqueFd before_;
};

fs::path FolderOfThisProgram() {
  std::error_code error;
  return fs::read_symlink("/proc/self/exe", error).parent_path();
}

std::string LogPath(const std::string& folder) { return folder + "/log"; }

}  // namespace

std::string ServedModel::WeightsModelPath() { return FolderOfThisProgram() / "gpu_check_model.so"; }

std::string ServedModel::ShippedModelPath(const std::string& name) {
  std::vector<fs::path> sources;
  if (const char* const source = ::getenv("BATON_SOURCE_DIR")) sources.emplace_back(source);
  // Of a bundle, and of a build folder in its tree.
  sources.push_back(FolderOfThisProgram() / "../source");
  sources.push_back(FolderOfThisProgram() / "../../..");
  for (const fs::path& source : sources) {
    std::error_code error;
    const fs::path found = fs::canonical(source / "loader/models" / name, error);
    if (!error) return found;
  }
  return "";
}

absl::StatusOr<std::unique_ptr<ServedModel>> ServedModel::Launch(unsigned device,
                                                                 const std::string& config) {
  std::error_code error;
  std::string folder = fs::temp_directory_path(error) / "gpu-check-XXXXXX";
  if (error || ::mkdtemp(folder.data()) == nullptr) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot make a folder ", folder));
  }
  std::unique_ptr<ServedModel> served(new ServedModel(folder));
  std::ofstream(folder + "/config.yaml") << config;
  const std::string run_directory = folder + "/run";
  {
    const ErrorsTo log(LogPath(folder));
    LaunchOptions options;
    options.directory = folder;
    options.name = "measured";
    options.device = absl::StrCat("cuda:", device);
    options.start_timeout = kStartLimit;
    options.front.run_directory = run_directory;
    options.front.import_device = true;
    absl::StatusOr<std::unique_ptr<Front>> front = Front::Launch(options);
    if (!front.ok()) return served->WithLog(front.status());
    served->front_ = *std::move(front);
  }
  absl::StatusOr<shmctl::ServerClient> client =
      shmctl::ServerClient::Connect(run_directory, served->front_->name(), kAnswerLimit);
  if (!client.ok()) return served->WithLog(client.status());
  served->client_.emplace(*std::move(client));
  return served;
}

ServedModel::~ServedModel() {
  client_.reset();
  front_.reset();
  std::error_code ignored;
  fs::remove_all(folder_, ignored);
}

absl::StatusOr<ReloadFacts> ServedModel::Reload() {
  const absl::StatusOr<ipc::ControlMessage> answer = client_->Call(
      [](ipc::schema::Envelope::Builder envelope) { envelope.initReload().setTrigger("command"); },
      kReloadLimit);
  if (!answer.ok()) return WithLog(answer.status());
  const auto reply = answer->envelope().getReloadReply();
  if (absl::Status status = ipc::ReadStatus(reply.getError()); !status.ok()) {
    return WithLog(status);
  }
  const auto receipt = reply.getReceipt();
  const std::string outcome = ipc::ReadText(receipt.getOutcome());
  const std::string verdict = ipc::ReadText(receipt.getVerdict());
  if (outcome != "swapped" || verdict != "freed") {
    return WithLog(
        absl::InternalError(absl::StrCat("a reload ended '", outcome, "' with the verdict '",
                                         verdict, "': ", ipc::ReadText(receipt.getReason()))));
  }
  ReloadFacts facts;
  facts.gap_ns = static_cast<double>(receipt.getGapNs());
  facts.successor = receipt.getSuccessor();
  for (const auto state : receipt.getStates()) {
    facts.states_ns.emplace_back(ipc::ReadText(state.getState()),
                                 static_cast<double>(state.getNs()));
  }
  return facts;
}

absl::Status ServedModel::WithLog(const absl::Status& status) const {
  std::deque<std::string> last;
  std::ifstream log(LogPath(folder_));
  for (std::string line; std::getline(log, line);) {
    last.push_back(line);
    if (last.size() > kLogLines) last.pop_front();
  }
  if (last.empty()) return status;
  return absl::Status(status.code(),
                      absl::StrCat(std::string(status.message()),
                                   "; the server's log ends: ", absl::StrJoin(last, " / ")));
}

}  // namespace baton::gpu_check
