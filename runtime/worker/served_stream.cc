#include "runtime/worker/served_stream.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

#include "ipc/crash_point.h"
#include "ipc/futex.h"
#include "runtime/worker/guarded_call.h"
#include "runtime/worker/page_counter.h"

namespace baton::runtime {
namespace {

absl::Status OutOfTime() { return absl::DeadlineExceededError("the stream's time is over"); }

}  // namespace

absl::StatusOr<ServedStream::Place> ServedStream::Find(const ipc::SubmissionEntry& entry,
                                                       std::span<const std::byte> block,
                                                       std::span<std::byte> response) {
  const uint64_t window_end =
      (uint64_t{entry.device_granule} + ipc::kStreamWindowGranules) * ipc::kGranuleBytes;
  if (entry.device_granule == 0 || window_end > block.size() ||
      !std::has_single_bit(entry.device_granules) ||
      entry.device_granules > ipc::kMaxStreamWindow) {
    return absl::InvalidArgumentError(
        absl::StrCat("the stream's window of ", entry.device_granules,
                     " is none, or is outside of its request's block"));
  }
  if (response.size() < sizeof(ipc::StreamProgress)) {
    return absl::InvalidArgumentError(
        "the stream's block for its progress is too small, or not there");
  }
  return Place{.request_id = entry.request_id,
               .deadline_ns = entry.deadline_ns,
               .header = reinterpret_cast<const ipc::RequestBlockHeader*>(block.data()),
               .shared = reinterpret_cast<const ipc::StreamWindow*>(
                   block.data() + entry.device_granule * ipc::kGranuleBytes),
               .window = entry.device_granules,
               .end_block = response};
}

ServedStream::ServedStream(const StreamChannel& channel, const Place& place, ServedMethod& method,
                           CallThread* thread)
    : channel_(channel),
      place_(place),
      progress_(*reinterpret_cast<ipc::StreamProgress*>(place.end_block.data())),
      method_(method),
      thread_(thread) {
  if (thread != nullptr) own_writer_.emplace(*method.signature, *method.descriptions);
  // SYNC: stream_item_taken. What lay here before counts for nothing until the id is this one's.
  progress_.items_taken.store(0, std::memory_order_relaxed);
  progress_.request_id.store(place.request_id, std::memory_order_release);
  BATON_CRASH_POINT("worker.stream_progress_reset");
}

ServedStream::~ServedStream() {
  if (thread_ != nullptr) {
    channel_.host.call_threads->GiveBack(*thread_);
  } else if (stream_ != nullptr) {
    forced_ = absl::CancelledError("the stream's caller has gone");
    const auto turn = channel_.host.ModelTurn();
    stream_.reset();
  }
}

template <typename Part>
bool ServedStream::RunPiece(Piece piece, int64_t now, Part&& part) {
  began_ns_ = now;
  waited_ns_ = 0;
  channel_.host.running.Begin(this, now, place_.deadline_ns, *page_);
  if (thread_ != nullptr) {
    piece_ = piece;
    thread_->Run(std::forward<Part>(part));
    return false;
  }
  {
    const auto turn = channel_.host.ModelTurn();
    part();
  }
  PieceEnded(ipc::MonotonicNs());
  return true;
}

void ServedStream::PieceEnded(int64_t now) {
  channel_.host.running.End(this, *page_);
  // Relaxed: as ServingLoop::Heartbeat.
  page_->heartbeat_ns.store(now, std::memory_order_relaxed);
  took_ns_ = std::max<int64_t>(now - began_ns_ - waited_ns_, 0);
}

absl::Status ServedStream::Start(loader::Model& model, KnownRequest& request,
                                 std::span<const std::byte> block, ipc::WorkerPage& page) {
  page_ = &page;
  start_ = request.shared_from_this();
  start_->Show(block);
  inputs_ = start_->inputs;
  const bool ended = RunPiece(Piece::kStart, ipc::MonotonicNs(), [this, &model] {
    started_ = Guarded([&] {
      absl::StatusOr<std::unique_ptr<loader::ModelStream>> stream =
          model.StartStream(method_.index, call_, inputs_, *this);
      if (stream.ok()) stream_ = *std::move(stream);
      return stream.status();
    });
    if (started_.ok() && stream_ == nullptr) {
      started_ = absl::InternalError("the model gave no stream, and no error");
    }
  });
  if (!ended) return absl::OkStatus();
  return forced_.ok() ? started_ : forced_;
}

absl::Status ServedStream::CheckGoing(int64_t now) const {
  if (Cancelled()) return absl::CancelledError("the stream was cancelled by its caller");
  if (place_.deadline_ns != 0 && now >= place_.deadline_ns) return OutOfTime();
  return absl::OkStatus();
}

bool ServedStream::Overdue() const {
  return place_.deadline_ns != 0 && ipc::MonotonicNs() >= place_.deadline_ns;
}

bool ServedStream::HasWork() const {
  if (piece_ != Piece::kNone) {
    if (!thread_->back()) return false;
    return !thread_->asks() || !asked_ || !forced_.ok() || ItemWanted() || Overdue();
  }
  // SYNC: stream_credit, by the time it is used. Also what cannot be is work: it ends the stream.
  return place_.shared->credits.load(std::memory_order_acquire) != responses_ || !forced_.ok() ||
         Cancelled() || Overdue();
}

absl::StatusOr<std::span<std::byte>> ServedStream::CreditBlock() {
  const uint64_t credits = place_.shared->credits.load(std::memory_order_acquire);
  if (credits - responses_ > place_.window) {
    return absl::InvalidArgumentError(
        absl::StrCat("the stream's caller gave ", credits - responses_,
                     " credits more than it has responses, in a window of ", place_.window));
  }
  const ipc::CreditBlock credit = place_.shared->credit_blocks[responses_ % place_.window];
  const std::span<std::byte> block = channel_.memory.ResponseBlock(credit.granule, credit.granules);
  if (block.empty()) {
    return absl::InvalidArgumentError("a credit's block is empty, or outside of its arena");
  }
  return block;
}

bool ServedStream::Step(ipc::WorkerPage& page) {
  if (ended_) return false;
  page_ = &page;
  if (piece_ != Piece::kNone) return StepOnThread();
  const int64_t start = ipc::MonotonicNs();
  if (absl::Status going = forced_.ok() ? CheckGoing(start) : forced_; !going.ok()) {
    End(going, page);
    return true;
  }
  // SYNC: stream_credit
  if (place_.shared->credits.load(std::memory_order_acquire) == responses_) return false;
  const absl::StatusOr<std::span<std::byte>> block = CreditBlock();
  if (!block.ok()) {
    End(block.status(), page);
    return true;
  }
  if (needed_bytes_ > block->size()) {  // a credit from before it was known
    PublishChunk(TooSmall(), 0);
    return true;
  }
  block_ = *block;
  needed_bytes_ = 0;
  writer().Begin(block_);
  const bool ended = RunPiece(Piece::kResponse, start, [this] {
    next_ = Guarded([this] { return stream_->Next(writer()); });
  });
  if (ended) Responded();
  return true;
}

bool ServedStream::StepOnThread() {
  if (!thread_->back()) return false;
  if (thread_->asks()) return AnswerItem();
  PieceEnded(ipc::MonotonicNs());
  switch (std::exchange(piece_, Piece::kNone)) {
    case Piece::kStart:
      if (!forced_.ok() || !started_.ok()) End(forced_.ok() ? started_ : forced_, *page_);
      break;
    case Piece::kResponse:
      Responded();
      break;
    case Piece::kEnd:
      PublishEnd();
      break;
    case Piece::kNone:
      break;
  }
  return true;
}

// The model has given a response into `block_`, its end, or an error.
void ServedStream::Responded() {
  service_ns_ += took_ns_;
  if (!forced_.ok()) {
    End(forced_, *page_);
    return;
  }
  const bool given = next_.ok() && *next_;
  Answer answer = Answer::Refusal(next_.status());
  if (given) {
    const absl::StatusOr<ResponseWriter::Description> description = writer().Finish();
    if (description.ok()) {
      answer.description = *description;
    } else {
      answer.status = description.status();
    }
  }
  // Also where the model wraps the sink's refusal in words of its own.
  if (!answer.status.ok() && writer().needed_bytes() > block_.size()) {
    needed_bytes_ = writer().needed_bytes();
    PublishChunk(TooSmall(), static_cast<uint64_t>(took_ns_));
  } else if (given && answer.status.ok()) {
    PublishChunk(answer, static_cast<uint64_t>(took_ns_));
  } else {
    End(answer.status, *page_);
  }
}

Answer ServedStream::TooSmall() const {
  Answer answer = Answer::Refusal(absl::ResourceExhaustedError(""));
  answer.needed_bytes = needed_bytes_;
  return answer;
}

// Uses the next credit up.
void ServedStream::PublishChunk(const Answer& answer, uint64_t service_ns) {
  ++responses_;
  BATON_CRASH_POINT("worker.chunk_written");
  channel_.completions.Publish(
      {.request_id = place_.request_id, .text = {}, .service_ns = service_ns, .more = true},
      answer);
  BATON_CRASH_POINT("worker.chunk_published");
  channel_.memory.WakeFront();
}

void ServedStream::End(const absl::Status& status, ipc::WorkerPage& page) {
  if (ended_ || piece_ == Piece::kEnd) return;
  page_ = &page;
  // Nothing that the model does from now on may wait for an item.
  if (forced_.ok()) {
    forced_ = status.ok() ? absl::CancelledError("the stream has come to its end") : status;
  }
  if (piece_ != Piece::kNone) return;  // Step ends it, when the model has come back
  end_ = status;
  BATON_CRASH_POINT("worker.stream_ending");
  // Before the front gets the blocks back that the model may still look at.
  const auto destroy = [this] {
    static_cast<void>(Guarded([this] {
      stream_.reset();
      return absl::OkStatus();
    }));
  };
  if (stream_ == nullptr || RunPiece(Piece::kEnd, ipc::MonotonicNs(), destroy)) PublishEnd();
}

void ServedStream::PublishEnd() {
  ended_ = true;
  channel_.completions.Publish({.request_id = place_.request_id,
                                .text = place_.end_block.subspan(sizeof(ipc::StreamProgress)),
                                .service_ns = static_cast<uint64_t>(service_ns_)},
                               Answer::Refusal(end_));
  BATON_CRASH_POINT("worker.stream_ended");
  channel_.memory.WakeFront();
  const bool gave_up = absl::IsCancelled(end_) || absl::IsDeadlineExceeded(end_);
  Bump(end_.ok() ? page_->completed : gave_up ? page_->expired : page_->failed);
}

// ---- Items -------------------------------------------------------------------------------------

void ServedStream::ReleaseItem() {
  if (!std::exchange(item_out_, false)) return;
  // SYNC: stream_item_taken. What the model read was read before.
  progress_.items_taken.store(items_, std::memory_order_release);
  BATON_CRASH_POINT("worker.stream_item_taken");
  channel_.memory.WakeFront();
}

absl::Status ServedStream::ReadItem() {
  const ipc::ItemBlock item = place_.shared->item_blocks[items_ % place_.window];
  const std::span<const std::byte> block =
      channel_.memory.RequestBlock(item.granule, item.granules);
  if (block.size() < ipc::kBlockHeaderBytes) {
    return absl::InvalidArgumentError("an item's block is empty, or outside of its arena");
  }
  absl::StatusOr<KnownRequest*> known = channel_.known.Get({.token = item.descriptor_token,
                                                            .bytes = item.descriptor_bytes,
                                                            .method = method_.index,
                                                            .item = true},
                                                           block, *method_.signature);
  if (!known.ok()) return known.status();
  if (item_.get() != *known) item_ = (*known)->shared_from_this();
  item_->Show(block);
  item_inputs_.assign(item_->inputs.begin(), item_->inputs.end());
  return absl::OkStatus();
}

bool ServedStream::ItemWanted() const {
  const ipc::StreamWindow& shared = *place_.shared;
  // SYNC: stream_item
  return shared.items_done.load(std::memory_order_acquire) != 0 ||
         shared.items.load(std::memory_order_acquire) != items_ || Cancelled();
}

std::optional<ServedStream::Item> ServedStream::TryItem(int64_t now) {
  if (forced_.ok()) forced_ = CheckGoing(now);
  if (!forced_.ok()) return Item(forced_);
  const ipc::StreamWindow& shared = *place_.shared;
  // SYNC: stream_item. `items_done` first: once it is up, `items` moves no more.
  const bool done = shared.items_done.load(std::memory_order_acquire) != 0;
  const uint64_t ahead = shared.items.load(std::memory_order_acquire) - items_;
  if (ahead == 0) return done ? std::optional(Item(std::nullopt)) : std::nullopt;
  if (ahead > place_.window) {
    forced_ = absl::InvalidArgumentError(
        absl::StrCat("the stream's caller sent ", ahead, " items, in a window of ", place_.window));
  } else {
    forced_ = ReadItem();
  }
  if (!forced_.ok()) return Item(forced_);
  ++items_;
  item_out_ = true;
  return Item(item_inputs_);
}

void ServedStream::Pause(int64_t now) {
  if (paused_ns_ != 0) return;
  paused_ns_ = now;
  channel_.host.running.End(this, *page_);
}

void ServedStream::Resume(int64_t now) {
  if (paused_ns_ == 0) return;
  waited_ns_ += now - std::exchange(paused_ns_, 0);
  channel_.host.running.Begin(this, now, place_.deadline_ns, *page_);
}

ServedStream::Item ServedStream::Next() {
  if (!method_.streams_inputs) return Item(std::nullopt);
  if (thread_ != nullptr) {
    thread_->Ask();  // answered by AnswerItem
    return std::move(item_answer_);
  }
  if (!forced_.ok()) return forced_;
  ReleaseItem();
  for (;;) {
    const int64_t now = ipc::MonotonicNs();
    if (std::optional<Item> item = TryItem(now)) {
      Resume(now);
      return *std::move(item);
    }
    Pause(now);
    forced_ = channel_.host.Await(channel_.channel, [this] { return ItemWanted(); });
  }
}

bool ServedStream::AnswerItem() {
  const bool first = !std::exchange(asked_, true);
  if (first) ReleaseItem();
  const int64_t now = ipc::MonotonicNs();
  std::optional<Item> item = TryItem(now);
  if (!item) {
    Pause(now);
    return first;
  }
  Resume(now);
  asked_ = false;
  item_answer_ = *std::move(item);
  thread_->Answer();
  return true;
}

}  // namespace baton::runtime
