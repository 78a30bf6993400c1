// Streams whose other side says what cannot be.
#include <fcntl.h>

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "ipc/channel_layout.h"
#include "ipc/segment.h"
#include "ipc/stream_layout.h"
#include "tests/runtime/front/fake_server.h"
#include "tests/runtime/front/stream_calls.h"

namespace baton::test {
namespace {

using ::testing::HasSubstr;

ChannelOptions Small() {
  return {.ring_entries = 16,
          .request_arena_bytes = 256 << 10,
          .response_arena_bytes = 4 << 20,
          .max_handles = 64};
}

// ---- A worker that lies ------------------------------------------------------------------------

class WorkerLies : public ::testing::Test {
 protected:
  // As the worker, about the stream that was submitted as `sequence`.
  void Say(uint64_t sequence, absl::StatusCode code, uint16_t flags, uint64_t needed_bytes = 0) {
    ipc::CompletionEntry& entry = raw_.completion(published_);
    entry.request_id = raw_.submission(sequence).request_id;
    entry.generation = 1;
    entry.descriptor_token = 0;
    entry.descriptor_bytes = 0;
    entry.needed_bytes = needed_bytes;
    entry.status_code = static_cast<uint16_t>(code);
    entry.flags = flags;
    entry.service_ns = 0;
    entry.stamp.store(published_++, std::memory_order_release);
  }
  ipc::StreamProgress& progress(uint64_t sequence) {
    return *reinterpret_cast<ipc::StreamProgress*>(
        raw_.response_block(raw_.submission(sequence)).data());
  }
  void ExpectPoisoned(Stream& stream, const std::string& why) {
    const absl::Status end = stream.TryRead().status();
    EXPECT_TRUE(absl::IsDataLoss(end)) << end;
    EXPECT_THAT(end.ToString(), HasSubstr(why));
    EXPECT_TRUE(absl::IsDataLoss(channel_.NewRequest().status()));
  }

  FakeServer server_{StreamMethods()};
  Channel channel_ = server_.Open(Small());
  RawWorker raw_{server_, 0};
  uint64_t published_ = 0;
};

TEST_F(WorkerLies, MoreResponsesThanCredits) {
  Stream stream = OpenCount(channel_, {{"n", 9}}, {.window = 1});
  // With these there is no larger block, and so no further credit.
  const TensorSpec x{.name = "x", .dtype = DType::kInt64, .shape = {}};
  std::vector<Request> holders;
  for (int i = 0; i < 3; ++i) {
    holders.push_back(*channel_.Loan(
        *channel_.Plan(std::span(&x, 1), {.method = kAdd, .response_bytes = 1 << 20})));
  }
  for (int i = 0; i < 2; ++i) {
    Say(0, absl::StatusCode::kResourceExhausted, ipc::kCompletionMore, 2 << 20);
  }
  ExpectPoisoned(stream, "more responses than it was asked for");
}

TEST_F(WorkerLies, AnErrorThatIsNotTheEnd) {
  Stream stream = OpenCount(channel_, {{"n", 9}});
  Say(0, absl::StatusCode::kInternal, ipc::kCompletionMore);
  ExpectPoisoned(stream, "not its end");
}

TEST_F(WorkerLies, ABlockThatWasLargeEnough) {
  Stream stream = OpenCount(channel_, {{"n", 9}});
  Say(0, absl::StatusCode::kResourceExhausted, ipc::kCompletionMore, 100);
  ExpectPoisoned(stream, "large enough");
}

TEST_F(WorkerLies, AResponseThatIsNone) {
  Stream stream = OpenCount(channel_, {{"n", 9}});
  Say(0, absl::StatusCode::kOk, ipc::kCompletionMore);  // no y in it
  ExpectPoisoned(stream, "");
}

TEST_F(WorkerLies, AnotherEndAfterTheEnd) {
  Stream stream = OpenCount(channel_, {{"n", 9}});
  Say(0, absl::StatusCode::kOk, 0);
  EXPECT_EQ(ReadText(stream), "end");
  Stream next = OpenCount(channel_, {{"n", 9}}, {.window = 2});
  Say(0, absl::StatusCode::kOk, 0);
  ExpectPoisoned(next, "not there");
}

TEST_F(WorkerLies, MoreItemsTakenThanSent) {
  Stream stream = OpenItems(channel_, kSum, {.window = 4});
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(WriteItem(stream, i).ok());
  progress(0).items_taken.store(5);
  // Of another stream, for all that the front knows: it counts for nothing.
  EXPECT_TRUE(absl::IsResourceExhausted(WriteItem(stream, 4, absl::ZeroDuration())));
  progress(0).request_id.store(raw_.submission(0).request_id);
  const absl::Status written = WriteItem(stream, 4, absl::ZeroDuration());
  EXPECT_TRUE(absl::IsDataLoss(written)) << written;
  ExpectPoisoned(stream, "items");
}

TEST_F(WorkerLies, ItemsGivenBack) {
  Stream stream = OpenItems(channel_, kSum, {.window = 2});
  progress(0).request_id.store(raw_.submission(0).request_id);
  for (int i = 0; i < 2; ++i) ASSERT_TRUE(WriteItem(stream, i).ok());
  progress(0).items_taken.store(1);
  ASSERT_TRUE(WriteItem(stream, 2).ok());
  progress(0).items_taken.store(0);
  EXPECT_TRUE(absl::IsDataLoss(WriteItem(stream, 3, absl::ZeroDuration())));
}

// ---- A front that lies -------------------------------------------------------------------------

class FrontLies : public ::testing::Test {
 protected:
  FrontLies() : worker_(server_, 0, 1, model_) {
    const runtime::ChannelServer::Descriptors fds = server_.Descriptors(0);
    const std::string path = absl::StrCat("/proc/self/fd/", fds.submission);
    const ipc::UniqueFd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    segment_ = *ipc::Segment::Map(fd.get(), fds.submission_bytes, ipc::SegmentAccess::kReadWrite);
    view_ = *ipc::ReadSubmissionHeader(segment_.data(), segment_.bytes());
  }
  ipc::SubmissionEntry& entry(uint64_t sequence) {
    return reinterpret_cast<ipc::SubmissionEntry*>(
        segment_.data() + view_.plan.ring_offset)[sequence & (view_.ring_entries - 1)];
  }
  ipc::StreamWindow& window(uint64_t sequence) {
    const uint64_t granule =
        uint64_t{entry(sequence).request_granule} + entry(sequence).device_granule;
    return *reinterpret_cast<ipc::StreamWindow*>(segment_.data() + view_.plan.arena_offset +
                                                 granule * ipc::kGranuleBytes);
  }
  // The stream ends as invalid, the model's stream has gone, the worker lives.
  void ExpectRefused(Stream& stream) {
    worker_.StepAll();
    std::string text;
    while ((text = ReadText(stream)) == "0" || text == "1") continue;
    EXPECT_EQ(text, "INVALID_ARGUMENT");
    EXPECT_EQ(model_.started.load(), model_.destroyed.load());
    EXPECT_EQ(worker_.host().active_calls, 0u);
    ASSERT_TRUE(channel_.Submit(Scalars(channel_, kAdd, {{"x", 1}})).ok());
    worker_.StepAll();
    EXPECT_TRUE(channel_.Poll()->response.ok());
  }

  FakeServer server_{StreamMethods()};
  StreamModel model_;
  Channel channel_ = server_.Open(Small());
  StepWorker worker_;
  ipc::Segment segment_;
  ipc::SegmentView view_;
};

TEST_F(FrontLies, AWindowThatIsNone) {
  const std::function<void(ipc::SubmissionEntry&)> lies[] = {
      [](ipc::SubmissionEntry& e) { e.device_granule = 0; },
      [](ipc::SubmissionEntry& e) { e.device_granule = ~0u; },
      [](ipc::SubmissionEntry& e) { e.device_granule += 1; },
      [](ipc::SubmissionEntry& e) { e.device_granules = 0; },
      [](ipc::SubmissionEntry& e) { e.device_granules = 3; },
      [](ipc::SubmissionEntry& e) { e.device_granules = 128; },
      [](ipc::SubmissionEntry& e) { e.response_granules = 0; },
      [](ipc::SubmissionEntry& e) { e.response_granule = ~0u; },
      [](ipc::SubmissionEntry& e) { e.request_granules = 1; },
      [](ipc::SubmissionEntry& e) { e.method = kAdd; },
      [](ipc::SubmissionEntry& e) { e.method = 99; },
      [](ipc::SubmissionEntry& e) { e.descriptor_token = 0, e.descriptor_bytes = ~0u; },
  };
  uint64_t sequence = 0;
  for (const auto& lie : lies) {
    Stream stream = OpenCount(channel_, {{"n", 1}}, {.window = 2});
    lie(entry(sequence++));
    ExpectRefused(stream);
    ++sequence;  // the call in ExpectRefused
  }
}

TEST_F(FrontLies, CreditsBeyondTheWindow) {
  Stream stream = OpenCount(channel_, {{"n", 9}}, {.window = 2});
  worker_.Step();
  window(0).credits.store(3);
  ExpectRefused(stream);
}

TEST_F(FrontLies, CreditsThatAreTakenBack) {
  Stream stream = OpenCount(channel_, {{"n", 9}}, {.window = 2});
  worker_.StepAll();
  window(0).credits.store(1);
  ExpectRefused(stream);
}

TEST_F(FrontLies, ACreditsBlockOutsideTheArena) {
  Stream stream = OpenCount(channel_, {{"n", 9}}, {.window = 2});
  window(0).credit_blocks[0] = {.granule = ~0u, .granules = 5};
  ExpectRefused(stream);
}

TEST_F(FrontLies, ItemsThatCannotBe) {
  const std::function<void(ipc::StreamWindow&)> lies[] = {
      [](ipc::StreamWindow& w) { w.items.store(3); },
      [](ipc::StreamWindow& w) { w.item_blocks[0].granule = ~0u; },
      [](ipc::StreamWindow& w) { w.item_blocks[0].granules = 0; },
      [](ipc::StreamWindow& w) { w.item_blocks[0].granules = 1; },
      [](ipc::StreamWindow& w) {
        w.item_blocks[0].descriptor_token = 0;
        w.item_blocks[0].descriptor_bytes = 1 << 20;
      },
      // The description of a start, not of an item.
      [](ipc::StreamWindow& w) { w.item_blocks[0].descriptor_token = 1; },
  };
  uint64_t sequence = 0;
  for (const auto& lie : lies) {
    Stream stream = OpenItems(channel_, kSum, {.window = 2});
    ASSERT_TRUE(WriteItem(stream, 1).ok());
    lie(window(sequence++));
    ExpectRefused(stream);
    ++sequence;
  }
}

}  // namespace
}  // namespace baton::test
