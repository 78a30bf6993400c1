#include "runtime/worker/call_threads.h"

#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"

#include "ipc/worker_sleep.h"

namespace baton::runtime {

CallThread::~CallThread() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  handed_.notify_one();
  thread_.join();
}

absl::Status CallThread::Begin() {
  try {
    thread_ = std::thread([this] { Loop(); });
    return absl::OkStatus();
  } catch (const std::system_error& error) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the call was not started, the worker has no thread for it (", error.what(),
                     "): send it again, allow more threads, or have fewer calls at once"));
  }
}

void CallThread::Loop() {
  if (owner_.options_.prepare) owner_.options_.prepare();
  while (AwaitTurn()) {
    if (!owner_.concurrent()) model_turn_ = std::unique_lock(owner_.model_);
    piece_();
    piece_ = nullptr;
    model_turn_ = {};
    Return();
  }
}

void CallThread::Run(absl::AnyInvocable<void()> piece) {
  piece_ = std::move(piece);
  Hand();
}

void CallThread::Answer() {
  asks_ = false;
  Hand();
}

void CallThread::Ask() {
  const bool had_model = model_turn_.owns_lock();
  if (had_model) model_turn_.unlock();
  asks_ = true;
  Return();
  // Nothing ends a thread that has a call.
  static_cast<void>(AwaitTurn());
  if (had_model) model_turn_.lock();
}

void CallThread::Hand() {
  // Relaxed: for the serving thread itself, until the call stores it again.
  away_.store(true, std::memory_order_relaxed);
  {
    // SYNC: call_handed
    const std::lock_guard lock(mutex_);
    turn_ = true;
  }
  handed_.notify_one();
}

bool CallThread::AwaitTurn() {
  std::unique_lock lock(mutex_);
  handed_.wait(lock, [this] { return turn_ || stop_; });
  // SYNC: call_handed
  return std::exchange(turn_, false);
}

void CallThread::Return() {
  // SYNC: call_returned
  away_.store(false, std::memory_order_release);
  ipc::WakeWorkerIfSleeping(*owner_.options_.sleeping, owner_.options_.wake_fd);
}

CallThreads::~CallThreads() { threads_.clear(); }

absl::StatusOr<CallThread*> CallThreads::Take() {
  if (free_.empty()) {
    auto thread = std::make_unique<CallThread>(*this);
    if (absl::Status begun = thread->Begin(); !begun.ok()) return begun;
    free_.push_back(thread.get());
    threads_.push_back(std::move(thread));
  }
  CallThread* const thread = free_.back();
  free_.pop_back();
  ++taken_;
  return thread;
}

void CallThreads::GiveBack(CallThread& thread) {
  --taken_;
  free_.push_back(&thread);
}

}  // namespace baton::runtime
