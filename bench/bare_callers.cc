#include "bench/bare_callers.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <thread>
#include <vector>

#include "bench/ping_pong.h"
#include "ipc/spin_budget.h"
#include "kernels/dense.h"

namespace baton::bench {
namespace {

constexpr size_t kPixels = 64;
constexpr size_t kHidden = 64;
constexpr size_t kScores = 10;

// The flags are counters: of what was asked, and of what was answered.
struct Caller {
  alignas(64) std::atomic<uint64_t> asked{0};
  alignas(64) std::atomic<uint64_t> answered{0};
  std::array<float, kScores> scores{};  // in the line of the flag that says so
  alignas(64) std::array<float, kPixels> pixels{};
};

// The digits model's: 64 to 64 by relu, 64 to 10 by softmax.
class Layers {
 public:
  explicit Layers(size_t max_rows)
      : first_(kPixels * kernels::PaddedColumns(kHidden), 0.01f),
        second_(kHidden * kernels::PaddedColumns(kScores), 0.01f),
        bias_(kernels::PaddedColumns(kHidden), 0.1f),
        hidden_(max_rows * kHidden) {}

  void Run(const float* images, size_t rows, float* scores) {
    kernels::MatMulBias({.input = images,
                         .weights = first_.data(),
                         .bias = bias_.data(),
                         .output = hidden_.data(),
                         .rows = rows,
                         .inputs = kPixels,
                         .outputs = kHidden});
    kernels::Relu(std::span(hidden_).first(rows * kHidden));
    kernels::MatMulBias({.input = hidden_.data(),
                         .weights = second_.data(),
                         .bias = bias_.data(),
                         .output = scores,
                         .rows = rows,
                         .inputs = kHidden,
                         .outputs = kScores});
    kernels::SoftmaxRows({scores, rows * kScores}, kScores);
  }

 private:
  const std::vector<float> first_;
  const std::vector<float> second_;
  const std::vector<float> bias_;
  std::vector<float> hidden_;
};

class BareCallers final : public Subject {
 public:
  BareCallers(size_t callers, size_t max_batch, int worker_cpu)
      : callers_(callers), submitted_(callers), asked_(callers), max_batch_(max_batch) {
    for (Caller& caller : callers_) caller.pixels.fill(8.0f);
    service_ticks_.reserve(kServiceSamples);
    worker_ = std::thread([this, worker_cpu] {
      PinThisThread(worker_cpu);
      Work();
    });
  }
  ~BareCallers() override {
    state_.store(kEnded, std::memory_order_release);
    state_.notify_all();
    worker_.join();
  }

  absl::Status Begin() override {
    state_.store(kRunning, std::memory_order_release);
    state_.notify_all();
    return absl::OkStatus();
  }
  absl::Status End() override {
    state_.store(kPaused, std::memory_order_release);
    return absl::OkStatus();
  }

  absl::Status Run(uint64_t until, Measured& measured) override {
    const uint64_t begin = Ticks();
    for (size_t i = 0; i < callers_.size(); ++i) Ask(i, begin);
    uint64_t end = 0;
    do {
      for (size_t i = 0; i < callers_.size(); ++i) {
        if (!Answered(i)) continue;
        const uint64_t now = Ticks();
        measured.AddLatency(now - submitted_[i]);
        ++measured.operations;
        Ask(i, now);
      }
      end = Ticks();
    } while (end < until || measured.operations == 0);
    measured.ticks += end - begin;
    for (size_t i = 0; i < callers_.size(); ++i) {
      while (!Answered(i)) ipc::SpinPause();
    }
    // All is answered: the other thread writes no more.
    if (!service_ticks_.empty()) {
      const auto middle =
          service_ticks_.begin() + static_cast<std::ptrdiff_t>(service_ticks_.size() / 2);
      std::nth_element(service_ticks_.begin(), middle, service_ticks_.end());
      measured.figures["service_us"] = static_cast<double>(*middle) * NsPerTick() * 1e-3;
      service_ticks_.clear();
    }
    return absl::OkStatus();
  }

 private:
  enum State : uint32_t { kPaused, kRunning, kEnded };
  static constexpr size_t kServiceSamples = 10'000;

  void Ask(size_t i, uint64_t now) {
    submitted_[i] = now;
    callers_[i].asked.store(++asked_[i], std::memory_order_release);
  }
  bool Answered(size_t i) const {
    return callers_[i].answered.load(std::memory_order_acquire) == asked_[i];
  }

  void Work() {
    Layers layers(max_batch_);
    std::vector<uint64_t> seen(callers_.size());
    std::vector<float> images(max_batch_ * kPixels);
    std::vector<float> scores(max_batch_ * kScores);
    std::vector<size_t> members;
    members.reserve(max_batch_);
    size_t next = 0;
    for (;;) {
      const uint32_t state = state_.load(std::memory_order_acquire);
      if (state == kEnded) return;
      if (state == kPaused) {
        state_.wait(kPaused, std::memory_order_acquire);
        continue;
      }
      members.clear();
      size_t quiet = 0;  // callers in a row that did not ask
      while (quiet < callers_.size() && members.size() < max_batch_) {
        Caller& caller = callers_[next];
        ++quiet;
        const uint64_t asked = caller.asked.load(std::memory_order_acquire);
        if (asked != seen[next]) {
          seen[next] = asked;
          std::memcpy(&images[members.size() * kPixels], &caller.pixels, sizeof(caller.pixels));
          members.push_back(next);
          quiet = 0;
        }
        next = next + 1 < callers_.size() ? next + 1 : 0;
      }
      if (members.empty()) continue;
      const uint64_t begun = Ticks();
      layers.Run(images.data(), members.size(), scores.data());
      if (service_ticks_.size() < kServiceSamples) service_ticks_.push_back(Ticks() - begun);
      for (size_t i = 0; i < members.size(); ++i) {
        Caller& caller = callers_[members[i]];
        std::memcpy(&caller.scores, &scores[i * kScores], sizeof(caller.scores));
        caller.answered.store(seen[members[i]], std::memory_order_release);
      }
    }
  }

  std::vector<Caller> callers_;
  std::vector<uint64_t> submitted_;  // Ticks
  std::vector<uint64_t> asked_;
  const size_t max_batch_;
  std::atomic<uint32_t> state_{kPaused};
  std::vector<uint64_t> service_ticks_;  // of calls, the first kServiceSamples of a slice
  std::thread worker_;
};

}  // namespace

std::unique_ptr<Subject> StartBareCallers(size_t callers, size_t max_batch, int worker_cpu) {
  return std::make_unique<BareCallers>(callers, max_batch, worker_cpu);
}

}  // namespace baton::bench
