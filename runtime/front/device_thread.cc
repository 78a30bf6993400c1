#include "runtime/front/device_thread.h"

#include <pthread.h>

#include <condition_variable>
#include <csignal>
#include <deque>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

namespace baton::internal {

// Outlives the DeviceThread where its thread hangs.
struct DeviceThread::Shared {
  struct Task {
    Job job;
    Job done;
  };
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<Task> waiting;
  std::vector<Job> done;
  std::function<void()> on_done;
  bool started = false;
  bool ending = false;  // no more jobs come
  bool left = false;    // nobody waits for it any more
  bool discard = false;
  bool busy = false;
  bool ended = false;  // the thread has nothing more to do
};

namespace {

// What may not be destroyed, for good. Reachable, so that no leak checker minds.
template <typename T>
void KeepForever(T what) {
  static auto& mutex = *new std::mutex;
  static auto& kept = *new std::vector<T>;
  const std::lock_guard lock(mutex);
  kept.push_back(std::move(what));
}

}  // namespace

DeviceThread::DeviceThread(std::function<void()> on_done) : shared_(std::make_shared<Shared>()) {
  shared_->on_done = std::move(on_done);
}

DeviceThread::~DeviceThread() {
  if (abandoned_) {
    KeepForever(shared_);  // its mutex may be locked for ever
    return;
  }
  std::deque<Shared::Task> dropped;
  std::unique_lock lock(shared_->mutex);
  shared_->ending = true;
  shared_->changed.notify_all();
  if (shared_->started) {
    shared_->changed.wait_for(lock, absl::ToChronoNanoseconds(kPatience),
                              [this] { return shared_->ended; });
  }
  shared_->left = true;
  shared_->on_done = nullptr;
  dropped.swap(shared_->waiting);
  // What they hold may itself be device memory, whose closing would hang here: it is left with the
  // process.
  for (Shared::Task& task : dropped) {
    KeepForever(std::move(task.job));
    KeepForever(std::move(task.done));
  }
}

void DeviceThread::Loop(const std::shared_ptr<Shared>& shared) {
  std::unique_lock lock(shared->mutex);
  for (;;) {
    shared->changed.wait(lock, [&] { return !shared->waiting.empty() || shared->ending; });
    if (shared->waiting.empty()) break;
    Shared::Task task = std::move(shared->waiting.front());
    shared->waiting.pop_front();
    shared->busy = true;
    lock.unlock();
    task.job();
    task.job = nullptr;  // what it held goes before it is called done
    lock.lock();
    shared->busy = false;
    shared->changed.notify_all();
    if (shared->left) break;
    if (shared->discard) {
      lock.unlock();
      task.done = nullptr;  // what it holds may be device memory
      lock.lock();
      continue;
    }
    shared->done.push_back(std::move(task.done));
    if (shared->on_done) shared->on_done();
  }
  shared->ended = true;
  shared->changed.notify_all();
}

void DeviceThread::Run(Job job, Job done) {
  {
    const std::lock_guard lock(shared_->mutex);
    shared_->waiting.push_back({std::move(job), std::move(done)});
    shared_->changed.notify_all();
    if (std::exchange(shared_->started, true)) return;
  }
  // The service's signals are its own business: none is handled on our thread.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  bool running = true;
  try {
    std::thread([shared = shared_] {
      ::pthread_setname_np(::pthread_self(), "baton-device");
      Loop(shared);
    }).detach();
  } catch (const std::system_error&) {
    running = false;
  }
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (running) return;
  Shared::Task task;
  {
    const std::lock_guard lock(shared_->mutex);
    shared_->started = false;
    task = std::move(shared_->waiting.front());
    shared_->waiting.pop_front();
  }
  task.job();
  const std::lock_guard lock(shared_->mutex);
  shared_->done.push_back(std::move(task.done));
  if (shared_->on_done) shared_->on_done();
}

bool DeviceThread::AwaitIdle() {
  std::unique_lock lock(shared_->mutex);
  return shared_->changed.wait_for(lock, absl::ToChronoNanoseconds(kPatience), [this] {
    return !shared_->started || (shared_->waiting.empty() && !shared_->busy);
  });
}

void DeviceThread::Discard() {
  std::vector<Job> dropped;
  {
    const std::lock_guard lock(shared_->mutex);
    shared_->discard = true;
    dropped = std::exchange(shared_->done, {});
  }
  if (dropped.empty()) return;
  auto held = std::make_shared<std::vector<Job>>(std::move(dropped));
  Run([held] { held->clear(); }, [] {});
}

std::vector<DeviceThread::Job> DeviceThread::TakeDone() {
  const std::lock_guard lock(shared_->mutex);
  return std::exchange(shared_->done, {});
}

}  // namespace baton::internal
