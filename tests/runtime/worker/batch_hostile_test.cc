// A front that writes whatever it likes into its ring, beside one that does not: requests that are
// described as one before, and are not like it. Worth most under the address sanitizer.
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "ipc/channel_layout.h"
#include "ipc/descriptor.h"
#include "ipc/ring.h"
#include "ipc/segment.h"
#include "runtime/worker/batch_gatherer.h"
#include "tests/runtime/front/fake_server.h"
#include "tests/runtime/worker/batching_worker.h"

namespace baton::test {
namespace {

using ::testing::ElementsAre;

constexpr uint32_t kEntries = 8;
constexpr uint64_t kArenaBytes = 64 << 10;
constexpr uint32_t kBlockGranules = 16;
constexpr uint64_t kTensorOffset = 1024;
constexpr uint64_t kToken = 7;
constexpr uint32_t kArenaGranules = kArenaBytes / ipc::kGranuleBytes;

// The front's end of a channel, entry by entry.
class RawFront {
 public:
  using Lie = std::function<void(ipc::SubmissionEntry&)>;

  RawFront() {
    submission_plan_ = *ipc::PlanSubmissionSegment(kEntries, kArenaBytes);
    completion_plan_ = *ipc::PlanCompletionSegment(ipc::CompletionEntries(kEntries), kArenaBytes);
    submission_ = *ipc::CreateSegment({.bytes = submission_plan_.segment_bytes});
    completion_ = *ipc::CreateSegment({.bytes = completion_plan_.segment_bytes});
    requests_map_ = *ipc::Segment::Map(submission_.read_write.get(), submission_plan_.segment_bytes,
                                       ipc::SegmentAccess::kReadWrite);
    answers_map_ = *ipc::Segment::Map(completion_.read_write.get(), completion_plan_.segment_bytes,
                                      ipc::SegmentAccess::kReadWrite);
    ipc::InitSubmissionSegment(requests_map_.data(), submission_plan_, kEntries, 0);
    ipc::InitCompletionSegment(answers_map_.data(), completion_plan_,
                               ipc::CompletionEntries(kEntries), 0);
    requests_ = {reinterpret_cast<ipc::SubmissionEntry*>(requests_map_.data() +
                                                         submission_plan_.ring_offset),
                 kEntries, 0};
    answers_ = {
        reinterpret_cast<ipc::CompletionEntry*>(answers_map_.data() + completion_plan_.ring_offset),
        ipc::CompletionEntries(kEntries), 0};
  }

  std::unique_ptr<runtime::ChannelServer> Serve(runtime::ServingHost& host) {
    runtime::ChannelServer::Descriptors descriptors;
    descriptors.submission = submission_.read_only.get();
    descriptors.completion = completion_.read_write.get();
    descriptors.submission_bytes = submission_plan_.segment_bytes;
    descriptors.completion_bytes = completion_plan_.segment_bytes;
    auto server = *runtime::ChannelServer::Map(0, descriptors);
    server->Join(host);
    EXPECT_TRUE(server->Begin(1).ok());
    return server;
  }

  // x, one row, that lies right; then the entry is as `lie` makes it.
  void Submit(
      float x, const Lie& lie = [](ipc::SubmissionEntry&) {}) {
    const std::vector<ipc::TensorLayout> layouts = {{.name = "x",
                                                     .dtype = DType::kFloat32,
                                                     .shape = {1},
                                                     .offset = kTensorOffset,
                                                     .bytes = sizeof(x)}};
    const ipc::DescriptorBytes description = *ipc::EncodeRequest(layouts);
    std::byte* const block = requests_map_.data() + submission_plan_.arena_offset;
    std::memcpy(block + ipc::kBlockHeaderBytes, description.data(), description.size());
    std::memcpy(block + kTensorOffset, &x, sizeof(x));
    requests_.Publish([&](ipc::SubmissionEntry& entry) {
      entry.request_id = requests_.next();
      entry.deadline_ns = 0;
      entry.descriptor_token = kToken;
      entry.request_granule = 0;
      entry.request_granules = kBlockGranules;
      entry.response_granule = 0;
      entry.response_granules = kBlockGranules;
      entry.device_granule = 0;
      entry.device_granules = 0;
      entry.descriptor_bytes = static_cast<uint32_t>(description.size());
      entry.kind = static_cast<uint16_t>(ipc::RequestKind::kInfer);
      entry.method = 0;
      lie(entry);
    });
  }
  // The codes of what was answered since.
  std::vector<absl::StatusCode> Answers() {
    std::vector<absl::StatusCode> codes;
    ipc::TakenEntry<ipc::CompletionEntry> taken;
    while (answers_.TryTake(&taken)) {
      codes.push_back(static_cast<absl::StatusCode>(taken->status_code));
    }
    return codes;
  }

 private:
  ipc::SegmentPlan submission_plan_;
  ipc::SegmentPlan completion_plan_;
  ipc::SegmentHandles submission_;
  ipc::SegmentHandles completion_;
  ipc::Segment requests_map_;
  ipc::Segment answers_map_;
  ipc::RingProducer<ipc::SubmissionEntry> requests_;
  ipc::RingConsumer<ipc::CompletionEntry> answers_;
};

struct Case {
  std::string name;
  RawFront::Lie lie;
  absl::StatusCode code;
};

class BatchHostileTest : public ::testing::TestWithParam<Case>, public runtime::BatchSource {
 protected:
  BatchHostileTest() {
    servers_.push_back(hostile_.Serve(host_));
    servers_.push_back(honest_.Serve(host_));
    // Both are known from now on.
    hostile_.Submit(1);
    honest_.Submit(1);
    TurnAll();
    EXPECT_THAT(hostile_.Answers(), ElementsAre(absl::StatusCode::kOk));
    EXPECT_THAT(honest_.Answers(), ElementsAre(absl::StatusCode::kOk));
    model_.calls.clear();
  }
  void TurnAll() {
    while (gatherer_.Turn(*this, model_, host_, page_)) {
    }
  }

  size_t channels() const override { return servers_.size(); }
  runtime::ChannelServer* Next() override {
    next_ = next_ % servers_.size() + 1;
    return servers_[next_ - 1].get();
  }
  size_t last() const override { return next_ - 1; }
  void SetNext(size_t next) override { next_ = next; }
  bool interrupted() const override { return false; }
  bool may_wait() const override { return true; }
  int64_t NowNs() override { return 1; }
  void AwaitRequest(int64_t) override {}

  RawFront hostile_;
  RawFront honest_;
  PlainHost host_;
  ipc::WorkerPage page_{};
  DoublingModel model_;
  runtime::BatchGatherer gatherer_{{.max_batch = 8}};
  std::vector<std::unique_ptr<runtime::ChannelServer>> servers_;
  size_t next_ = 0;
};

TEST_P(BatchHostileTest, IsRefusedAloneAndTheOtherIsServed) {
  for (int lap = 0; lap < 3; ++lap) {
    hostile_.Submit(2, GetParam().lie);
    honest_.Submit(3);
    hostile_.Submit(4);
    TurnAll();
    EXPECT_THAT(hostile_.Answers(),
                ::testing::UnorderedElementsAre(GetParam().code, absl::StatusCode::kOk));
    EXPECT_THAT(honest_.Answers(), ElementsAre(absl::StatusCode::kOk));
  }
}

INSTANTIATE_TEST_SUITE_P(
    Lies, BatchHostileTest,
    ::testing::Values(
        Case{"BlockBeyondTheArena",
             [](auto& entry) { entry.request_granule = kArenaGranules - kBlockGranules + 1; },
             absl::StatusCode::kInvalidArgument},
        Case{"BlockThatWrapsAround", [](auto& entry) { entry.request_granule = UINT32_MAX; },
             absl::StatusCode::kInvalidArgument},
        Case{"BlockShorterThanItsTensors",
             [](auto& entry) {
               entry.request_granules = static_cast<uint32_t>(kTensorOffset / ipc::kGranuleBytes);
             },
             absl::StatusCode::kInvalidArgument},
        Case{"BlockOfNothing", [](auto& entry) { entry.request_granules = 0; },
             absl::StatusCode::kInvalidArgument},
        Case{"ResponseBeyondTheArena", [](auto& entry) { entry.response_granule = kArenaGranules; },
             absl::StatusCode::kResourceExhausted},
        Case{"ResponseOfNothing", [](auto& entry) { entry.response_granules = 0; },
             absl::StatusCode::kResourceExhausted},
        Case{"MethodThatIsNotThere", [](auto& entry) { entry.method = 9; },
             absl::StatusCode::kInvalidArgument},
        Case{"KindThatIsNotThere", [](auto& entry) { entry.kind = 77; },
             absl::StatusCode::kInvalidArgument},
        Case{"DeadlineThatHasPassed", [](auto& entry) { entry.deadline_ns = -1; },
             absl::StatusCode::kDeadlineExceeded},
        Case{"ResultsOnNoDevice", [](auto& entry) { entry.device_granules = 1; },
             absl::StatusCode::kInvalidArgument}),
    [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace baton::test
