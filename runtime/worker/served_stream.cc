#include "runtime/worker/served_stream.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <exception>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

#include "ipc/crash_point.h"
#include "ipc/futex.h"
#include "runtime/worker/page_counter.h"

namespace baton::runtime {
namespace {

// Runs the model's code, and makes a status of what it throws.
template <typename Call>
auto Guarded(Call&& call) -> decltype(call()) {
  try {
    return call();
  } catch (const std::exception& error) {
    return absl::InternalError(absl::StrCat("the model threw: ", error.what()));
  } catch (...) {
    return absl::InternalError("the model threw something that is no std::exception");
  }
}

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

ServedStream::ServedStream(const StreamChannel& channel, const Place& place, ServedMethod& method)
    : channel_(channel),
      place_(place),
      progress_(*reinterpret_cast<ipc::StreamProgress*>(place.end_block.data())),
      method_(method) {
  // SYNC: stream_item_taken. What lay here before counts for nothing until the id is this one's.
  progress_.items_taken.store(0, std::memory_order_relaxed);
  progress_.request_id.store(place.request_id, std::memory_order_release);
  BATON_CRASH_POINT("worker.stream_progress_reset");
}

absl::Status ServedStream::Start(loader::Model& model, KnownRequest& request,
                                 std::span<const std::byte> block, ipc::WorkerPage& page) {
  page_ = &page;
  start_ = request.shared_from_this();
  start_->Show(block);
  inputs_ = start_->inputs;
  const absl::Status started = Guarded([&] {
    absl::StatusOr<std::unique_ptr<loader::ModelStream>> stream =
        model.StartStream(method_.index, call_, inputs_, *this);
    if (stream.ok()) stream_ = *std::move(stream);
    return stream.status();
  });
  page_ = nullptr;
  if (started.ok() && stream_ == nullptr) {
    return absl::InternalError("the model gave no stream, and no error");
  }
  return forced_.ok() ? started : forced_;
}

absl::Status ServedStream::CheckGoing(int64_t now) const {
  if (Cancelled()) return absl::CancelledError("the stream was cancelled by its caller");
  if (place_.deadline_ns != 0 && now >= place_.deadline_ns) return OutOfTime();
  return absl::OkStatus();
}

bool ServedStream::HasWork() const {
  // SYNC: stream_credit, by the time it is used. Also what cannot be is work: it ends the stream.
  return place_.shared->credits.load(std::memory_order_acquire) != responses_ || Cancelled() ||
         (place_.deadline_ns != 0 && ipc::MonotonicNs() >= place_.deadline_ns);
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
  const int64_t start = ipc::MonotonicNs();
  if (absl::Status going = CheckGoing(start); !going.ok()) {
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
  page_ = &page;
  waited_ns_ = 0;
  // Relaxed: as in ServeOne.
  page.busy_deadline_ns.store(place_.deadline_ns, std::memory_order_relaxed);
  page.busy_since_ns.store(start, std::memory_order_relaxed);
  needed_bytes_ = 0;
  const Given given = CallModel(*block);
  const int64_t end = ipc::MonotonicNs();
  page.busy_since_ns.store(0, std::memory_order_relaxed);
  page.heartbeat_ns.store(end, std::memory_order_relaxed);
  page_ = nullptr;
  const int64_t took = std::max<int64_t>(end - start - waited_ns_, 0);
  service_ns_ += took;
  if (!forced_.ok()) {
    End(forced_, page);
  } else if (given.response) {
    PublishChunk(given.answer, static_cast<uint64_t>(took));
  } else {
    End(given.answer.status, page);
  }
  return true;
}

ServedStream::Given ServedStream::CallModel(std::span<std::byte> block) {
  ResponseWriter& writer = *method_.writer;
  writer.Begin(block);
  const absl::StatusOr<bool> next =
      Guarded([&]() -> absl::StatusOr<bool> { return stream_->Next(writer); });
  Given given{.response = next.ok() && *next, .answer = Answer::Refusal(next.status())};
  if (given.response) {
    const absl::StatusOr<ResponseWriter::Description> description = writer.Finish();
    if (description.ok()) {
      given.answer.description = *description;
    } else {
      given.answer.status = description.status();
    }
  }
  // Also where the model wraps the sink's refusal in words of its own.
  if (!given.answer.status.ok() && writer.needed_bytes() > block.size()) {
    needed_bytes_ = writer.needed_bytes();
    given.answer = TooSmall();
    given.response = true;
  } else if (!given.answer.status.ok()) {
    given.response = false;
  }
  return given;
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
  if (ended_) return;
  ended_ = true;
  BATON_CRASH_POINT("worker.stream_ending");
  // Before the front gets the blocks back that the model may still look at.
  static_cast<void>(Guarded([&] {
    stream_.reset();
    return absl::OkStatus();
  }));
  channel_.completions.Publish({.request_id = place_.request_id,
                                .text = place_.end_block.subspan(sizeof(ipc::StreamProgress)),
                                .service_ns = static_cast<uint64_t>(service_ns_)},
                               Answer::Refusal(status));
  BATON_CRASH_POINT("worker.stream_ended");
  channel_.memory.WakeFront();
  const bool gave_up = absl::IsCancelled(status) || absl::IsDeadlineExceeded(status);
  Bump(status.ok() ? page.completed : gave_up ? page.expired : page.failed);
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
  const std::optional<std::span<const std::byte>> block =
      channel_.memory.RequestBlock(item.granule, item.granules);
  if (!block || block->size() < ipc::kBlockHeaderBytes) {
    return absl::InvalidArgumentError("an item's block is empty, or outside of its arena");
  }
  absl::StatusOr<KnownRequest*> known = channel_.known.Get({.token = item.descriptor_token,
                                                            .bytes = item.descriptor_bytes,
                                                            .method = method_.index,
                                                            .item = true},
                                                           *block, *method_.signature);
  if (!known.ok()) return known.status();
  if (item_.get() != *known) item_ = (*known)->shared_from_this();
  item_->Show(*block);
  item_inputs_.assign(item_->inputs.begin(), item_->inputs.end());
  return absl::OkStatus();
}

absl::StatusOr<std::optional<std::span<const TensorView>>> ServedStream::Next() {
  using Item = std::optional<std::span<const TensorView>>;
  if (!forced_.ok()) return forced_;
  ReleaseItem();
  if (!method_.streams_inputs) return Item();
  const ipc::StreamWindow& shared = *place_.shared;
  bool done = false;
  // SYNC: stream_item. `items_done` first: once it is up, `items` moves no more.
  const auto there = [&] {
    done = shared.items_done.load(std::memory_order_acquire) != 0;
    return shared.items.load(std::memory_order_acquire) != items_;
  };
  const auto wanted = [&] { return there() || done || Cancelled(); };
  int64_t now = ipc::MonotonicNs();
  const int64_t began = now;
  // A stream that waits for its caller is not stuck.
  const bool waits = !wanted();
  if (waits && page_ != nullptr) page_->busy_since_ns.store(0, std::memory_order_relaxed);
  for (;;) {
    forced_ = CheckGoing(now);
    if (!forced_.ok() || there() || done) break;
    forced_ = channel_.host.Await(channel_.channel, wanted);
    if (!forced_.ok()) break;
    now = ipc::MonotonicNs();
  }
  if (waits) {
    now = ipc::MonotonicNs();
    waited_ns_ += now - began;
    if (page_ != nullptr) page_->busy_since_ns.store(now, std::memory_order_relaxed);
  }
  if (!forced_.ok()) return forced_;
  const uint64_t ahead = shared.items.load(std::memory_order_acquire) - items_;
  if (ahead == 0) return Item();
  if (ahead > place_.window) {
    forced_ = absl::InvalidArgumentError(
        absl::StrCat("the stream's caller sent ", ahead, " items, in a window of ", place_.window));
  } else {
    forced_ = ReadItem();
  }
  if (!forced_.ok()) return forced_;
  ++items_;
  item_out_ = true;
  return Item(item_inputs_);
}

}  // namespace baton::runtime
