#include "bench/digits_callers.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

namespace baton::bench {
namespace {

// A channel, and its one request.
struct Caller {
  Channel channel;
  BoundRequest request;
  uint64_t submitted = 0;  // Ticks

  absl::Status Submit() {
    submitted = Ticks();
    return channel.Submit(request).status();
  }
};

class Callers final : public Subject {
 public:
  explicit Callers(std::vector<Caller> callers) : callers_(std::move(callers)) {}

  absl::Status Run(uint64_t until, Measured& measured) override {
    const uint64_t begin = Ticks();
    services_us_.clear();
    for (Caller& caller : callers_) {
      if (absl::Status status = caller.Submit(); !status.ok()) return status;
    }
    uint64_t end = begin;
    do {
      for (Caller& caller : callers_) {
        const absl::StatusOr<bool> came = Take(caller);
        if (!came.ok()) return came.status();
        if (!*came) continue;
        measured.AddLatency(Ticks() - caller.submitted);
        Note(caller.request);
        ++measured.operations;
        if (absl::Status status = caller.Submit(); !status.ok()) return status;
      }
      end = Ticks();
    } while (end < until || measured.operations == 0);
    measured.ticks += end - begin;
    if (!services_us_.empty()) {
      const auto middle =
          services_us_.begin() + static_cast<std::ptrdiff_t>(services_us_.size() / 2);
      std::nth_element(services_us_.begin(), middle, services_us_.end());
      measured.figures["service_us"] = *middle;
    }
    return Drain();
  }

 private:
  static constexpr size_t kServiceSamples = 10'000;

  // Whether its answer was there.
  static absl::StatusOr<bool> Take(Caller& caller) {
    const std::optional<Outcome> outcome = caller.channel.Poll();
    if (!outcome) return false;
    if (!outcome->response.ok()) return outcome->response.status();
    return true;
  }
  // One answer in sixteen: looking costs.
  void Note(const BoundRequest& request) {
    if (++answers_ % 16 != 0 || services_us_.size() >= kServiceSamples) return;
    services_us_.push_back(absl::ToDoubleMicroseconds(request.service_time()));
  }
  absl::Status Drain() {
    for (Caller& caller : callers_) {
      while (caller.request.under_way()) {
        if (const absl::StatusOr<bool> came = Take(caller); !came.ok()) return came.status();
      }
    }
    return absl::OkStatus();
  }

  std::vector<Caller> callers_;
  std::vector<double> services_us_;
  uint64_t answers_ = 0;
};

absl::StatusOr<Caller> OpenCaller(Front& front) {
  ChannelOptions options;
  options.ring_entries = 4;
  options.request_arena_bytes = options.response_arena_bytes = 64 << 10;
  options.backing = ChannelOptions::Backing::kMemfd;
  options.busy_poll = true;
  absl::StatusOr<Channel> channel = front.OpenChannel(options);
  if (!channel.ok()) return channel.status();
  const TensorSpec image{.name = "pixels", .dtype = DType::kFloat32, .shape = {1, 64}};
  const absl::StatusOr<RequestPlan> plan = channel->Plan({&image, 1});
  if (!plan.ok()) return plan.status();
  absl::StatusOr<BoundRequest> request = channel->Bind(*plan);
  if (!request.ok()) return request.status();
  // The image of a "1".
  const std::span<float> pixels = request->input<float>(0);
  std::fill(pixels.begin(), pixels.end(), 0.0f);
  for (size_t row = 1; row < 7; ++row) pixels[row * 8 + 3] = pixels[row * 8 + 4] = 16.0f;
  return Caller{.channel = *std::move(channel), .request = *std::move(request)};
}

}  // namespace

absl::StatusOr<std::unique_ptr<DigitsCallers>> DigitsCallers::Start(const Options& options) {
  std::unique_ptr<DigitsCallers> callers(new DigitsCallers());
  callers->options_ = options;
  std::string directory = std::filesystem::temp_directory_path() / "baton-bench-XXXXXX";
  if (::mkdtemp(directory.data()) == nullptr) {
    return absl::InternalError("cannot make a temporary directory for the digits model");
  }
  callers->directory_ = directory;
  std::ofstream config(directory + "/config.yaml");
  config << std::ifstream(BATON_MODELS "/digits/config.yaml").rdbuf()
         << "\nworker: {cpu: " << options.worker_cpu << "}\n";
  if (options.max_batch > 1) {
    config << "batching: {max_batch: " << options.max_batch
           << ", max_delay_us: " << options.max_delay_us << "}\n";
  }
  config.close();
  std::error_code error;
  std::filesystem::copy_file(BATON_MODELS "/digits/model.safetensors",
                             directory + "/model.safetensors", error);
  if (error) return absl::InternalError(absl::StrCat("the digits model: ", error.message()));
  LaunchOptions launch;
  launch.directory = directory;
  absl::StatusOr<std::unique_ptr<Front>> front = Front::Launch(launch);
  if (!front.ok()) return front.status();
  callers->front_ = *std::move(front);
  return callers;
}

DigitsCallers::~DigitsCallers() {
  front_.reset();
  std::error_code ignored;
  if (!directory_.empty()) std::filesystem::remove_all(directory_, ignored);
}

absl::StatusOr<std::unique_ptr<Subject>> DigitsCallers::MakeSubject() {
  std::vector<Caller> callers;
  for (size_t i = 0; i < options_.callers; ++i) {
    absl::StatusOr<Caller> caller = OpenCaller(*front_);
    if (!caller.ok()) return caller.status();
    callers.push_back(*std::move(caller));
  }
  return std::make_unique<Callers>(std::move(callers));
}

}  // namespace baton::bench
