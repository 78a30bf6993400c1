// SupervisorCore: what a reload would do now, without doing any of it.
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "ipc/schema_convert.h"
#include "runtime/supervisor/supervisor_core.h"

namespace baton::runtime {

namespace schema = ipc::schema;
using State = ipc::ServerState;

namespace {

struct NamedDeadline {
  const char* name;
  absl::Duration value;
};

}  // namespace

// What stands in the way, as far as it can be seen from here. `config` is what config.yaml says
// now.
std::vector<std::string> SupervisorCore::Obstacles(
    const absl::StatusOr<loader::ModelConfig>& config) const {
  std::vector<std::string> obstacles;
  if (!config.ok()) {
    obstacles.push_back(
        absl::StrCat("the successor would not be staged, and the generation that "
                     "serves would be kept: ",
                     std::string(config.status().message())));
  }
  const State state = machine_.state();
  if (stop_waits_ || state == State::kStopping || state == State::kStopped) {
    obstacles.emplace_back("the server is stopping");
  } else if (machine_.step() == State::kUnavailable) {
    obstacles.emplace_back("nothing serves; a reload makes the next try at once");
  } else if (machine_.step() != State::kServing) {
    obstacles.push_back(absl::StrCat("a reload is under way (",
                                     std::string(ipc::ServerStateName(machine_.step())),
                                     "); another would follow it"));
  }
  if (machine_.step() == State::kConfirming && last_verdict_ != "freed") {
    obstacles.push_back(absl::StrCat("device memory of generation ", machine_.old_generation(),
                                     " is not confirmed freed (", last_verdict_, ")"));
  }
  for (const uint64_t generation : overridden_) {
    obstacles.push_back(absl::StrCat("generation ", generation, " still holds ",
                                     ledger_.BytesInUse(generation),
                                     " bytes that were never confirmed freed"));
  }
  const uint64_t capacity = config.ok() && config->device_capacity_bytes != 0
                                ? config->device_capacity_bytes
                                : DeviceCapacityBytes();
  const uint64_t footprint = ledger_.BytesInUse(machine_.serving_generation());
  const uint64_t others = ledger_.BytesInUse() - footprint;
  if (footprint + others > capacity) {
    obstacles.push_back(absl::StrCat("the model's ", footprint, " bytes do not fit: ", others,
                                     " of ", capacity, " are in use by others"));
  }
  return obstacles;
}

void SupervisorCore::FillPlan(schema::ReloadPlan::Builder to) {
  auto config = loader::LoadModelConfig(options_.directory);
  const loader::ReloadPolicy& policy = config.ok() ? config->reload : config_.reload;
  const uint64_t serving = machine_.serving_generation();
  const WorkerHandle* worker = Worker(serving);
  const uint64_t footprint = ledger_.BytesInUse(serving);
  const uint64_t capacity = config.ok() && config->device_capacity_bytes != 0
                                ? config->device_capacity_bytes
                                : DeviceCapacityBytes();
  const StrategyChoice choice =
      ChooseStrategy(policy.strategy, {.serving_bytes = footprint,
                                       .successor_bytes = worker ? worker->device_bytes : footprint,
                                       .in_use_bytes = ledger_.BytesInUse(),
                                       .capacity_bytes = capacity});
  to.setStrategy(choice.name());
  to.setStrategyReason(choice.reason);
  to.setState(std::string(ipc::ServerStateName(machine_.state())));
  to.setGeneration(serving);
  to.setFootprintBytes(footprint);
  to.setFootprintSource(absl::StrCat("generation ", serving, " now: ", ledger_.source()));
  to.setDeviceBytesInUse(ledger_.BytesInUse());
  to.setDeviceCapacityBytes(capacity);
  to.setExpectedGapNs(static_cast<uint64_t>(expected_gap_ns_));
  to.setGapSource(gaps_measured_ == 0
                      ? "no gap was measured yet"
                      : absl::StrCat("mean of the last gaps, the latest counting half (",
                                     gaps_measured_, " measured)"));
  // What the directory holds at this moment, settled or not.
  to.setSecretsChanged(worker != nullptr && !options_.secrets_directory.empty() &&
                       !worker->secrets()->SameValues(ReadSecrets(options_.secrets_directory)));
  uint64_t waiting = 0;
  for (const auto& [id, channel] : fronts_.channels()) waiting += CountWaitingRequests(channel);
  to.setRequestsWaiting(waiting);
  to.setFronts(fronts_.fronts());
  to.setChannels(static_cast<uint32_t>(fronts_.channels().size()));
  to.setImporters(static_cast<uint32_t>(fronts_.StillMapping(serving)));
  const NamedDeadline deadlines[] = {
      {"load_timeout", policy.load_timeout},       {"drain_timeout", policy.drain_timeout},
      {"close_timeout", policy.close_timeout},     {"cleanup_timeout", policy.cleanup_timeout},
      {"confirm_timeout", policy.confirm_timeout}, {"helper_timeout", policy.helper_timeout}};
  auto list = to.initDeadlines(std::size(deadlines));
  for (unsigned i = 0; i < std::size(deadlines); ++i) {
    list[i].setName(deadlines[i].name);
    list[i].setNs(static_cast<uint64_t>(absl::ToInt64Nanoseconds(deadlines[i].value)));
  }
  const std::vector<std::string> found = Obstacles(config);
  auto obstacles = to.initObstacles(static_cast<unsigned>(found.size()));
  for (unsigned i = 0; i < found.size(); ++i) obstacles.set(i, CapReason(found[i]));
}

void SupervisorCore::OnPlanAsked(SessionId session, uint64_t call) {
  capnp::MallocMessageBuilder message;
  auto envelope = message.initRoot<schema::Envelope>();
  envelope.setCall(call);
  FillPlan(envelope.initReloadPlan());
  fronts_.Reply(session, message);
}

}  // namespace baton::runtime
