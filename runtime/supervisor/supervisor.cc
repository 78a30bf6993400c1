#include "runtime/supervisor/supervisor.h"

#include <sys/resource.h>

#include <cstdlib>
#include <utility>

#include "absl/strings/match.h"

#include "runtime/supervisor/supervisor_core.h"

namespace baton::runtime {

bool MeansYes(const char* value) {
  if (value == nullptr) return false;
  for (const char* yes : {"1", "true", "yes"}) {
    if (absl::EqualsIgnoreCase(value, yes)) return true;
  }
  return false;
}

namespace {

// A channel costs three descriptors here, and the soft limit is often 1024.
// Workers inherit this, and map every channel, too.
void RaiseDescriptorLimit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);  // if not: the reserve makes openChannel fail in time
}

}  // namespace

Supervisor::Supervisor(std::unique_ptr<SupervisorCore> core) : core_(std::move(core)) {}
Supervisor::~Supervisor() = default;

absl::StatusOr<std::unique_ptr<Supervisor>> Supervisor::Create(SupervisorOptions options) {
  for (const char* variable : {"BATON_DISABLE_SECRETS_RELOAD", "CLARIFAI_DISABLE_SECRETS_RELOAD"}) {
    if (MeansYes(std::getenv(variable))) options.disable_secrets_reload = true;
  }
  RaiseDescriptorLimit();
  auto core = SupervisorCore::Create(std::move(options));
  if (!core.ok()) return core.status();
  return std::unique_ptr<Supervisor>(new Supervisor(*std::move(core)));
}

const std::string& Supervisor::name() const { return core_->name(); }
absl::Status Supervisor::Run() { return core_->Run(); }
void Supervisor::RequestStop() { core_->RequestStop(); }

}  // namespace baton::runtime
