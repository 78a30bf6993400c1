#include "tools/shmctl/exit_code.h"

#include "absl/strings/cord.h"

namespace baton::shmctl {
namespace {

constexpr char kUsageMark[] = "baton/shmctl/usage";
constexpr char kNoSuchServerMark[] = "baton/shmctl/no-such-server";

}  // namespace

absl::Status UsageError(const std::string& message) {
  absl::Status status = absl::InvalidArgumentError(message);
  status.SetPayload(kUsageMark, absl::Cord());
  return status;
}

absl::Status NoSuchServer(absl::Status status) {
  status.SetPayload(kNoSuchServerMark, absl::Cord());
  return status;
}

ExitCode ExitCodeOf(const absl::Status& status) {
  if (status.ok()) return ExitCode::kDone;
  if (status.GetPayload(kUsageMark)) return ExitCode::kUsage;
  if (status.GetPayload(kNoSuchServerMark)) return ExitCode::kNoSuchServer;
  return ExitCode::kFailed;
}

}  // namespace baton::shmctl
