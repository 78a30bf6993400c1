#include "runtime/worker/batched_call.h"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <utility>

#include "ipc/crash_point.h"
#include "ipc/futex.h"
#include "runtime/worker/guarded_call.h"
#include "runtime/worker/page_counter.h"
#include "runtime/worker/served_call.h"

namespace baton::runtime {
namespace {

// How many answers before its turn the line of a completion is fetched: its front has it.
constexpr size_t kAhead = 4;

}  // namespace

bool BatchedCall::Takes(uint32_t method, KnownRequest& request) const {
  if (request.rows == 0 || request.rows > max_rows_ - rows_) return false;
  return members_.empty() || (method == method_->index && LooksAlike(request));
}

bool BatchedCall::MayTake(const ipc::SubmissionEntry& entry, KnownRequest* known) const {
  if (empty()) return true;
  if (entry.kind != static_cast<uint16_t>(ipc::RequestKind::kInfer)) return false;
  return entry.device_granules == 0 && (known == nullptr || Takes(entry.method, *known));
}

bool BatchedCall::LooksAlike(KnownRequest& request) const {
  if (request.alike == alike_) return true;
  if (request.inputs.size() != input_count_) return false;
  for (size_t i = 0; i < input_count_; ++i) {
    const Input& input = inputs_[i];
    const TensorView& view = request.inputs[i];
    if (view.dtype != input.dtype || view.shape.size() != input.rank) return false;
    for (size_t dim = 1; dim < input.rank; ++dim) {
      if (view.shape[dim] != input.shape[dim]) return false;
    }
  }
  request.alike = alike_;
  return true;
}

void BatchedCall::Learn(KnownRequest& request) {
  // Most batches look like the one before.
  if (alike_ != 0 && LooksAlike(request)) return;
  request.alike = alike_ = NewLikeness();
  input_count_ = request.inputs.size();
  if (inputs_.size() < input_count_) inputs_.resize(input_count_);
  for (size_t i = 0; i < input_count_; ++i) {
    Input& input = inputs_[i];
    const TensorView& view = request.inputs[i];
    input.dtype = view.dtype;
    input.rank = static_cast<uint32_t>(view.shape.size());
    std::copy(view.shape.begin(), view.shape.end(), input.shape.begin());
    input.row_bytes = view.bytes.size() / request.rows;
  }
}

void BatchedCall::NoteDeadline(int64_t deadline_ns) {
  if (deadline_ns != 0 && (earliest_deadline_ns_ == 0 || deadline_ns < earliest_deadline_ns_)) {
    earliest_deadline_ns_ = deadline_ns;
  }
}

BatchedCall::Member& BatchedCall::Add(KnownRequest& request, const ServedMethod& method,
                                      int64_t deadline_ns, bool named) {
  if (members_.empty()) {
    method_ = &method;
    named_ = named;
    Learn(request);
  }
  for (size_t i = 0; i < input_count_; ++i) {
    inputs_[i].blocks.push_back({.data = request.inputs[i].bytes.data(), .rows = request.rows});
  }
  Member& member = members_.emplace_back();
  member.deadline_ns = deadline_ns;
  member.rows = request.rows;
  rows_ += request.rows;
  NoteDeadline(deadline_ns);
  return member;
}

void BatchedCall::DropCancelled(ipc::WorkerPage& page) {
  // SYNC: request_cancelled. `taken` of each was stored before.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  size_t kept = 0;
  for (size_t i = 0; i < members_.size(); ++i) {
    const Member& member = members_[i];
    if (member.answers->Cancelled(member.sequence, *member.header)) {
      rows_ -= member.rows;
      member.answers->Publish(member.request_id, member.response, Answer::Cancelled(), 0, page);
      // SYNC: front_sleeps. Rare enough for a fence of its own.
      std::atomic_thread_fence(std::memory_order_seq_cst);
      member.answers->WakeAfterFence();
      continue;
    }
    if (kept != i) {
      members_[kept] = member;
      for (size_t k = 0; k < input_count_; ++k) inputs_[k].blocks[kept] = inputs_[k].blocks[i];
    }
    ++kept;
  }
  if (kept == members_.size()) return;
  members_.resize(kept);
  for (size_t k = 0; k < input_count_; ++k) inputs_[k].blocks.resize(kept);
  // The others' only: nobody waits for one that was given up.
  earliest_deadline_ns_ = 0;
  for (const Member& member : members_) NoteDeadline(member.deadline_ns);
}

void BatchedCall::ShowInputs() {
  const Signature& signature = *method_->signature;
  views_.resize(input_count_);
  for (size_t i = 0; i < input_count_; ++i) {
    Input& input = inputs_[i];
    TensorView& view = views_[i];
    view = TensorView{};
    view.name = signature.inputs[i].name;
    view.dtype = input.dtype;
    if (input.dtype == DType::kInvalid) continue;  // left out by all of them
    input.shape[0] = static_cast<int64_t>(rows_);
    view.shape = std::span(input.shape).first(input.rank);
    const uint64_t bytes = rows_ * input.row_bytes;
    if (members_.size() == 1) {
      view.bytes = {input.blocks.front().data, bytes};
      continue;
    }
    const std::span<std::byte> staged = input.staging.Get(bytes, max_rows_ * input.row_bytes);
    kernels::Pack(input.blocks, input.row_bytes, staged.data());
    view.bytes = staged;
  }
}

absl::Status BatchedCall::CallAlone(loader::Model& model) {
  const Member& member = members_.front();
  ResponseWriter& writer = *member.writer;
  writer.Begin(member.response);
  loader::CallContext keeps_nothing;
  return CallModel(model, named_, *method_, keeps_nothing, views_, writer);
}

absl::Status BatchedCall::CallForAll(loader::Model& model) {
  outputs_.Begin(*method_->signature, rows_, max_rows_);
  loader::CallContext keeps_nothing;
  absl::Status said = CallModel(model, named_, *method_, keeps_nothing, views_, outputs_);
  return said.ok() ? outputs_.Check() : said;
}

Answer BatchedCall::AnswerOf(const Member& member, uint64_t first_row,
                             const absl::Status& said) const {
  ResponseWriter& writer = *member.writer;
  if (members_.size() == 1) return Conclude(said, writer, member.response.size(), 0);
  if (!said.ok()) return Answer::Refusal(said);
  return GiveRows(member, first_row);
}

Answer BatchedCall::GiveRows(const Member& member, uint64_t first_row) const {
  ResponseWriter& writer = *member.writer;
  const ResponseWriter::Like like = {.outputs = outputs_.alike(), .rows = member.rows};
  Answer answer;
  if (writer.Repeat(like, member.response, &answer.description)) {
    outputs_.GiveAgain(first_row, member.rows, writer);
    return answer;
  }
  writer.Begin(member.response);
  absl::Status given = outputs_.Give(first_row, member.rows, writer);
  answer = Conclude(std::move(given), writer, member.response.size(), 0);
  if (answer.status.ok()) writer.Remember(like);
  return answer;
}

void BatchedCall::AnswerAll(const absl::Status& said, uint64_t service_ns, ipc::WorkerPage& page) {
  uint64_t first_row = 0;
  for (size_t i = 0; i < members_.size(); ++i) {
    const Member& member = members_[i];
    if (i + kAhead < members_.size()) members_[i + kAhead].answers->Prefetch();
    const Answer answer = AnswerOf(member, first_row, said);
    member.answers->Publish(member.request_id, member.response, answer, service_ns, page);
    BATON_CRASH_POINT("worker.batch_answered");
    first_row += member.rows;
  }
  // SYNC: front_sleeps. One fence for all of them.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  for (const Member& member : members_) member.answers->WakeAfterFence();
}

bool BatchedCall::Run(loader::Model& model, ServingHost& host, ipc::WorkerPage& page,
                      int64_t now_ns) {
  BATON_CRASH_POINT("worker.batch_gathered");
  DropCancelled(page);
  if (members_.empty()) {
    Clear();
    return false;
  }
  host.running.Begin(this, now_ns, earliest_deadline_ns_, page);
  int64_t called_ns = now_ns;
  absl::Status said;
  {
    const std::unique_lock<std::mutex> turn = host.ModelTurn();
    said = Guarded([&] {
      ShowInputs();
      called_ns = ipc::MonotonicNs();
      return members_.size() == 1 ? CallAlone(model) : CallForAll(model);
    });
  }
  const int64_t came_back_ns = ipc::MonotonicNs();
  host.running.End(this, page);
  BATON_CRASH_POINT("worker.batch_run");
  const auto service_ns = static_cast<uint64_t>(std::max<int64_t>(came_back_ns - called_ns, 0));
  // First: who has an answer finds its batch counted.
  Bump(page.batches);
  BumpBy(page.batch_rows, rows_);
  AnswerAll(said, service_ns, page);
  Clear();
  return true;
}

void BatchedCall::Clear() {
  for (Input& input : inputs_) input.blocks.clear();
  members_.clear();
  rows_ = 0;
  earliest_deadline_ns_ = 0;
}

}  // namespace baton::runtime
