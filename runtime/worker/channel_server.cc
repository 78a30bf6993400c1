#include "runtime/worker/channel_server.h"

#include <fcntl.h>

#include <utility>

#include "ipc/channel_layout.h"
#include "ipc/crash_point.h"
#include "ipc/segment.h"
#include "runtime/worker/channel_server_impl.h"
#include "runtime/worker/resume_position.h"
#include "spdlog/spdlog.h"

namespace baton::runtime {

void ChannelServerImpl::UseDevice(const ChannelDevice& use) {
  for (auto& registration : registrations_) registration.reset();
  device_ = use;
  device_inputs_.UseDevice(use);
  ipc::Device* const device = use.device;
  if (device == nullptr) return;
  const std::span<const std::byte> memory[] = {memory_.submission(), memory_.completion()};
  for (size_t i = 0; i < 2; ++i) {
    auto registered = device->RegisterHostMemory(memory[i], /*writable=*/i == 1);
    if (registered.ok()) {
      registrations_[i] = *std::move(registered);
    } else {
      spdlog::info("channel {}: copies to and from the device go through a bounce buffer: {}",
                   channel_, std::string(registered.status().message()));
    }
  }
}

absl::Status ChannelServerImpl::Begin(uint64_t generation) {
  ipc::WorkerState& state = memory_.worker();
  const absl::StatusOr<ResumePosition> position = FindResumePosition(memory_, channel_);
  if (!position.ok()) return position.status();
  const auto [taken, published] = *position;
  submissions_ = ipc::RingConsumer<SubmissionEntry>(memory_.submission_entries(),
                                                    memory_.submission_slots(), taken);
  completions_.Begin(generation, published);
  state.published.store(published, std::memory_order_relaxed);

  // SYNC: generation_resumed. 0 marks the record as being written; a kill in
  // between leaves 0, which readers take for "not yet".
  state.resume_generation.store(0, std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_release);
  BATON_CRASH_POINT("worker.resume_begun");
  state.resume_taken.store(taken, std::memory_order_relaxed);
  state.resume_published.store(published, std::memory_order_relaxed);
  BATON_CRASH_POINT("worker.resume_written");
  state.resume_generation.store(generation, std::memory_order_release);
  begun_ = true;
  cancellations_.Begin();
  return absl::OkStatus();
}

ChannelServerImpl::~ChannelServerImpl() {
  if (host_ != nullptr) host_->active_calls -= streams_.size() + calls_.size();
}

void ChannelServerImpl::Join(ServingHost& host) {
  host_ = &host;
  kept_.Join(host);
}

absl::StatusOr<std::unique_ptr<ChannelServer>> ChannelServer::Map(uint64_t channel,
                                                                  const Descriptors& descriptors) {
  absl::StatusOr<ipc::Segment> submission = ipc::Segment::Map(
      descriptors.submission, descriptors.submission_bytes, ipc::SegmentAccess::kReadOnly);
  if (!submission.ok()) return submission.status();
  absl::StatusOr<ipc::Segment> completion = ipc::Segment::Map(
      descriptors.completion, descriptors.completion_bytes, ipc::SegmentAccess::kReadWrite);
  if (!completion.ok()) return completion.status();
  absl::StatusOr<ipc::SegmentView> submission_view =
      ipc::ReadSubmissionHeader(submission->data(), submission->bytes());
  if (!submission_view.ok()) return submission_view.status();
  absl::StatusOr<ipc::SegmentView> completion_view =
      ipc::ReadCompletionHeader(completion->data(), completion->bytes());
  if (!completion_view.ok()) return completion_view.status();
  ipc::UniqueFd event;
  if (descriptors.event >= 0) event.reset(::fcntl(descriptors.event, F_DUPFD_CLOEXEC, 3));
  return std::make_unique<ChannelServerImpl>(
      channel, descriptors,
      ChannelMemory(*std::move(submission), *submission_view, *std::move(completion),
                    *completion_view, std::move(event)));
}

}  // namespace baton::runtime
