// What a worker writes to its standard output and error, on its way into the
// server's log: whole lines, without the secrets that this worker was given,
// whoever in it has written them (A16).
//
// Thread safety: belongs to the supervisor's one thread. No call waits.
#ifndef BATON_RUNTIME_SUPERVISOR_WORKER_OUTPUT_H_
#define BATON_RUNTIME_SUPERVISOR_WORKER_OUTPUT_H_

#include <climits>
#include <cstddef>
#include <functional>
#include <memory>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

#include "ipc/unique_fd.h"
#include "runtime/supervisor/secrets.h"

namespace baton::runtime {

class WorkerOutput {
 public:
  // Takes one line, or a piece of a long one, of at most kMaxPieceBytes and
  // without its newline.
  using Log = std::function<void(std::string_view line)>;

  // Makes the pipe. The worker may be ahead of the supervisor by what it holds:
  // kPipeBytes where the system allows it.
  static absl::StatusOr<std::unique_ptr<WorkerOutput>> Create(
      std::shared_ptr<const SecretsSnapshot> secrets, Log log);
  ~WorkerOutput();
  WorkerOutput(const WorkerOutput&) = delete;
  WorkerOutput& operator=(const WorkerOutput&) = delete;

  // Readable when there is something, or nobody writes any more.
  int fd() const { return read_.get(); }
  // What becomes the worker's standard error; close it here when the worker has it.
  int write_fd() const { return write_.get(); }
  void CloseWriteEnd() { write_.reset(); }

  // Logs what is there, up to `most` bytes; a line that is not complete is kept.
  // False: nobody writes any more, and nothing is left.
  bool Read(size_t most = kPipeBytes);
  // The worker is gone: logs what is left of it, the end of a line included.
  void Finish();

  static constexpr size_t kPipeBytes = 1 << 20;
  // A longer line is taken for several, so a secret that lies across is not found.
  static constexpr size_t kMaxLineBytes = 64 << 10;
  static constexpr size_t kMaxPieceBytes = PIPE_BUF - 1;

 private:
  WorkerOutput(std::shared_ptr<const SecretsSnapshot> secrets, Log log);
  void Take(std::string_view text);
  void EndLine();

  const std::shared_ptr<const SecretsSnapshot> secrets_;
  const Log log_;
  std::vector<std::string_view> values_;  // of secrets_
  ipc::UniqueFd read_;
  ipc::UniqueFd write_;
  SecretBytes line_;  // not complete yet
};

}  // namespace baton::runtime

#endif  // BATON_RUNTIME_SUPERVISOR_WORKER_OUTPUT_H_
