// A receipt for people.
//
// Plain functions, any thread.
#ifndef BATON_TOOLS_SHMCTL_RECEIPT_TEXT_H_
#define BATON_TOOLS_SHMCTL_RECEIPT_TEXT_H_

#include <cstddef>
#include <string>

#include "absl/time/time.h"

#include "ipc/schema/receipt.capnp.h"

namespace baton::shmctl {

struct TextStyle {
  size_t width = 80;
  absl::TimeZone zone = absl::UTCTimeZone();
};

// What was done, "swapped generation 1 -> 2 (secrets): verdict freed, gap 12.3
// ms", and below it a row for each matter, with how it is known. Ends with a
// line end.
std::string ReceiptText(ipc::schema::Receipt::Reader receipt, const TextStyle& style);

}  // namespace baton::shmctl

#endif  // BATON_TOOLS_SHMCTL_RECEIPT_TEXT_H_
