#include "runtime/python/shared_channel.h"

#include <sys/stat.h>

#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

#include "tests/system/test_server.h"

namespace baton::python {
namespace {

class SharedChannelTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(::mkdir((temp_.path() + "/run").c_str(), 0700), 0);
    auto server =
        testing::TestServer::Start({.directory = testing::ProbeModel(temp_, {"behaviour: echo"}),
                                    .run_directory = temp_.path() + "/run"});
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    auto front = server_->Attach();
    ASSERT_TRUE(front.ok()) << front.status();
    front_ = *std::move(front);
    auto channel = front_->OpenChannel();
    ASSERT_TRUE(channel.ok()) << channel.status();
    free_bytes_ = channel->free_response_bytes();
    shared_.emplace(*std::move(channel), ChannelOptions());
  }

  // One call with `size` bytes, inside a Use of its own.
  Response Call(int64_t size) {
    const SharedChannel::Use use(*shared_);
    const int64_t key[] = {size};
    absl::StatusOr<Request> request = shared_->Loan(0, key, [size] {
      return std::vector<TensorSpec>{{.name = "data", .dtype = DType::kUInt8, .shape = {size}}};
    });
    EXPECT_TRUE(request.ok()) << request.status();
    if (!request.ok()) return {};
    absl::StatusOr<Response> response = shared_->channel().Call(*std::move(request));
    EXPECT_TRUE(response.ok()) << response.status();
    return response.ok() ? *std::move(response) : Response();
  }

  uint64_t FreeBytes() {
    const SharedChannel::Use use(*shared_);
    return shared_->channel().free_response_bytes();
  }

  testing::TempDirectory temp_;
  std::unique_ptr<testing::TestServer> server_;
  std::unique_ptr<Front> front_;
  std::optional<SharedChannel> shared_;
  uint64_t free_bytes_ = 0;
};

TEST_F(SharedChannelTest, LetsGoAtOnceWhereNobodyUsesIt) {
  Response response = Call(64);
  EXPECT_LT(FreeBytes(), free_bytes_);
  shared_->Release(std::move(response));
  EXPECT_EQ(FreeBytes(), free_bytes_);
}

TEST_F(SharedChannelTest, LetsGoAtTheEndOfTheUse) {
  Response response = Call(64);
  {
    const SharedChannel::Use use(*shared_);
    shared_->Release(std::move(response));
    EXPECT_LT(shared_->channel().free_response_bytes(), free_bytes_);
  }
  EXPECT_EQ(FreeBytes(), free_bytes_);
}

// Responses go on another thread than the one that calls, at any moment of its calls; none is
// forgotten.
TEST_F(SharedChannelTest, OtherThreadsLetGoWhileOneCalls) {
  // Responses that are out hold the channel's memory: more than this are not waiting to be let go,
  // however long the other thread is not scheduled.
  constexpr size_t kMostHanded = 8;
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<Response> handed;
  bool ended = false;
  std::thread releaser([&] {
    for (;;) {
      Response response;
      {
        std::unique_lock<std::mutex> lock(mutex);
        changed.wait(lock, [&] { return !handed.empty() || ended; });
        if (handed.empty()) return;
        response = std::move(handed.front());
        handed.pop_front();
      }
      changed.notify_all();
      shared_->Release(std::move(response));
    }
  });
  for (int i = 0; i < 2000; ++i) {
    Response response = Call(64 + i % 7);
    {
      std::unique_lock<std::mutex> lock(mutex);
      changed.wait(lock, [&] { return handed.size() < kMostHanded; });
      handed.push_back(std::move(response));
    }
    changed.notify_all();
  }
  {
    const std::lock_guard<std::mutex> lock(mutex);
    ended = true;
  }
  changed.notify_all();
  releaser.join();
  EXPECT_EQ(FreeBytes(), free_bytes_);
}

TEST_F(SharedChannelTest, TakesMoreShapesThanAChannelHasPlans) {
  for (int64_t size = 0; size < 600; ++size) {
    const Response response = Call(size);
    ASSERT_EQ(response.outputs().size(), 1);
    EXPECT_EQ(response.outputs()[0].bytes.size(), size);
  }
  for (const int64_t size : {0, 599, 3}) {
    const Response response = Call(size);
    ASSERT_EQ(response.outputs().size(), 1);
    EXPECT_EQ(response.outputs()[0].bytes.size(), size);
  }
}

TEST_F(SharedChannelTest, ARequestThatIsNotSubmittedIsLetGoOf) {
  const int64_t key[] = {8};
  Request request;
  {
    const SharedChannel::Use use(*shared_);
    auto loaned = shared_->Loan(0, key, [] {
      return std::vector<TensorSpec>{{.name = "data", .dtype = DType::kUInt8, .shape = {8}}};
    });
    ASSERT_TRUE(loaned.ok()) << loaned.status();
    request = *std::move(loaned);
  }
  shared_->Release(std::move(request));
  EXPECT_EQ(FreeBytes(), free_bytes_);
}

}  // namespace
}  // namespace baton::python
