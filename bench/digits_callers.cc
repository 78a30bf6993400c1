#include "bench/digits_callers.h"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <span>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

namespace baton::bench {
namespace {

// How many channels before its turn a channel's next answer is prefetched.
constexpr size_t kAhead = 2;

// Of an image: enough for its ten figures, and for what describes them.
constexpr uint64_t kResponseBytes = 1024;

// A channel, and the callers that share it: a bound request each.
struct Group {
  Channel channel;
  std::vector<BoundRequest> requests;    // tagged with their places here
  std::vector<uint64_t> submitted = {};  // Ticks, of each
  std::vector<BoundRequest*> again = {};

  // All of `again`, at once.
  absl::Status Submit() {
    const uint64_t now = Ticks();
    for (const BoundRequest* request : again) submitted[request->tag()] = now;
    const absl::StatusOr<size_t> accepted = channel.SubmitBatch(again);
    if (!accepted.ok()) return accepted.status();
    if (*accepted < again.size()) {
      return absl::InternalError("the ring has no room for all callers");
    }
    again.clear();
    return absl::OkStatus();
  }
};

class Callers final : public Subject {
 public:
  explicit Callers(std::vector<Group> groups)
      : groups_(std::move(groups)), outcomes_(groups_.front().requests.size()) {}

  absl::Status Run(uint64_t until, Measured& measured) override {
    const uint64_t begin = Ticks();
    services_us_.clear();
    for (Group& group : groups_) {
      for (BoundRequest& request : group.requests) group.again.push_back(&request);
      if (absl::Status status = group.Submit(); !status.ok()) return status;
    }
    uint64_t end = begin;
    do {
      for (size_t i = 0; i < groups_.size(); ++i) {
        Group& group = groups_[i];
        if (i + kAhead < groups_.size()) groups_[i + kAhead].channel.Prefetch();
        const size_t came = group.channel.Poll(outcomes_);
        if (came == 0) continue;
        const uint64_t now = Ticks();
        for (const Outcome& outcome : std::span(outcomes_).first(came)) {
          if (!outcome.response.ok()) return outcome.response.status();
          BoundRequest& request = group.requests[outcome.tag];
          measured.AddLatency(now - group.submitted[outcome.tag]);
          Note(request);
          group.again.push_back(&request);
        }
        measured.operations += came;
        if (absl::Status status = group.Submit(); !status.ok()) return status;
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

  // One answer in sixteen: looking costs.
  void Note(const BoundRequest& request) {
    if (++answers_ % 16 != 0 || services_us_.size() >= kServiceSamples) return;
    services_us_.push_back(absl::ToDoubleMicroseconds(request.service_time()));
  }
  absl::Status Drain() {
    for (Group& group : groups_) {
      const auto under_way = [](const BoundRequest& request) { return request.under_way(); };
      while (std::any_of(group.requests.begin(), group.requests.end(), under_way)) {
        const size_t came = group.channel.Poll(outcomes_);
        for (const Outcome& outcome : std::span(outcomes_).first(came)) {
          if (!outcome.response.ok()) return outcome.response.status();
        }
      }
    }
    return absl::OkStatus();
  }

  std::vector<Group> groups_;
  std::vector<Outcome> outcomes_;
  std::vector<double> services_us_;
  uint64_t answers_ = 0;
};

absl::StatusOr<Group> OpenGroup(Front& front, size_t callers) {
  ChannelOptions options;
  options.ring_entries = static_cast<uint32_t>(std::bit_ceil(std::max<size_t>(callers, 4)));
  options.request_arena_bytes = options.response_arena_bytes =
      (64 << 10) + callers * kResponseBytes;
  options.backing = ChannelOptions::Backing::kMemfd;
  options.busy_poll = true;
  absl::StatusOr<Channel> channel = front.OpenChannel(options);
  if (!channel.ok()) return channel.status();
  const TensorSpec image{.name = "pixels", .dtype = DType::kFloat32, .shape = {1, 64}};
  const absl::StatusOr<RequestPlan> plan = channel->Plan({&image, 1}, kResponseBytes);
  if (!plan.ok()) return plan.status();
  std::vector<BoundRequest> requests;
  for (size_t i = 0; i < callers; ++i) {
    absl::StatusOr<BoundRequest> request = channel->Bind(*plan);
    if (!request.ok()) return request.status();
    request->set_tag(i);
    // The image of a "1".
    const std::span<float> pixels = request->input<float>(0);
    std::fill(pixels.begin(), pixels.end(), 0.0f);
    for (size_t row = 1; row < 7; ++row) pixels[row * 8 + 3] = pixels[row * 8 + 4] = 16.0f;
    requests.push_back(*std::move(request));
  }
  return Group{.channel = *std::move(channel),
               .requests = std::move(requests),
               .submitted = std::vector<uint64_t>(callers)};
}

}  // namespace

absl::StatusOr<std::unique_ptr<DigitsCallers>> DigitsCallers::Start(const Options& options) {
  if (options.channels == 0 || options.callers < options.channels ||
      options.callers % options.channels != 0) {
    return absl::InvalidArgumentError(absl::StrCat(options.callers, " callers do not share ",
                                                   options.channels, " channels, as many each"));
  }
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
  std::vector<Group> groups;
  for (size_t i = 0; i < options_.channels; ++i) {
    absl::StatusOr<Group> group = OpenGroup(*front_, options_.callers / options_.channels);
    if (!group.ok()) return group.status();
    groups.push_back(*std::move(group));
  }
  return std::make_unique<Callers>(std::move(groups));
}

}  // namespace baton::bench
