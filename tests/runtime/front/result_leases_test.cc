// What a channel with results on the device owes a reload before it has leased
// anything: the arena that it waits for as it is opened, and the answers that
// it has not read.
#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "ipc/device.h"
#include "runtime/front/channel_core.h"
#include "tests/runtime/front/fake_server.h"

namespace baton::test {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kBytes = 64 << 10;

template <typename Condition>
void Until(Condition&& condition) {
  while (!condition()) std::this_thread::yield();
}

class ResultLeases : public ::testing::Test {
 protected:
  void Attach(absl::Duration timeout = absl::Minutes(1)) {
    FrontOptions options;
    options.import_device = true;
    options.connect_timeout = timeout;
    session_ = server_->Connect(options);
  }
  absl::StatusOr<Channel> Open(uint64_t device_result_bytes = kBytes) {
    return internal::ChannelCore::OpenChannel(session_,
                                              {.ring_entries = 8,
                                               .request_arena_bytes = 64 << 10,
                                               .response_arena_bytes = 1 << 20,
                                               .device_result_bytes = device_result_bytes});
  }
  void Offer(uint64_t generation) {
    std::unique_ptr<ipc::Device>& device = devices_[generation - 1];
    device = ipc::CreateHostDevice(kBytes);
    arenas_[generation - 1] = *device->CreateArena(kBytes, generation);
    server_->OfferArena(*arenas_[generation - 1]->Export());
  }
  // With an arena of generation 1 mapped, and an open channel.
  void Serve(uint64_t device_result_bytes = kBytes) {
    Attach();
    Offer(1);
    ASSERT_TRUE(Heard("imported 1"));
    absl::StatusOr<Channel> channel = Open(device_result_bytes);
    ASSERT_TRUE(channel.ok()) << channel.status();
    channel_ = *std::move(channel);
  }
  void Submit(int requests) {
    for (int i = 0; i < requests; ++i) {
      const auto submitted = channel_->Submit(Vector(*channel_, 4, 1));
      ASSERT_TRUE(submitted.ok()) << submitted.status();
    }
  }
  // The next that the front says, once.
  bool Heard(const std::string& text) {
    if (!server_->AwaitSaid(++heard_)) return false;
    EXPECT_EQ(server_->Said()[heard_ - 1], text);
    return server_->Said()[heard_ - 1] == text;
  }

  std::unique_ptr<ipc::Device> devices_[2];
  std::unique_ptr<ipc::DeviceArena> arenas_[2];
  std::unique_ptr<FakeServer> server_ = std::make_unique<FakeServer>();
  FunctionModel model_{Double};
  size_t heard_ = 0;
  std::shared_ptr<internal::Session> session_;
  std::optional<Channel> channel_;
};

// ---- The arena that a channel waits for

TEST_F(ResultLeases, AChannelIsOpenedOnceAnArenaIsMapped) {
  Attach();
  uint64_t mapped = 0;
  std::thread opening([&] {
    const absl::StatusOr<Channel> channel = Open();
    EXPECT_TRUE(channel.ok()) << channel.status();
    mapped = session_->imported_generation();
  });
  // The server has given it a number; what is left to wait for is the arena.
  Until([&] { return server_->opened_channels() == 1; });
  Offer(1);
  opening.join();
  EXPECT_EQ(mapped, 1u);
}

TEST_F(ResultLeases, AnArenaThatIsMappedIsNotWaitedFor) {
  Serve();
  EXPECT_TRUE(session_->AwaitImport().ok());
  server_->Die();
  Until([&] { return session_->gone(); });
  EXPECT_TRUE(absl::IsUnavailable(session_->AwaitImport())) << "nobody serves it any more";
}

TEST_F(ResultLeases, WithoutAnArenaAChannelIsClosedAgain) {
  Attach(absl::Seconds(2));  // all that a server may take to answer, too
  const absl::Status none = Open().status();
  EXPECT_TRUE(absl::IsUnavailable(none)) << none;
  EXPECT_THAT(std::string(none.message()), HasSubstr("within 2s"));
  EXPECT_EQ(server_->opened_channels(), 1u);
  Until([&] { return server_->closed_channels() == 1; });
}

TEST_F(ResultLeases, WhoWaitsForAnArenaHearsOfTheServersEnd) {
  Attach(absl::Hours(1));
  absl::Status status;
  std::thread opening([&] { status = Open().status(); });
  Until([&] { return server_->opened_channels() == 1; });
  server_->Die();
  opening.join();
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("has ended"));
}

TEST_F(ResultLeases, AChannelWithoutResultsOnTheDeviceWaitsForNothing) {
  Attach(absl::Hours(1));
  EXPECT_TRUE(Open(/*device_result_bytes=*/0).ok());
  EXPECT_EQ(session_->imported_generation(), 0u);
}

// ---- Answers that were not read

TEST_F(ResultLeases, WhatWaitsOrRunsIsNoUnreadAnswer) {
  Serve();
  Submit(2);
  server_->SayClosing(1, 7);
  EXPECT_TRUE(Heard("leases 7 of 1:"));
}

TEST_F(ResultLeases, AnswersCountUntilTheyAreRead) {
  Serve();
  Submit(3);
  StepWorker worker(*server_, 0, 1, model_);
  ASSERT_TRUE(worker.Step());
  ASSERT_TRUE(worker.Step());
  server_->SayClosing(1, 7);
  ASSERT_TRUE(Heard("leases 7 of 1: 1x2"));
  // One more, of those that were under way.
  ASSERT_TRUE(worker.Step());
  ASSERT_TRUE(Heard("leases 7 of 1: 1x3"));
  // They lie on the host, so that they are read when they are looked at.
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(channel_->Wait(absl::Minutes(1)).has_value());
  ASSERT_TRUE(server_->AwaitLast("leases 7 of 1:"));
}

TEST_F(ResultLeases, AnErrorCountsAsAnAnswer) {
  Serve();
  Submit(1);
  RawWorker(*server_, 0).Fail(0, 0, absl::StatusCode::kInternal);
  server_->SayClosing(1, 7);
  EXPECT_TRUE(Heard("leases 7 of 1: 1x1"));
}

// The resume record says where one generation ends and the next begins.
TEST_F(ResultLeases, AnswersOfALaterGenerationAreNotThisOnes) {
  Serve();
  Offer(2);
  ASSERT_TRUE(Heard("imported 2"));
  Submit(3);
  {
    StepWorker first(*server_, 0, 1, model_);
    ASSERT_TRUE(first.Step());
  }
  StepWorker second(*server_, 0, 2, model_);
  second.StepAll();
  server_->SayClosing(1, 7);
  ASSERT_TRUE(Heard("leases 7 of 1: 1x1"));
  server_->SayClosing(2, 8);
  ASSERT_TRUE(Heard("leases 8 of 2: 1x3")) << "nothing tells the first one's from its own";
}

TEST_F(ResultLeases, AChannelThatIsClosedReadsNoMore) {
  Serve();
  Submit(2);
  StepWorker(*server_, 0, 1, model_).StepAll();
  server_->SayClosing(1, 7);
  ASSERT_TRUE(Heard("leases 7 of 1: 1x2"));
  channel_.reset();
  EXPECT_TRUE(Heard("leases 7 of 1:"));
}

TEST_F(ResultLeases, AnswersOfAChannelWithoutResultsOnTheDeviceHoldNothing) {
  Serve(/*device_result_bytes=*/0);
  Submit(2);
  StepWorker(*server_, 0, 1, model_).StepAll();
  server_->SayClosing(1, 7);
  EXPECT_TRUE(Heard("leases 7 of 1:"));
}

}  // namespace
}  // namespace baton::test
