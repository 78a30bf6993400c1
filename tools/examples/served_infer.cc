#include "tools/examples/served_infer.h"

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "baton/front.h"

namespace baton::examples {
namespace {

class Served {
 public:
  Served(const ServedModel& model, std::unique_ptr<Front> front, Channel channel)
      : model_(model), front_(std::move(front)), channel_(std::move(channel)) {}

  absl::StatusOr<std::vector<OwnedTensor>> Run(std::span<const TensorView> inputs) {
    auto plan = PlanFor(inputs);
    if (!plan.ok()) return plan.status();
    auto request = channel_.Loan(*plan);
    if (!request.ok()) return request.status();
    for (const TensorView& input : inputs) {
      const std::span<std::byte> to = request->input_bytes(input.name);
      if (to.size() != input.bytes.size()) {
        return absl::InvalidArgumentError(absl::StrCat("input '", std::string(input.name), "' has ",
                                                       input.bytes.size(),
                                                       " bytes, its shape asks for ", to.size()));
      }
      std::copy(input.bytes.begin(), input.bytes.end(), to.begin());
    }
    auto response = channel_.Call(*std::move(request), model_.call);
    if (!response.ok()) return response.status();
    std::vector<OwnedTensor> outputs;
    for (const TensorView& output : response->outputs()) {
      outputs.push_back(
          {{std::string(output.name), output.dtype, {output.shape.begin(), output.shape.end()}},
           {output.bytes.begin(), output.bytes.end()}});
    }
    return outputs;
  }

 private:
  // A plan for inputs of these shapes: made once, then found again.
  absl::StatusOr<RequestPlan> PlanFor(std::span<const TensorView> inputs) {
    std::vector<TensorSpec> specs;
    for (const TensorView& input : inputs) {
      specs.push_back(
          {std::string(input.name), input.dtype, {input.shape.begin(), input.shape.end()}});
    }
    for (const auto& [planned, plan] : plans_) {
      if (planned == specs) return plan;
    }
    auto plan = channel_.Plan(specs, model_.response_bytes);
    if (plan.ok()) plans_.emplace_back(std::move(specs), *plan);
    return plan;
  }

  const ServedModel model_;
  const std::unique_ptr<Front> front_;
  Channel channel_;
  std::vector<std::pair<std::vector<TensorSpec>, RequestPlan>> plans_;
};

}  // namespace

absl::StatusOr<Infer> ServedInfer(const ServedModel& model) {
  auto front = Front::Attach(model.name, model.front);
  if (!front.ok()) return front.status();
  auto channel = (*front)->OpenChannel();
  if (!channel.ok()) return channel.status();
  const auto served = std::make_shared<Served>(model, *std::move(front), *std::move(channel));
  return [served](std::span<const TensorView> inputs) { return served->Run(inputs); };
}

}  // namespace baton::examples
