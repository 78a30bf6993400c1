// ChannelCore: the shapes of requests, checked and laid out once.
#include <algorithm>
#include <memory>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"

#include "runtime/front/channel_core.h"

namespace baton::internal {
namespace {

constexpr uint64_t kDefaultDynamicResponseBytes = 64 * 1024;

bool IsStatic(std::span<const TensorSpec> specs) {
  for (const TensorSpec& spec : specs) {
    if (!TensorBytes(spec.dtype, spec.shape)) return false;
  }
  return true;
}

absl::Status TooLarge(const char* what, uint64_t needed, uint64_t arena, const char* option) {
  return absl::InvalidArgumentError(absl::StrCat("the ", what, " needs a block of ", needed,
                                                 " bytes, this channel's arena has ", arena,
                                                 ": open the channel with a larger ", option));
}

}  // namespace

// What to loan for the results, on the host and on the device.
absl::Status ChannelCore::PlanResults(PlanRep& plan) const {
  const uint64_t room =
      plan.on_device ? options_.device_result_bytes : completion_plan_.arena_bytes;
  uint64_t results = plan.asked_response_bytes;
  const std::vector<TensorSpec>& outputs = methods()[plan.method].signature.outputs;
  if (results == 0 && IsStatic(outputs)) {
    for (const TensorSpec& spec : outputs) {
      results += ipc::RoundUpToGranules(TensorBytes(spec.dtype, spec.shape).value_or(0));
    }
  } else if (results == 0) {
    results = std::min(kDefaultDynamicResponseBytes, room / 2);
  }
  const uint64_t reserve = ipc::DescriptorReserve(outputs);
  const uint64_t on_host = reserve + (plan.on_device ? 0 : results);
  if (results > room || on_host > completion_plan_.arena_bytes) {
    return TooLarge("response", results, room,
                    plan.on_device ? "device_result_bytes" : "response_arena_bytes");
  }
  plan.response_granules =
      static_cast<uint32_t>(ipc::RoundUpToGranules(on_host) / ipc::kGranuleBytes);
  if (plan.on_device) {
    plan.device_granules = static_cast<uint32_t>(
        std::max<uint64_t>(ipc::RoundUpToGranules(results) / ipc::kGranuleBytes, 1));
  }
  return absl::OkStatus();
}

// Whether they are what the method takes, and which of them are secret.
absl::Status ChannelCore::MatchInputs(PlanRep& plan) const {
  const std::vector<TensorSpec> specs =
      InputsOf(methods()[plan.method].signature, /*streamed=*/plan.item);
  absl::StatusOr<std::vector<uint32_t>> order = ipc::MatchSpecs(specs, plan.layouts);
  if (!order.ok()) return order.status();
  for (size_t i = 0; i < specs.size(); ++i) {
    if (specs[i].content == Content::kSecret && (*order)[i] != ipc::kNoLayout) {
      plan.secrets.push_back((*order)[i]);
    }
  }
  if (plan.inputs_on_device && !plan.secrets.empty()) {
    return absl::InvalidArgumentError("a secret input does not lie on the device");
  }
  return absl::OkStatus();
}

// Where the inputs lie, on the host and on the device.
absl::Status ChannelCore::LayOut(PlanRep& plan) const {
  uint64_t here =
      ipc::RoundUpToGranules(ipc::kBlockHeaderBytes + ipc::DescriptorReserve(plan.inputs));
  uint64_t there = 0;
  uint64_t& at = plan.inputs_on_device ? there : here;
  const uint64_t request_arena = submission_plan_.arena_bytes;
  const uint64_t room = plan.inputs_on_device ? options_.device_input_bytes : request_arena;
  const char* const option = plan.inputs_on_device ? "device_input_bytes" : "request_arena_bytes";
  for (ipc::TensorLayout& layout : plan.layouts) {
    layout.offset = at;
    layout.on_device = plan.inputs_on_device;
    if (layout.bytes > room) return TooLarge("request", layout.bytes, room, option);
    at = ipc::RoundUpToGranules(at + layout.bytes);
  }
  if (at > room) return TooLarge("request", at, room, option);
  if (const uint64_t limit = session_->max_request_bytes(); limit != 0 && here + there > limit) {
    return absl::InvalidArgumentError(absl::StrCat("the request needs ", here + there,
                                                   " bytes, the server allows ", limit,
                                                   " (limits.max_request_bytes)"));
  }
  if (methods()[plan.method].streams() && !plan.item) {
    plan.window_granule = static_cast<uint32_t>(here / ipc::kGranuleBytes);
    here += sizeof(ipc::StreamWindow);
  }
  if (here > request_arena) return TooLarge("request", here, request_arena, "request_arena_bytes");
  plan.request_granules = static_cast<uint32_t>(here / ipc::kGranuleBytes);
  if (plan.inputs_on_device) {
    plan.input_granules = static_cast<uint32_t>(std::max<uint64_t>(there / ipc::kGranuleBytes, 1));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<PlanRep>> ChannelCore::MakePlan(std::span<const TensorSpec> inputs,
                                                               const PlanOptions& options,
                                                               bool item) {
  auto plan = std::make_unique<PlanRep>();
  plan->item = item;
  plan->method = options.method;
  plan->on_device = options.results_on_device;
  plan->inputs_on_device = options.inputs_on_device;
  plan->inputs.assign(inputs.begin(), inputs.end());
  plan->asked_response_bytes = options.response_bytes;
  for (const TensorSpec& spec : inputs) {
    const std::optional<uint64_t> bytes = TensorBytes(spec.dtype, spec.shape);
    if (!bytes || spec.shape.size() > kMaxRank || spec.name.size() > kMaxNameBytes) {
      return absl::InvalidArgumentError(absl::StrCat(
          "input ", ToString(spec), ": a request needs every dimension, a dtype, at most ",
          kMaxRank, " dimensions and a name of at most ", kMaxNameBytes, " bytes"));
    }
    plan->layouts.push_back({.name = spec.name,
                             .dtype = spec.dtype,
                             .shape = spec.shape,
                             .offset = 0,
                             .bytes = *bytes});
  }
  if (absl::Status matched = MatchInputs(*plan); !matched.ok()) return matched;
  if (absl::Status laid_out = LayOut(*plan); !laid_out.ok()) return laid_out;
  if (absl::Status status = item ? absl::OkStatus() : PlanResults(*plan); !status.ok()) {
    return status;
  }
  if (methods()[plan->method].streams() && !item) {
    plan->chunk_granules = plan->response_granules;
    plan->response_granules = ipc::kStreamEndBytes / ipc::kGranuleBytes;
  }
  absl::StatusOr<ipc::DescriptorBytes> descriptor = ipc::EncodeRequest(plan->layouts);
  if (!descriptor.ok()) return descriptor.status();
  plan->descriptor = *std::move(descriptor);
  return plan;
}

absl::Status ChannelCore::CheckPlan(const PlanOptions& options, bool item) const {
  if (absl::Status status = CheckUsable(); !status.ok()) return status;
  if (options.results_on_device && options_.device_result_bytes == 0) {
    return absl::FailedPreconditionError(
        "this channel has no device memory: open it with ChannelOptions::device_result_bytes");
  }
  if (options.inputs_on_device && options_.device_input_bytes == 0) {
    return absl::FailedPreconditionError(
        "this channel has no device memory for inputs: open it with "
        "ChannelOptions::device_input_bytes");
  }
  if (options.method >= methods().size()) {
    return absl::InvalidArgumentError(absl::StrCat("the model has no method ", options.method,
                                                   ": it has ", methods().size(), ", from 0"));
  }
  if (item && !methods()[options.method].streams_inputs) {
    return absl::InvalidArgumentError("the stream's method takes no items");
  }
  if ((options.results_on_device || options.inputs_on_device) &&
      methods()[options.method].streams()) {
    return absl::InvalidArgumentError("what a stream takes and gives lies on the host");
  }
  return absl::OkStatus();
}

const PlanRep* ChannelCore::FindPlan(std::span<const TensorSpec> inputs, const PlanOptions& options,
                                     bool item) const {
  for (const std::unique_ptr<PlanRep>& plan : plans_) {
    if (plan->method == options.method && plan->item == item &&
        plan->asked_response_bytes == options.response_bytes &&
        plan->on_device == options.results_on_device &&
        plan->inputs_on_device == options.inputs_on_device &&
        std::equal(inputs.begin(), inputs.end(), plan->inputs.begin(), plan->inputs.end())) {
      return plan.get();
    }
  }
  return nullptr;
}

absl::StatusOr<const PlanRep*> ChannelCore::Plan(std::span<const TensorSpec> inputs,
                                                 const PlanOptions& options, bool item) {
  if (absl::Status status = CheckPlan(options, item); !status.ok()) return status;
  if (const PlanRep* plan = FindPlan(inputs, options, item); plan != nullptr) return plan;
  if (plans_.size() == ipc::kMaxPlans) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "this channel has ", ipc::kMaxPlans,
        " plans already: use fewer different shapes, another channel, or NewRequest or NewItem"));
  }
  absl::StatusOr<std::unique_ptr<PlanRep>> plan = MakePlan(inputs, options, item);
  if (!plan.ok()) return plan.status();
  (*plan)->token = plans_.size() + 1;
  plans_.push_back(*std::move(plan));
  return plans_.back().get();
}

absl::StatusOr<uint32_t> ChannelCore::LoanNew(std::span<const TensorSpec> inputs,
                                              const PlanOptions& options, bool item) {
  if (absl::Status status = CheckPlan(options, item); !status.ok()) return status;
  if (FindPlan(inputs, options, item) != nullptr || plans_.size() < ipc::kMaxPlans) {
    absl::StatusOr<const PlanRep*> plan = Plan(inputs, options, item);
    if (!plan.ok()) return plan.status();
    return Loan(**plan);
  }
  // Without a token: the worker parses it, and keeps nothing of it.
  absl::StatusOr<std::unique_ptr<PlanRep>> own = MakePlan(inputs, options, item);
  if (!own.ok()) return own.status();
  absl::StatusOr<uint32_t> slot = Loan(**own);
  if (slot.ok()) slots_[*slot].own_plan = *std::move(own);
  return slot;
}

absl::StatusOr<const PlanRep*> ChannelCore::DefaultPlan() {
  const std::vector<TensorSpec>& inputs = methods().front().signature.inputs;
  if (!IsStatic(inputs)) {
    return absl::InvalidArgumentError(
        "the model's inputs have dimensions that each request chooses: say which shapes");
  }
  return Plan(inputs, PlanOptions());
}

}  // namespace baton::internal
