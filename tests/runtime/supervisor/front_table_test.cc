// The table of fronts with an owner that only writes down what it is told.
#include "runtime/supervisor/front_table.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "ipc/eventfd.h"
#include "ipc/segment.h"
#include "tests/runtime/supervisor/control_client.h"

namespace baton::runtime {
namespace {

using ::baton::testing::ControlClient;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Role = ControlClient::Role;

class FrontTableTest : public ::testing::Test, public FrontTable::Owner {
 protected:
  // Serves on a thread of its own, as a supervisor would.
  void Start(FrontLimits limits) {
    std::string name = (std::filesystem::temp_directory_path() / "baton-fronts-XXXXXX").native();
    directory_ = ::mkdtemp(name.data());
    std::filesystem::create_directory(directory_ + "/test");
    auto listener = ipc::ControlListener::Listen(directory_ + "/test/control.sock");
    ASSERT_TRUE(listener.ok()) << listener.status();
    listener_ = *std::move(listener);
    loop_ = *EventLoop::Create();
    stop_ = *ipc::CreateEventFd();
    table_ = std::make_unique<FrontTable>(*loop_, *this, MakeServerLog("test"), limits);
    ASSERT_TRUE(
        loop_->Watch(listener_.fd(), [this] { table_->Accept(listener_).IgnoreError(); }).ok());
    ASSERT_TRUE(loop_->Watch(stop_.get(), [this] { stopped_ = true; }).ok());
    thread_ = std::thread([this] {
      while (!stopped_) ASSERT_TRUE(loop_->RunOnce(0).ok());
    });
  }
  // Ends the thread; the table may be looked at after that.
  void Stop() {
    if (!thread_.joinable()) return;
    ipc::SignalEventFd(stop_.get());
    thread_.join();
  }
  ~FrontTableTest() override {
    Stop();
    table_.reset();
    std::filesystem::remove_all(directory_);
  }

  absl::StatusOr<ControlClient> Open(Role role) {
    return ControlClient::Open(directory_, "test", role);
  }
  static absl::Status OpenChannel(ControlClient& front, const ipc::SegmentHandles& segment,
                                  uint64_t bytes, int event = -1) {
    std::vector<int> fds = {segment.read_only.get(), segment.read_write.get()};
    if (event >= 0) fds.push_back(event);
    return front
        .Call(
            [&](auto to) {
              auto channel = to.initOpenChannel();
              channel.setRingEntries(8);
              channel.setSubmissionBytes(bytes);
              channel.setCompletionBytes(bytes);
              channel.setHasEvent(event >= 0);
            },
            fds)
        .status();
  }

  std::vector<uint64_t> opened_, closed_;
  std::unique_ptr<FrontTable> table_;

 private:
  void OnHello(FrontTable::SessionId session, uint64_t call, bool) override {
    capnp::MallocMessageBuilder message;
    auto envelope = message.initRoot<ipc::schema::Envelope>();
    envelope.setCall(call);
    envelope.initWelcome();
    table_->Reply(session, message);
  }
  void OnStatusAsked(FrontTable::SessionId, uint64_t) override {}
  void OnReloadAsked(FrontTable::SessionId, uint64_t, const std::string&, bool) override {}
  void OnPlanAsked(FrontTable::SessionId, uint64_t) override {}
  void OnStopAsked(FrontTable::SessionId, uint64_t) override {}
  void OnChannelOpened(const ChannelRecord& channel) override {
    opened_.push_back(channel.channel);
    table_->ChannelUsable(channel.channel);
  }
  void OnChannelClosed(uint64_t channel) override { closed_.push_back(channel); }
  uint64_t DeviceResultsBytes() const override { return 0; }
  void OnArenaMapped() override {}
  void OnImportsChanged() override {}
  void OnLeasesChanged() override {}

  std::string directory_;
  ipc::ControlListener listener_;
  std::unique_ptr<EventLoop> loop_;
  ipc::UniqueFd stop_;
  bool stopped_ = false;
  std::thread thread_;
};

TEST_F(FrontTableTest, SessionsAreLimited) {
  Start({.max_sessions = 2});
  auto one = Open(Role::CLIENT);
  auto two = Open(Role::FRONT);
  ASSERT_TRUE(one.ok() && two.ok());
  EXPECT_FALSE(Open(Role::CLIENT).ok());
}

TEST_F(FrontTableTest, R10_ChannelsAreLimitedAndGoWithTheirFront) {
  Start({.max_channels = 3, .max_channels_per_session = 2, .max_segment_bytes = 8192});
  auto segment = ipc::CreateSegment({.bytes = 16384, .backing = ipc::SegmentBacking::kMemfd});
  ASSERT_TRUE(segment.ok()) << segment.status();
  auto second = Open(Role::FRONT);
  {
    auto first = Open(Role::FRONT);
    ASSERT_TRUE(first.ok() && second.ok());
    EXPECT_EQ(OpenChannel(*first, *segment, 16384).code(), absl::StatusCode::kInvalidArgument);
    EXPECT_TRUE(OpenChannel(*first, *segment, 8192).ok());
    EXPECT_TRUE(OpenChannel(*first, *segment, 8192).ok());
    EXPECT_EQ(OpenChannel(*first, *segment, 8192).code(), absl::StatusCode::kResourceExhausted);
    EXPECT_TRUE(OpenChannel(*second, *segment, 8192).ok());
    const absl::Status full = OpenChannel(*second, *segment, 8192);
    EXPECT_EQ(full.code(), absl::StatusCode::kResourceExhausted);
    EXPECT_THAT(std::string(full.message()), HasSubstr("3 in all"));
    // Another front's channel is not one's own to close.
    EXPECT_EQ(second->Call([](auto to) { to.initCloseChannel().setChannel(1); }).status().code(),
              absl::StatusCode::kNotFound);
  }
  // The first front's channels went with it: there is room again.
  while (!OpenChannel(*second, *segment, 8192).ok()) std::this_thread::yield();
  Stop();
  EXPECT_THAT(opened_, ElementsAre(1, 2, 3, 4));
  EXPECT_THAT(closed_, ElementsAre(1, 2));
  EXPECT_EQ(table_->channels().size(), 2);
}

TEST_F(FrontTableTest, AClientOpensNoChannel) {
  Start({});
  auto client = Open(Role::CLIENT);
  ASSERT_TRUE(client.ok());
  auto segment = ipc::CreateSegment({.bytes = 8192, .backing = ipc::SegmentBacking::kMemfd});
  ASSERT_TRUE(segment.ok()) << segment.status();
  EXPECT_EQ(OpenChannel(*client, *segment, 8192).code(), absl::StatusCode::kUnavailable);
  Stop();
  EXPECT_THAT(opened_, IsEmpty());
}

TEST_F(FrontTableTest, R7_AnEventMustBeAnEventfdThatDoesNotBlock) {
  Start({});
  auto front = Open(Role::FRONT);
  ASSERT_TRUE(front.ok());
  auto segment = ipc::CreateSegment({.bytes = 8192, .backing = ipc::SegmentBacking::kMemfd});
  ASSERT_TRUE(segment.ok()) << segment.status();
  const ipc::UniqueFd blocking(::eventfd(0, EFD_CLOEXEC));
  int pipe[2];
  ASSERT_EQ(::pipe2(pipe, O_CLOEXEC | O_NONBLOCK), 0);
  EXPECT_EQ(OpenChannel(*front, *segment, 8192, blocking.get()).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(OpenChannel(*front, *segment, 8192, pipe[1]).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(OpenChannel(*front, *segment, 8192, ipc::CreateEventFd()->get()).ok());
  ::close(pipe[0]);
  ::close(pipe[1]);
}

TEST_F(FrontTableTest, ARefusedChannelGoesAloneWhereItsFrontSeesIt) {
  Start({});
  auto front = Open(Role::FRONT);
  ASSERT_TRUE(front.ok());
  auto segment = ipc::CreateSegment({.bytes = 8192, .backing = ipc::SegmentBacking::kMemfd});
  ASSERT_TRUE(segment.ok()) << segment.status();
  ASSERT_TRUE(OpenChannel(*front, *segment, 8192).ok());
  ASSERT_TRUE(OpenChannel(*front, *segment, 8192).ok());
  Stop();
  table_->ChannelRefused(1, absl::DataLossError("broken"), /*end_front=*/false);
  EXPECT_THAT(closed_, ElementsAre(1));
  EXPECT_EQ(table_->fronts(), 1);
  table_->ChannelRefused(2, absl::DataLossError("broken"), /*end_front=*/true);
  EXPECT_EQ(table_->fronts(), 0);
}

// Lowers the limit so far that what comes next is from the reserve.
TEST_F(FrontTableTest, R10_ChannelsLeaveDescriptorsFree) {
  Start({});
  auto front = Open(Role::FRONT);
  ASSERT_TRUE(front.ok());
  auto segment = ipc::CreateSegment({.bytes = 8192, .backing = ipc::SegmentBacking::kMemfd});
  ASSERT_TRUE(segment.ok()) << segment.status();
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  rlimit few = before;
  few.rlim_cur = 64;
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &few), 0);
  const absl::Status refused = OpenChannel(*front, *segment, 8192);
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted) << refused;
  EXPECT_TRUE(OpenChannel(*front, *segment, 8192).ok());  // and the session still works
}

}  // namespace
}  // namespace baton::runtime
