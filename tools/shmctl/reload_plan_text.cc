#include "tools/shmctl/reload_plan_text.h"

#include "absl/strings/str_cat.h"

#include "tools/shmctl/quantity_text.h"
#include "tools/shmctl/wrapped_text.h"

namespace baton::shmctl {
namespace {

namespace schema = ipc::schema;

constexpr size_t kIndent = 14;

std::string Footprint(schema::ReloadPlan::Reader plan) {
  std::string text = absl::StrCat(BytesText(plan.getFootprintBytes()), " a generation");
  if (plan.getFootprintSource().size() > 0) {
    absl::StrAppend(&text, " (", plan.getFootprintSource().cStr(), ")");
  }
  return text;
}

std::string Device(schema::ReloadPlan::Reader plan) {
  const uint64_t capacity = plan.getDeviceCapacityBytes();
  const uint64_t used = plan.getDeviceBytesInUse();
  std::string text = absl::StrCat(BytesText(used), " in use of ", BytesText(capacity));
  if (capacity >= used) absl::StrAppend(&text, ", ", BytesText(capacity - used), " free");
  return text;
}

std::string ExpectedGap(schema::ReloadPlan::Reader plan) {
  if (plan.getExpectedGapNs() == 0) {
    return absl::StrCat("not known: ", plan.getGapSource().cStr());
  }
  return absl::StrCat(DurationText(plan.getExpectedGapNs()), ": ", plan.getGapSource().cStr());
}

std::string Deadlines(schema::ReloadPlan::Reader plan) {
  std::string text;
  for (const schema::ReloadPlan::Deadline::Reader deadline : plan.getDeadlines()) {
    absl::StrAppend(&text, text.empty() ? "" : ", ", deadline.getName().cStr(), " ",
                    DurationText(deadline.getNs()));
  }
  return text;
}

}  // namespace

std::string ReloadPlanText(absl::string_view server, schema::ReloadPlan::Reader plan,
                           size_t width) {
  std::string text;
  const auto row = [&](absl::string_view label, const std::string& value) {
    absl::StrAppend(&text, WrappedRow(label, kIndent, value, width));
  };
  row("would reload",
      plan.getGeneration() == 0
          ? absl::StrCat(server, ", which is ", plan.getState().cStr(), "; no generation serves")
          : absl::StrCat("generation ", plan.getGeneration(), " of ", server, ", which is ",
                         plan.getState().cStr()));
  row("strategy", absl::StrCat(plan.getStrategy().cStr(), ": ", plan.getStrategyReason().cStr()));
  row("footprint", Footprint(plan));
  row("device", Device(plan));
  row("expected gap", ExpectedGap(plan));
  row("secrets",
      plan.getSecretsChanged() ? "changed since that generation was started" : "not changed");
  row("waiting", absl::StrCat(plan.getRequestsWaiting(), " requests"));
  row("fronts", absl::StrCat(plan.getFronts(), ", channels ", plan.getChannels(), ", importers ",
                             plan.getImporters()));
  row("deadlines", Deadlines(plan));
  if (plan.getObstacles().size() == 0) row("obstacles", "none");
  bool first = true;
  for (const capnp::Text::Reader obstacle : plan.getObstacles()) {
    row(first ? "obstacles" : "", obstacle);
    first = false;
  }
  return text + "This was a dry run: nothing was done.\n";
}

}  // namespace baton::shmctl
