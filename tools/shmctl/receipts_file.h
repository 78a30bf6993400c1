// The receipts that a server has written. They are read from its file, so that
// they are there when the server is gone.
//
// Plain functions, any thread.
#ifndef BATON_TOOLS_SHMCTL_RECEIPTS_FILE_H_
#define BATON_TOOLS_SHMCTL_RECEIPTS_FILE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "capnp/message.h"

#include "ipc/schema/receipt.capnp.h"

namespace baton::shmctl {

class StoredReceipt {
 public:
  // A line of the file. INVALID_ARGUMENT when it is none, or half of one.
  static absl::StatusOr<StoredReceipt> Parse(const std::string& line);

  // Valid as long as this is, also after a move.
  ipc::schema::Receipt::Reader reader() const {
    return message_->getRoot<ipc::schema::Receipt>().asReader();
  }

 private:
  std::unique_ptr<capnp::MallocMessageBuilder> message_;
};

// The last `last` ones of `server` (0: all), oldest first. A line that is none (a
// supervisor was killed while it wrote), or whose times add up to more than a number
// holds, is told on standard error and skipped. A file that is there and cannot be read is an
// error. NoSuchServer when no server of that name runs or has run; UsageError when it cannot be a
// name.
absl::StatusOr<std::vector<StoredReceipt>> ReadReceipts(const std::string& run_directory,
                                                        const std::string& server, uint32_t last);

}  // namespace baton::shmctl

#endif  // BATON_TOOLS_SHMCTL_RECEIPTS_FILE_H_
