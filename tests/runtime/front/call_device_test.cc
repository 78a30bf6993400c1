// Calls of a model that has several at once and works with a GPU by itself, as frameworks do: each
// call finds the device's context current on its thread. On a simulated GPU.
#include <array>
#include <atomic>
#include <barrier>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "ipc/cuda/driver.h"
#include "ipc/open_device.h"
#include "tests/runtime/front/fake_server.h"
#include "tests/runtime/front/loop_thread.h"
#include "tests/runtime/front/stream_calls.h"

namespace baton::test {
namespace {

using ipc::cuda::Driver;
using ipc::cuda::Result;
using runtime::Command;

constexpr size_t kCalls = 3;
constexpr uint64_t kSlotBytes = 4096;

// StreamModel; its `add` and the items of its `sum` copy their number to the device and back, by
// the driver's own functions, and say what those said. Requests wait for each other, so that each
// has a thread of its own.
class DriverModel final : public StreamModel {
 public:
  DriverModel() : StreamModel(kCalls) {}
  bool concurrent_calls() const override { return true; }

  absl::Status RunMethod(size_t method, loader::CallContext& call,
                         std::span<const TensorView> inputs, loader::OutputSink& outputs) override {
    together_.arrive_and_wait();
    const int64_t x = inputs[0].As<int64_t>()[0];
    if (absl::Status copied = CopyThere(x); !copied.ok()) return copied;
    return StreamModel::RunMethod(method, call, inputs, outputs);
  }
  absl::StatusOr<std::unique_ptr<loader::ModelStream>> StartStream(
      size_t method, loader::CallContext& call, std::span<const TensorView> inputs,
      loader::ItemSource& items) override {
    if (absl::Status copied = CopyThere(7); !copied.ok()) return copied;
    return StreamModel::StartStream(method, call, inputs, items);
  }

  void Use(uint64_t address) { address_ = address; }
  size_t threads() {
    const std::lock_guard lock(mutex_);
    return threads_.size();
  }

 private:
  absl::Status CopyThere(int64_t x) {
    {
      const std::lock_guard lock(mutex_);
      threads_.insert(std::this_thread::get_id());
    }
    const Driver& driver = **Driver::Get();
    const uint64_t at = address_ + kSlotBytes * (next_.fetch_add(1) % 8);
    if (const Result result = driver->MemcpyHtoD(at, &x, sizeof(x)); result != 0) {
      return absl::InternalError(absl::StrCat("to the device: ", result));
    }
    int64_t back = 0;
    if (const Result result = driver->MemcpyDtoH(&back, at, sizeof(back)); result != 0) {
      return absl::InternalError(absl::StrCat("from the device: ", result));
    }
    return back == x ? absl::OkStatus() : absl::DataLossError("other bytes came back");
  }

  std::barrier<> together_{kCalls};
  std::atomic<uint64_t> address_{0};
  std::atomic<uint64_t> next_{0};
  std::mutex mutex_;
  std::set<std::thread::id> threads_;  // guarded by mutex_
};

class CallDeviceTest : public ::testing::Test {
 protected:
  // Each thread that the device was opened on has its context: the loop's alone.
  CallDeviceTest() {
    loop_ = std::make_unique<LoopThread>(server_, model_, [this]() -> runtime::ChannelDevice {
      absl::StatusOr<std::unique_ptr<ipc::Device>> device =
          ipc::OpenDevice({.name = "cuda:0"}, /*capacity_bytes=*/64 << 20);
      EXPECT_TRUE(device.ok()) << device.status();
      device_ = *std::move(device);
      absl::StatusOr<std::unique_ptr<ipc::DeviceArena>> arena = device_->CreateArena(2 << 20, 1);
      EXPECT_TRUE(arena.ok()) << arena.status();
      arena_ = *std::move(arena);
      model_.Use(arena_->address());
      return {.device = device_.get(), .slices_address = arena_->address(), .slices_bytes = 0};
    });
    loop_->Add(0);
    loop_->Say(Command::Kind::kServe);
  }
  ~CallDeviceTest() override { loop_->Exit(); }

  FakeServer server_{StreamMethods()};
  Channel channel_ = server_.Open({.ring_entries = 16,
                                   .request_arena_bytes = 256 << 10,
                                   .response_arena_bytes = 256 << 10,
                                   .max_handles = 64});
  DriverModel model_;
  std::unique_ptr<ipc::Device> device_;
  std::unique_ptr<ipc::DeviceArena> arena_;
  std::unique_ptr<LoopThread> loop_;
};

TEST_F(CallDeviceTest, EachCallsThreadFindsTheDevicesContext) {
  for (int64_t lap = 0; lap < 10; ++lap) {
    for (size_t i = 0; i < kCalls; ++i) {
      ASSERT_TRUE(channel_.Submit(Scalars(channel_, kAdd, {{"x", lap}})).ok());
    }
    for (size_t i = 0; i < kCalls; ++i) {
      const std::optional<Outcome> outcome = channel_.Wait(kLong);
      ASSERT_TRUE(outcome);
      ASSERT_TRUE(outcome->response.ok()) << outcome->response.status();
      EXPECT_EQ(outcome->response->output<int64_t>("y")[0], lap + 1);
    }
  }
  EXPECT_GE(model_.threads(), kCalls);
}

TEST_F(CallDeviceTest, SoDoesAStreams) {
  Stream stream = OpenItems(channel_, kSum);
  ASSERT_TRUE(WriteItem(stream, 5).ok());
  EXPECT_EQ(ReadText(stream, kLong), "5");
  ASSERT_TRUE(stream.WritesDone().ok());
  EXPECT_EQ(ReadText(stream, kLong), "end");
  EXPECT_EQ(model_.threads(), 1u);
}

}  // namespace
}  // namespace baton::test
