// One call of the model for requests of several callers.
//
// Thread safety: none; belongs to the serving thread.
//
// Life: empty -> gathering (Add) -> Run -> empty. Requests in it count as started:
// their channels have published `taken`. Run first looks which of them were cancelled
// all the same, after one full fence for all (SYNC: request_cancelled).
//
// Invariants
// 1. All requests of a batch are of one method, and their inputs have the same
//    dtypes and the same dimensions but for the first, which counts rows.
// 2. Run gives each of them exactly one last completion: those that were cancelled
//    first, the others in the order in which they were added.
// 3. No allocation once batches of as many rows, of the same method and shapes, have
//    been run.
#ifndef BATON_RUNTIME_WORKER_BATCHED_CALL_H_
#define BATON_RUNTIME_WORKER_BATCHED_CALL_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"

#include "baton/tensor.h"
#include "ipc/channel_layout.h"
#include "ipc/pages.h"
#include "kernels/pack.h"
#include "loader/model.h"
#include "runtime/worker/answer.h"
#include "runtime/worker/batch_answers.h"
#include "runtime/worker/batch_outputs.h"
#include "runtime/worker/known_requests.h"
#include "runtime/worker/likeness.h"
#include "runtime/worker/response_writer.h"
#include "runtime/worker/served_methods.h"
#include "runtime/worker/serving_host.h"
#include "runtime/worker/staging_memory.h"

namespace baton::runtime {

class BatchedCall {
 public:
  explicit BatchedCall(uint32_t max_rows) : max_rows_(max_rows) {}

  bool empty() const { return members_.empty(); }
  bool full() const { return rows_ >= max_rows_; }
  size_t requests() const { return members_.size(); }
  uint64_t rows() const { return rows_; }
  // Of the requests in it; 0: none has one.
  int64_t earliest_deadline_ns() const { return earliest_deadline_ns_; }

  // Whether a request of `method` that is described like this may be added: its
  // rows can be counted, they fit, and it looks like those that are there. What is
  // found out is noted in `request`.
  bool Takes(uint32_t method, KnownRequest& request) const;

  // The same before a request is taken, by its entry and what is known of its description
  // (nullptr: nothing, it is taken in any case). An empty one takes all.
  bool MayTake(const ipc::SubmissionEntry& entry, KnownRequest* known) const;

  struct Member {
    uint64_t request_id = 0;
    std::span<std::byte> response;     // the block loaned for it
    ResponseWriter* writer = nullptr;  // its method's, of its channel
    BatchAnswers* answers = nullptr;   // its channel's
    const ipc::RequestBlockHeader* header = nullptr;
    uint64_t sequence = 0;    // of its entry
    int64_t deadline_ns = 0;  // 0: none; set by Add, as what follows
    uint64_t rows = 0;
  };
  // `request` was shown its block, and Takes it. `method` is its channel's, which outlives
  // the next Run; `request` need not. `named` as ServedMethods::named. What comes back is to
  // be filled in, at once: where it stays, since a copy of what was just written in parts
  // waits for the store buffer.
  Member& Add(KnownRequest& request, const ServedMethod& method, int64_t deadline_ns, bool named);

  // Answers those that were cancelled, calls the model once for the others, on the
  // request's own memory where there is but one, and answers them. An error of the model
  // is everybody's. `now_ns` is CLOCK_MONOTONIC. Not while it is empty. Whether the model
  // was called.
  bool Run(loader::Model& model, ServingHost& host, ipc::WorkerPage& page, int64_t now_ns);

 private:
  struct Input {
    DType dtype = DType::kInvalid;  // kInvalid: left out
    uint32_t rank = 0;
    std::array<int64_t, kMaxRank> shape{};  // the first of its dimensions means nothing
    uint64_t row_bytes = 0;
    std::vector<kernels::RowBlock> blocks = {};  // by request
    StagingMemory staging = {};
  };

  void Learn(KnownRequest& request);
  void NoteDeadline(int64_t deadline_ns);
  bool LooksAlike(KnownRequest& request) const;
  // Answers and leaves out what was cancelled.
  void DropCancelled(ipc::WorkerPage& page);
  // The inputs as the model is to see them; packs them where there are several requests.
  void ShowInputs();
  absl::Status CallAlone(loader::Model& model);
  absl::Status CallForAll(loader::Model& model);
  Answer AnswerOf(const Member& member, uint64_t first_row, const absl::Status& said) const;
  Answer GiveRows(const Member& member, uint64_t first_row) const;
  void AnswerAll(const absl::Status& said, uint64_t service_ns, ipc::WorkerPage& page);
  void Clear();

  const uint32_t max_rows_;
  const ServedMethod* method_ = nullptr;  // the first one's
  bool named_ = false;
  uint64_t rows_ = 0;
  int64_t earliest_deadline_ns_ = 0;
  std::vector<Member> members_;
  Likeness alike_ = 0;  // of inputs_
  size_t input_count_ = 0;
  std::vector<Input> inputs_;  // the first input_count_ are of this batch
  std::vector<TensorView> views_;
  BatchOutputs outputs_;
};

}  // namespace baton::runtime

#endif  // BATON_RUNTIME_WORKER_BATCHED_CALL_H_
