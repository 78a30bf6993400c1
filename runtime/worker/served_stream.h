// One stream that is under way: from its being taken to its last completion.
//
// What it shares with the front is in ipc/stream_layout.h. Everything that is
// read from there is copied, then checked: a front that lies gets its stream
// ended with INVALID_ARGUMENT.
//
// The model's part runs where Step is called, or on a thread of the call's own
// (call_threads.h): then Step hands it over, and takes up what came of it later.
//
// Thread safety: none; belongs to the serving thread, but for Next, which the
// model calls where it runs.
#ifndef BATON_RUNTIME_WORKER_SERVED_STREAM_H_
#define BATON_RUNTIME_WORKER_SERVED_STREAM_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "ipc/channel_layout.h"
#include "ipc/pages.h"
#include "ipc/stream_layout.h"
#include "loader/model.h"
#include "runtime/worker/call_threads.h"
#include "runtime/worker/channel_memory.h"
#include "runtime/worker/completion_writer.h"
#include "runtime/worker/known_requests.h"
#include "runtime/worker/served_methods.h"
#include "runtime/worker/serving_host.h"

namespace baton::runtime {

// What the streams of a channel use of it.
struct StreamChannel {
  uint64_t channel = 0;
  const ChannelMemory& memory;
  CompletionWriter& completions;
  KnownRequests& known;
  ServingHost& host;
};

class ServedStream final : public loader::ItemSource {
 public:
  // What a request for a stream names, checked. INVALID_ARGUMENT where it cannot be.
  struct Place {
    uint64_t request_id = 0;
    int64_t deadline_ns = 0;  // 0: none
    const ipc::RequestBlockHeader* header = nullptr;
    const ipc::StreamWindow* shared = nullptr;
    uint32_t window = 0;
    std::span<std::byte> end_block;  // the worker's progress, then the end's text
  };
  static absl::StatusOr<Place> Find(const ipc::SubmissionEntry& entry,
                                    std::span<const std::byte> block,
                                    std::span<std::byte> response);

  // All must outlive this. `thread`: where the model's part runs, of the host's
  // call_threads, given back at the end; nullptr: on the serving thread. Says that
  // the front may read this stream's progress.
  ServedStream(const StreamChannel& channel, const Place& place, ServedMethod& method,
               CallThread* thread);
  // While no part of it runs.
  ~ServedStream() override;
  ServedStream(const ServedStream&) = delete;
  ServedStream& operator=(const ServedStream&) = delete;

  // Has the model begin. An error is the stream's end; it was not published.
  // On a thread of its own it comes later, by Step.
  absl::Status Start(loader::Model& model, KnownRequest& request, std::span<const std::byte> block,
                     ipc::WorkerPage& page);

  // Has the model give one response, if one may be given; publishes it, or the
  // end. Gives it the item that it waits for. False when there is nothing to do now.
  bool Step(ipc::WorkerPage& page);
  bool HasWork() const;
  bool ended() const { return ended_; }
  bool on_thread() const { return thread_ != nullptr; }

  // The model's stream goes, then the last completion is published; on a thread of
  // its own by Step, once the model can be stopped.
  void End(const absl::Status& status, ipc::WorkerPage& page);

  // On the model's thread.
  absl::StatusOr<std::optional<std::span<const TensorView>>> Next() override;

 private:
  using Item = absl::StatusOr<std::optional<std::span<const TensorView>>>;
  // What runs on the call's thread, while that has the turn or waits for an item.
  enum class Piece { kNone, kStart, kResponse, kEnd };

  bool Cancelled() const { return place_.header->cancelled.load(std::memory_order_acquire) != 0; }
  // Why it cannot go on, whatever the model thinks.
  absl::Status CheckGoing(int64_t now) const;
  bool Overdue() const;
  absl::StatusOr<std::span<std::byte>> CreditBlock();
  ResponseWriter& writer() { return own_writer_ ? *own_writer_ : *method_.writer; }

  // Has `part`, which calls the model, run; true when it has come to its end.
  template <typename Part>
  bool RunPiece(Piece piece, int64_t now, Part&& part);
  // It is at its end.
  void PieceEnded(int64_t now);
  bool StepOnThread();
  void Responded();
  void PublishEnd();
  Answer TooSmall() const;
  void PublishChunk(const Answer& answer, uint64_t service_ns);
  void ReleaseItem();
  absl::Status ReadItem();
  bool ItemWanted() const;
  // What to give to the model that wants an item; nullopt: nothing yet.
  std::optional<Item> TryItem(int64_t now);
  // The model waits for its caller, and does so no more: meanwhile it is not stuck.
  void Pause(int64_t now);
  void Resume(int64_t now);
  bool AnswerItem();

  const StreamChannel channel_;
  const Place place_;
  ipc::StreamProgress& progress_;
  ServedMethod& method_;
  CallThread* const thread_;
  std::optional<ResponseWriter> own_writer_;  // on a thread
  ipc::WorkerPage* page_ = nullptr;
  bool ended_ = false;

  // In turns (call_threads.h).
  loader::CallContext call_;
  std::unique_ptr<loader::ModelStream> stream_;
  absl::Status started_;       // what the model said to kStart,
  absl::StatusOr<bool> next_;  // and to kResponse
  Item item_answer_;           // for Next

  std::shared_ptr<KnownRequest> start_;
  std::vector<TensorView> inputs_;
  std::span<std::byte> block_;  // of the response that the model writes
  uint64_t responses_ = 0;      // credits used
  uint64_t needed_bytes_ = 0;   // by the response that did not fit

  std::shared_ptr<KnownRequest> item_;
  std::vector<TensorView> item_inputs_;
  uint64_t items_ = 0;  // given to the model
  bool item_out_ = false;
  absl::Status forced_;  // how it ends, whatever the model makes of it
  absl::Status end_;     // how it ends, once it does

  Piece piece_ = Piece::kNone;
  bool asked_ = false;  // the call's thread waits for an item, which was looked at
  int64_t began_ns_ = 0;
  int64_t paused_ns_ = 0;   // since when; 0: it does not wait
  int64_t waited_ns_ = 0;   // for items, in this piece
  int64_t service_ns_ = 0;  // of all responses
  int64_t took_ns_ = 0;     // of the last piece
};

}  // namespace baton::runtime

#endif  // BATON_RUNTIME_WORKER_SERVED_STREAM_H_
