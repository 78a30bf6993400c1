#include "tools/shmctl/receipt_text.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace baton::shmctl {

std::string ReceiptText(ipc::schema::Receipt::Reader receipt) {
  std::string text =
      absl::StrCat(receipt.getOutcome().cStr(), " generation ", receipt.getGeneration());
  if (receipt.getSuccessor() != 0) absl::StrAppend(&text, " -> ", receipt.getSuccessor());
  absl::StrAppend(&text, " (", receipt.getTrigger().cStr(), "): verdict ",
                  receipt.getVerdict().cStr());
  absl::StrAppendFormat(&text, ", gap %.1f ms", static_cast<double>(receipt.getGapNs()) / 1e6);
  absl::StrAppend(&text, ", device peak ", receipt.getDeviceBytesPeak(), " of ",
                  receipt.getDeviceBytesModel(), " B, requests held ", receipt.getRequestsHeld(),
                  " expired ", receipt.getRequestsExpired(), " failed ",
                  receipt.getRequestsFailed());
  if (receipt.getReason().size() > 0) absl::StrAppend(&text, ": ", receipt.getReason().cStr());
  return text;
}

}  // namespace baton::shmctl
