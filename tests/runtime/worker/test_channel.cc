#include "tests/runtime/worker/test_channel.h"

#include <cstring>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

#include "ipc/descriptor.h"
#include "ipc/worker_sleep.h"

namespace baton::runtime {
namespace {

constexpr uint32_t kEntries = 4;
constexpr uint64_t kArenaBytes = 4096;
constexpr uint64_t kTensorOffset = 1024;  // behind any description of one tensor
constexpr uint32_t kBlockGranules = kArenaBytes / ipc::kGranuleBytes;

}  // namespace

TestChannel::TestChannel()
    : submission_plan_(*ipc::PlanSubmissionSegment(kEntries, kArenaBytes)),
      completion_plan_(*ipc::PlanCompletionSegment(kEntries, kArenaBytes)) {
  submission_ = *ipc::CreateSegment(
      {.bytes = submission_plan_.segment_bytes, .backing = ipc::SegmentBacking::kMemfd});
  completion_ = *ipc::CreateSegment(
      {.bytes = completion_plan_.segment_bytes, .backing = ipc::SegmentBacking::kMemfd});
  submission_map_ = *ipc::Segment::Map(submission_.read_write.get(), submission_.bytes,
                                       ipc::SegmentAccess::kReadWrite);
  completion_map_ = *ipc::Segment::Map(completion_.read_write.get(), completion_.bytes,
                                       ipc::SegmentAccess::kReadWrite);
  ipc::InitSubmissionSegment(submission_map_.data(), submission_plan_, kEntries, 0);
  ipc::InitCompletionSegment(completion_map_.data(), completion_plan_, kEntries, 0);
  requests_ = {reinterpret_cast<ipc::SubmissionEntry*>(submission_map_.data() +
                                                       submission_plan_.ring_offset),
               kEntries, 0};
  answers_ = {reinterpret_cast<ipc::CompletionEntry*>(completion_map_.data() +
                                                      completion_plan_.ring_offset),
              kEntries, 0};
}

void TestChannel::AddTo(FakeSupervisor& supervisor, uint64_t channel, uint64_t call) {
  supervisor.Send(
      [&](FakeSupervisor::Envelope::Builder envelope) {
        envelope.setCall(call);
        auto add = envelope.initAddChannel();
        add.setChannel(channel);
        add.setSubmissionBytes(submission_.bytes);
        add.setCompletionBytes(completion_.bytes);
      },
      {submission_.read_only.get(), completion_.read_write.get()});
}

void TestChannel::Submit(int64_t x, const ipc::WorkerPage& page, int doorbell_fd) {
  const std::vector<ipc::TensorLayout> layouts = {{.name = "x",
                                                   .dtype = DType::kInt64,
                                                   .shape = {1},
                                                   .offset = kTensorOffset,
                                                   .bytes = sizeof(x)}};
  const ipc::DescriptorBytes description = *ipc::EncodeRequest(layouts);
  std::byte* const block = submission_map_.data() + submission_plan_.arena_offset;
  std::memcpy(block + ipc::kBlockHeaderBytes, description.data(), description.size());
  std::memcpy(block + kTensorOffset, &x, sizeof(x));
  requests_.Publish([&](ipc::SubmissionEntry& entry) {
    entry.request_id = requests_.next() + 100;
    entry.deadline_ns = 0;
    entry.descriptor_token = 0;
    entry.request_granule = 0;
    entry.request_granules = kBlockGranules;
    entry.response_granule = 0;
    entry.response_granules = kBlockGranules;
    entry.descriptor_bytes = static_cast<uint32_t>(description.size());
    entry.kind = static_cast<uint16_t>(ipc::RequestKind::kInfer);
    entry.method = 0;
  });
  ipc::WakeWorkerIfSleeping(page.sleeping, doorbell_fd);
}

TestChannel::Answer TestChannel::Take() {
  ipc::TakenEntry<ipc::CompletionEntry> taken;
  while (!answers_.TryTake(&taken)) std::this_thread::yield();
  Answer answer{.generation = taken->generation, .status_code = taken->status_code};
  const std::byte* const block = completion_map_.data() + completion_plan_.arena_offset;
  const std::vector<std::byte> description(block, block + taken->descriptor_bytes);
  if (answer.status_code != 0) return answer;
  const auto layouts = ipc::ParseResponse(description, kArenaBytes);
  EXPECT_TRUE(layouts.ok()) << layouts.status();
  if (layouts.ok()) std::memcpy(&answer.y, block + layouts->at(0).offset, sizeof(answer.y));
  return answer;
}

}  // namespace baton::runtime
