// A receipt as one line for people.
//
// Plain functions, any thread.
#ifndef BATON_TOOLS_SHMCTL_RECEIPT_TEXT_H_
#define BATON_TOOLS_SHMCTL_RECEIPT_TEXT_H_

#include <string>

#include "ipc/schema/receipt.capnp.h"

namespace baton::shmctl {

// "swapped generation 1 -> 2 (secrets): verdict freed, gap 12.3 ms, device peak
// 4096 of 4096 B, requests held 3 expired 0 failed 0". Without the line end.
std::string ReceiptText(ipc::schema::Receipt::Reader receipt);

}  // namespace baton::shmctl

#endif  // BATON_TOOLS_SHMCTL_RECEIPT_TEXT_H_
