// A model that keeps its inputs beyond the answer: their block stays as it is
// until it lets go, from whatever thread, or its worker has died.
#include <cstring>
#include <memory>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "ipc/channel_layout.h"
#include "runtime/front/channel_core.h"
#include "tests/runtime/front/fake_server.h"

namespace baton::test {
namespace {

ChannelOptions Small() {
  return {.ring_entries = 4,
          .request_arena_bytes = 64 << 10,
          .response_arena_bytes = 1 << 20,
          .max_handles = 16};
}

// Doubles x, and keeps it.
class KeptInputsTest : public ::testing::Test {
 protected:
  KeptInputsTest()
      : model_({{.name = "predict", .signature = VectorSignature()}},
               {[this](loader::CallContext& call, std::span<const TensorView> inputs,
                       loader::OutputSink& outputs) {
                 if (keeps_) {
                   tokens_.push_back(call.KeepInputs());
                   kept_.push_back(inputs[0].bytes);
                 }
                 if (twice_) tokens_.push_back(call.KeepInputs());
                 if (fails_) return absl::OutOfRangeError("as asked");
                 return Double(inputs, outputs);
               }}),
        channel_(server_.Open(Small())),
        worker_(std::make_unique<StepWorker>(server_, 0, 1, model_)) {}

  void Submit(float first) { ASSERT_TRUE(channel_.Submit(Vector(channel_, 4, first)).ok()); }
  // The answer, which is doubled.
  Response Take(float first) {
    worker_->StepAll();
    std::optional<Outcome> outcome = channel_.Poll();
    EXPECT_TRUE(outcome);
    if (!outcome) return {};
    EXPECT_TRUE(outcome->response.ok()) << outcome->response.status();
    EXPECT_EQ(outcome->response->output<float>("y")[0], 2 * first);
    return *std::move(outcome->response);
  }
  void ExpectAllFree() {
    EXPECT_FALSE(channel_.Poll());
    EXPECT_EQ(channel_.free_request_bytes(), Small().request_arena_bytes);
    EXPECT_EQ(channel_.free_response_bytes(), Small().response_arena_bytes);
    EXPECT_EQ(channel_.outstanding(), 0u);
  }

  bool keeps_ = true;
  bool twice_ = false;
  bool fails_ = false;
  std::vector<std::shared_ptr<void>> tokens_;
  std::vector<std::span<const std::byte>> kept_;
  FakeServer server_;
  MethodModel model_;
  Channel channel_;
  std::unique_ptr<StepWorker> worker_;
};

TEST_F(KeptInputsTest, StayUntilTheModelLetsGo) {
  Submit(7);
  { const Response response = Take(7); }
  EXPECT_EQ(channel_.free_response_bytes(), Small().response_arena_bytes);
  EXPECT_LT(channel_.free_request_bytes(), Small().request_arena_bytes);
  keeps_ = false;
  for (int i = 0; i < 100; ++i) {  // whatever is loaned meanwhile is another block
    Submit(100);
    Take(100);
  }
  float x = 0;
  std::memcpy(&x, kept_[0].data(), sizeof(x));
  EXPECT_EQ(x, 7);
  EXPECT_EQ(channel_.outstanding(), 0u);  // it is answered
  tokens_.clear();
  worker_->Step();
  ExpectAllFree();
}

TEST_F(KeptInputsTest, AreReleasedFromAnyThread) {
  Submit(1);
  Take(1);
  std::thread([this] { tokens_.clear(); }).join();
  worker_->Step();
  ExpectAllFree();
}

TEST_F(KeptInputsTest, ThatWereLetGoBeforeTheAnswerWereNotKept) {
  twice_ = true;
  Submit(1);
  worker_->Step();
  tokens_.pop_back();  // one of two of the same
  Take(1);
  worker_->Step();
  EXPECT_FALSE(channel_.Poll());
  EXPECT_LT(channel_.free_request_bytes(), Small().request_arena_bytes);
  tokens_.clear();
  worker_->Step();
  ExpectAllFree();

  MethodModel brief({{.name = "predict", .signature = VectorSignature()}},
                    {[](loader::CallContext& call, std::span<const TensorView> inputs,
                        loader::OutputSink& outputs) {
                      call.KeepInputs().reset();
                      return Double(inputs, outputs);
                    }});
  Channel channel = server_.Open(Small());
  StepWorker worker(server_, 1, 1, brief);
  ASSERT_TRUE(channel.Submit(Vector(channel, 4, 1)).ok());
  worker.Step();
  EXPECT_TRUE(channel.Poll()->response.ok());
  EXPECT_EQ(channel.free_request_bytes(), Small().request_arena_bytes);
}

TEST_F(KeptInputsTest, StayAlsoWhereTheCallFails) {
  fails_ = true;
  Submit(1);
  worker_->StepAll();
  EXPECT_TRUE(absl::IsOutOfRange(channel_.Poll()->response.status()));
  EXPECT_LT(channel_.free_request_bytes(), Small().request_arena_bytes);
  EXPECT_EQ(channel_.free_response_bytes(), Small().response_arena_bytes);
  tokens_.clear();
  worker_->Step();
  ExpectAllFree();
}

// The front cannot ask again by itself: the inputs are the model's now.
TEST_F(KeptInputsTest, AResultThatDidNotFitFitsTheNextTime) {
  const TensorSpec x{.name = "x", .dtype = DType::kFloat32, .shape = {1000}};
  const RequestPlan plan = *channel_.Plan(std::span(&x, 1), /*response_bytes=*/128);
  ASSERT_TRUE(channel_.Submit(*channel_.Loan(plan)).ok());
  worker_->StepAll();
  const absl::Status first = channel_.Poll()->response.status();
  EXPECT_TRUE(absl::IsResourceExhausted(first)) << first;
  EXPECT_THAT(first.ToString(), ::testing::HasSubstr("send it again"));
  ASSERT_TRUE(channel_.Submit(*channel_.Loan(plan)).ok());
  worker_->StepAll();
  EXPECT_TRUE(channel_.Poll()->response.ok());
  tokens_.clear();
  worker_->Step();
  ExpectAllFree();
}

TEST_F(KeptInputsTest, OfACancelledRequestAreReleased) {
  absl::StatusOr<Ticket> ticket = channel_.Submit(Vector(channel_, 4, 1));
  worker_->StepAll();
  ASSERT_TRUE(channel_.Cancel(*ticket).ok());
  EXPECT_FALSE(channel_.Poll());
  EXPECT_LT(channel_.free_request_bytes(), Small().request_arena_bytes);
  tokens_.clear();
  worker_->Step();
  ExpectAllFree();
}

TEST_F(KeptInputsTest, TakeTheirPlaceOfTheRing) {
  for (int i = 0; i < 4; ++i) {
    Submit(1);
    Take(1);
  }
  Request fifth = Vector(channel_, 4, 1);
  EXPECT_TRUE(absl::IsResourceExhausted(channel_.Submit(std::move(fifth)).status()));
  tokens_.pop_back();
  worker_->Step();
  EXPECT_TRUE(channel_.Submit(std::move(fifth)).ok());
  Take(1);
  tokens_.clear();
  worker_->Step();
  ExpectAllFree();
}

// R10: two completions of each place are in the ring before the front reads any.
TEST_F(KeptInputsTest, TheRingHasRoomForTheAnswersAndTheReleases) {
  for (int round = 0; round < 10; ++round) {
    for (int i = 0; i < 4; ++i) Submit(static_cast<float>(i));
    worker_->StepAll();
    tokens_.clear();
    worker_->Step();
    for (int i = 0; i < 4; ++i) {
      const std::optional<Outcome> outcome = channel_.Poll();
      ASSERT_TRUE(outcome);
      EXPECT_EQ(outcome->response->output<float>("y")[0], 2 * static_cast<float>(i));
    }
    ExpectAllFree();
  }
}

TEST_F(KeptInputsTest, AreFreeWhenTheirWorkerHasDied) {
  Submit(1);
  const Response response = Take(1);
  worker_.reset();
  server_.ShowReaped(1);
  for (int i = 0; i < 2; ++i) EXPECT_FALSE(channel_.Poll());
  EXPECT_EQ(channel_.free_request_bytes(), Small().request_arena_bytes);
  EXPECT_EQ(response.output<float>("y")[0], 2);
  tokens_.clear();  // nobody listens any more
  worker_ = std::make_unique<StepWorker>(server_, 0, 2, model_);
  keeps_ = false;
  Submit(3);
  Take(3);
}

TEST_F(KeptInputsTest, AWorkerThatAnswersTwiceBreaksTheChannel) {
  Submit(1);
  const RawWorker raw(server_, 0);
  for (uint64_t at = 0; at < 2; ++at) {
    raw.Fail(0, at, absl::StatusCode::kInternal, ipc::kCompletionMore);
  }
  ASSERT_TRUE(channel_.Poll());
  EXPECT_FALSE(channel_.Poll());
  const TensorSpec x{.name = "x", .dtype = DType::kFloat32, .shape = {4}};
  EXPECT_TRUE(absl::IsDataLoss(channel_.NewRequest(std::span(&x, 1)).status()));
}

}  // namespace
}  // namespace baton::test
