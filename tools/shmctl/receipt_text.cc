#include "tools/shmctl/receipt_text.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

#include "tools/shmctl/quantity_text.h"
#include "tools/shmctl/reload_timeline.h"
#include "tools/shmctl/wrapped_text.h"

namespace baton::shmctl {
namespace {

namespace schema = ipc::schema;

constexpr size_t kIndent = 13;

std::string Headline(schema::Receipt::Reader receipt) {
  std::string text =
      absl::StrCat(receipt.getOutcome().cStr(), " generation ", receipt.getGeneration());
  if (receipt.getSuccessor() != 0) absl::StrAppend(&text, " -> ", receipt.getSuccessor());
  absl::StrAppend(&text, " (", receipt.getTrigger().cStr(), "): verdict ",
                  receipt.getVerdict().cStr());
  if (receipt.getGapNs() > 0) absl::StrAppend(&text, ", gap ", DurationText(receipt.getGapNs()));
  if (receipt.getOverridden()) absl::StrAppend(&text, ", overridden");
  return text;
}

std::string Known(absl::string_view what, capnp::Text::Reader source) {
  if (source.size() == 0) return std::string(what);
  return absl::StrCat(what, ", known by ", source.cStr());
}

std::string Worker(schema::Receipt::Reader receipt) {
  std::string text = absl::StrCat("pid ", receipt.getWorkerPid());
  if (receipt.getExitKind() == "exited") {
    absl::StrAppend(&text, " exited with ", receipt.getExitCode());
  } else if (receipt.getExitKind() == "signalled") {
    absl::StrAppend(&text, " was killed by signal ", receipt.getExitCode());
  } else if (receipt.getExitKind() == "none") {
    absl::StrAppend(&text, " lives on");
  } else {
    absl::StrAppend(&text, ", end ", receipt.getExitKind().cStr());
  }
  if (receipt.getSuccessorPid() != 0) {
    absl::StrAppend(&text, "; successor pid ", receipt.getSuccessorPid());
  }
  return text;
}

std::string Device(schema::Receipt::Reader receipt) {
  std::string text = absl::StrCat("peak ", BytesText(receipt.getDeviceBytesPeak()));
  // The number that says whether two generations were there at once.
  if (receipt.getDeviceBytesModel() > 0) {
    absl::StrAppend(&text, " with a model of ", BytesText(receipt.getDeviceBytesModel()));
  }
  absl::StrAppend(&text, "; ", BytesText(receipt.getDeviceBytesBefore()), " before, ",
                  BytesText(receipt.getDeviceBytesAfter()), " after");
  return Known(text, receipt.getDeviceSource());
}

std::string States(schema::Receipt::Reader receipt) {
  std::string text;
  for (const ReloadTimeline::Span& span : TimelineOf(receipt).spans) {
    absl::StrAppend(&text, text.empty() ? "" : ", ", span.state, " ", DurationText(span.ns));
  }
  return text;
}

std::string Evidence(schema::Receipt::Reader receipt) {
  std::string text;
  for (const schema::Receipt::Evidence::Reader evidence : receipt.getEvidence()) {
    std::string fact = evidence.getFact();
    if (evidence.getValue().size() > 0) absl::StrAppend(&fact, ": ", evidence.getValue().cStr());
    absl::StrAppend(&text, text.empty() ? "" : "\n", Known(fact, evidence.getSource()));
  }
  return text;
}

}  // namespace

std::string ReceiptText(schema::Receipt::Reader receipt, const TextStyle& style) {
  std::string text = WrappedRow("", 0, Headline(receipt), style.width);
  const auto row = [&](absl::string_view label, const std::string& value) {
    if (value.empty()) return;
    absl::StrAppend(&text, WrappedRow(absl::StrCat("  ", label), kIndent, value, style.width));
  };
  row("reason", receipt.getReason());
  const absl::Time started = absl::FromUnixMillis(static_cast<int64_t>(receipt.getStartedUnixMs()));
  row("started", absl::FormatTime("%Y-%m-%d %H:%M:%E3S", started, style.zone));
  std::string strategy = receipt.getStrategy();
  if (receipt.getStrategyReason().size() > 0) {
    absl::StrAppend(&strategy, ": ", receipt.getStrategyReason().cStr());
  }
  row("strategy", strategy);
  row("states", States(receipt));
  if (receipt.getWorkerPid() != 0) row("worker", Worker(receipt));
  row("verdict", Known(receipt.getVerdict().cStr(), receipt.getVerdictSource()));
  if (receipt.getOverridden()) {
    row("overridden", "the successor was admitted although the memory was not confirmed freed");
  }
  row("holders", receipt.getHolders());
  row("device", Device(receipt));
  row("imports", absl::StrCat(receipt.getImportsClosed(), " closed, ", receipt.getImportsCutOff(),
                              " cut off"));
  row("requests", absl::StrCat(receipt.getRequestsHeld(), " held, ", receipt.getRequestsExpired(),
                               " expired, ", receipt.getRequestsFailed(), " failed"));
  row("evidence", Evidence(receipt));
  return text;
}

}  // namespace baton::shmctl
