// A worker's serving loop in a test's own process.
#ifndef BATON_TESTS_RUNTIME_FRONT_LOOP_THREAD_H_
#define BATON_TESTS_RUNTIME_FRONT_LOOP_THREAD_H_

#include <algorithm>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "ipc/spin_budget.h"
#include "loader/batching_policy.h"
#include "loader/model.h"
#include "runtime/worker/command_queue.h"
#include "runtime/worker/serving_loop.h"
#include "tests/runtime/front/fake_server.h"

namespace baton::test {

// The loop on a thread of its own, told things as a supervisor would.
class LoopThread : public runtime::ServingReplies {
 public:
  // `device`: asked on the loop's thread for the device that the model is on.
  LoopThread(FakeServer& server, loader::Model& model,
             std::function<runtime::ChannelDevice()> device = nullptr,
             const loader::BatchingPolicy& batching = {})
      : server_(server) {
    commands_ = *runtime::CommandQueue::Create();
    thread_ = std::thread([this, &model, device = std::move(device), batching] {
      runtime::ServingLoop loop(
          {.generation = 1, .doorbell_fd = server_.doorbell(), .spin = ipc::SpinBudget(0)},
          server_.worker_page(), *commands_, *this);
      loop.UseBatching(batching);
      if (!loop.WaitForAdmission()) return;
      if (device) loop.UseDevice(device());
      loop.Run(model);
      loop.UseDevice({});
    });
    Say(runtime::Command::Kind::kAdmit);
  }
  ~LoopThread() override { Exit(); }

  void Add(size_t index) {
    runtime::Command command{.kind = runtime::Command::Kind::kAddChannel};
    command.server = *runtime::ChannelServer::Map(index, server_.Descriptors(index));
    commands_->Push(std::move(command));
  }
  void Say(runtime::Command::Kind kind, uint64_t call = 0, uint64_t channel = 0) {
    commands_->Push({.kind = kind, .call = call, .channel = channel});
  }
  void Exit() {
    if (!thread_.joinable()) return;
    Say(runtime::Command::Kind::kExit);
    thread_.join();
  }
  // Waits until it was said.
  void WaitFor(const std::string& what) {
    std::unique_lock lock(mutex_);
    said_new_.wait(lock, [&] { return Contains(what); });
  }
  bool HasSaid(const std::string& what) {
    const std::lock_guard lock(mutex_);
    return Contains(what);
  }

  void Held(uint64_t call) override { Note("held " + std::to_string(call)); }
  void ChannelRemoved(uint64_t, uint64_t channel) override {
    Note("removed " + std::to_string(channel));
  }
  void ChannelRefused(uint64_t, uint64_t, const absl::Status&) override { Note("refused"); }

 private:
  bool Contains(const std::string& what) const {
    return std::find(said_.begin(), said_.end(), what) != said_.end();
  }
  void Note(const std::string& what) {
    const std::lock_guard lock(mutex_);
    said_.push_back(what);
    said_new_.notify_all();
  }

  FakeServer& server_;
  std::unique_ptr<runtime::CommandQueue> commands_;
  std::mutex mutex_;
  std::condition_variable said_new_;
  std::vector<std::string> said_;
  std::thread thread_;
};

}  // namespace baton::test

#endif  // BATON_TESTS_RUNTIME_FRONT_LOOP_THREAD_H_
