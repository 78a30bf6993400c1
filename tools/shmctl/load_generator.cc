#include "tools/shmctl/load_generator.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <memory>
#include <random>
#include <system_error>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

#include "tools/shmctl/channel_sizing.h"

namespace baton::shmctl {
namespace {

using Clock = std::chrono::steady_clock;

// After a failure: an error that comes at once must not become a busy loop.
constexpr absl::Duration kPauseAfterFailure = absl::Milliseconds(1);

// One thread's share.
class Caller {
 public:
  Caller(Front& front, const LoadOptions& options, Channel channel, RequestPlan plan)
      : front_(front), options_(options), channel_(std::move(channel)), plan_(plan) {}

  void Run(Clock::time_point end) {
    const CallOptions call{.timeout = options_.request_timeout};
    while (Clock::now() < end && !Stopped()) {
      if (const absl::Status status = Once(call); !status.ok()) {
        CountFailure(status);
        if (front_.state() == "GONE") {
          result_.server_ended = true;
          return;
        }
        absl::SleepFor(kPauseAfterFailure);
      }
    }
  }

  void AddTo(LoadResult* total) const {
    total->latency.Merge(result_.latency);
    total->failed += result_.failed;
    total->output_bytes = std::max(total->output_bytes, result_.output_bytes);
    total->server_ended = total->server_ended || result_.server_ended;
    for (const auto& [generation, count] : result_.generations) {
      total->generations[generation] += count;
    }
    for (const auto& [code, errors] : result_.errors) {
      LoadResult::Errors& sum = total->errors[code];
      if (sum.count == 0) sum.example = errors.example;
      sum.count += errors.count;
    }
  }

 private:
  bool Stopped() const {
    // Relaxed: nothing else is read because of it.
    return options_.stop != nullptr && options_.stop->load(std::memory_order_relaxed);
  }

  absl::Status Once(const CallOptions& call) {
    const Clock::time_point start = Clock::now();
    absl::StatusOr<Request> request = channel_.Loan(plan_);
    if (!request.ok()) return request.status();
    for (size_t i = 0; i < options_.inputs.size(); ++i) {
      const std::vector<std::byte>& bytes = options_.inputs[i].bytes;
      if (!bytes.empty()) std::memcpy(request->input_bytes(i).data(), bytes.data(), bytes.size());
    }
    const absl::StatusOr<Response> response = channel_.Call(*std::move(request), call);
    if (!response.ok()) return response.status();
    const auto took = std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - start);
    result_.latency.Add(static_cast<uint64_t>(took.count()));
    CountAnswer(*response);
    return absl::OkStatus();
  }

  void CountAnswer(const Response& response) {
    if (last_count_ == nullptr || response.generation() != last_generation_) {
      last_generation_ = response.generation();
      last_count_ = &result_.generations[last_generation_];
      result_.output_bytes = 0;
      for (const TensorView& output : response.outputs()) {
        result_.output_bytes += output.bytes.size();
      }
    }
    ++*last_count_;
  }

  void CountFailure(const absl::Status& status) {
    ++result_.failed;
    LoadResult::Errors& errors = result_.errors[status.code()];
    if (errors.count++ == 0) errors.example = std::string(status.message());
  }

  Front& front_;
  const LoadOptions& options_;
  Channel channel_;
  const RequestPlan plan_;
  LoadResult result_;
  uint64_t last_generation_ = 0;
  uint64_t* last_count_ = nullptr;
};

HostTensor MakeInput(const TensorSpec& spec, uint64_t bytes) {
  HostTensor tensor{spec, std::vector<std::byte>(bytes)};
  std::mt19937 random(20240229);
  const auto fill = [&]<typename T>(T) {
    std::uniform_real_distribution<T> uniform(0, 1);
    for (size_t at = 0; at + sizeof(T) <= bytes; at += sizeof(T)) {
      const T value = uniform(random);
      std::memcpy(tensor.bytes.data() + at, &value, sizeof(T));
    }
  };
  if (spec.dtype == DType::kFloat32) fill(float{});
  if (spec.dtype == DType::kFloat64) fill(double{});
  return tensor;
}

}  // namespace

absl::StatusOr<LoadResult> RunLoad(Front& front, const LoadOptions& options) {
  const std::vector<TensorSpec> specs = SpecsOf(options.inputs);
  std::vector<std::unique_ptr<Caller>> callers;
  for (uint32_t i = 0; i < options.concurrency; ++i) {
    absl::StatusOr<Channel> channel = front.OpenChannel(options.channel);
    if (!channel.ok()) return channel.status();
    absl::StatusOr<RequestPlan> plan = channel->Plan(specs);
    if (!plan.ok()) return plan.status();
    callers.push_back(std::make_unique<Caller>(front, options, *std::move(channel), *plan));
  }

  const Clock::time_point start = Clock::now();
  const Clock::time_point end = start + absl::ToChronoNanoseconds(options.duration);
  std::vector<std::thread> threads;
  absl::Status started;
  try {
    for (const auto& caller : callers) {
      threads.emplace_back([raw = caller.get(), end] { raw->Run(end); });
    }
  } catch (const std::system_error& error) {
    started =
        absl::ResourceExhaustedError(absl::StrCat("cannot start thread ", threads.size() + 1, ": ",
                                                  error.what(), ": ask for less --concurrency"));
  }
  for (std::thread& thread : threads) thread.join();
  if (!started.ok()) return started;

  LoadResult total;
  total.elapsed = absl::FromChrono(Clock::now() - start);
  for (const auto& caller : callers) caller->AddTo(&total);
  return total;
}

absl::StatusOr<std::vector<HostTensor>> CompleteInputs(std::vector<HostTensor> given,
                                                       const Signature& signature) {
  for (const TensorSpec& wanted : signature.inputs) {
    const bool there = std::any_of(given.begin(), given.end(), [&](const HostTensor& tensor) {
      return tensor.spec.name == wanted.name;
    });
    if (there) continue;
    TensorSpec spec = wanted;
    std::replace(spec.shape.begin(), spec.shape.end(), kDynamicDim, int64_t{1});
    const std::optional<uint64_t> bytes = TensorBytes(spec.dtype, spec.shape);
    if (!bytes) {
      return absl::InvalidArgumentError(
          absl::StrCat("cannot make up an input ", ToString(spec), ": give it with --input"));
    }
    given.push_back(MakeInput(spec, *bytes));
  }
  return given;
}

}  // namespace baton::shmctl
