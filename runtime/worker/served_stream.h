// One stream that is under way: from its being taken to its last completion.
//
// What it shares with the front is in ipc/stream_layout.h. Everything that is
// read from there is copied, then checked: a front that lies gets its stream
// ended with INVALID_ARGUMENT.
//
// Thread safety: none; belongs to the serving thread.
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

  // All must outlive this. Says that the front may read this stream's progress.
  ServedStream(const StreamChannel& channel, const Place& place, ServedMethod& method);

  // Has the model begin. An error is the stream's end; it was not published.
  absl::Status Start(loader::Model& model, KnownRequest& request, std::span<const std::byte> block,
                     ipc::WorkerPage& page);

  // Has the model give one response, if one may be given; publishes it, or the
  // end. False when there is nothing to do now.
  bool Step(ipc::WorkerPage& page);
  bool HasWork() const;
  bool ended() const { return ended_; }

  // The model's stream goes, then the last completion is published.
  void End(const absl::Status& status, ipc::WorkerPage& page);

  absl::StatusOr<std::optional<std::span<const TensorView>>> Next() override;

 private:
  bool Cancelled() const { return place_.header->cancelled.load(std::memory_order_acquire) != 0; }
  // Why it cannot go on, whatever the model thinks.
  absl::Status CheckGoing(int64_t now) const;
  absl::StatusOr<std::span<std::byte>> CreditBlock();
  // What a call of the model gave.
  struct Given {
    bool response = false;  // to be published; else it is the end
    Answer answer;
  };
  Given CallModel(std::span<std::byte> block);
  Answer TooSmall() const;
  void PublishChunk(const Answer& answer, uint64_t service_ns);
  void ReleaseItem();
  absl::Status ReadItem();

  const StreamChannel channel_;
  const Place place_;
  ipc::StreamProgress& progress_;
  ServedMethod& method_;
  loader::CallContext call_;
  std::unique_ptr<loader::ModelStream> stream_;
  bool ended_ = false;

  std::shared_ptr<KnownRequest> start_;
  std::vector<TensorView> inputs_;
  uint64_t responses_ = 0;     // credits used
  uint64_t needed_bytes_ = 0;  // by the response that did not fit

  std::shared_ptr<KnownRequest> item_;
  std::vector<TensorView> item_inputs_;
  uint64_t items_ = 0;  // given to the model
  bool item_out_ = false;
  absl::Status forced_;  // how it ends, whatever the model makes of it

  ipc::WorkerPage* page_ = nullptr;  // while the model is called
  int64_t waited_ns_ = 0;            // for items, in this call
  int64_t service_ns_ = 0;           // of all calls
};

}  // namespace baton::runtime

#endif  // BATON_RUNTIME_WORKER_SERVED_STREAM_H_
