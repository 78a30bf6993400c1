// The digits model, batched, through a real server: each caller gets what it would have got alone.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "tests/runtime/supervisor/control_client.h"
#include "tests/system/system_test_base.h"
#include "tools/examples/digits/heldout.h"

namespace baton::testing {
namespace {

constexpr size_t kClasses = 10;

std::string DigitsDirectory() {
  const char* source = std::getenv("BATON_SOURCE_DIR");
  return absl::StrCat(source == nullptr ? "." : source, "/loader/models/digits");
}

class BatchingSystemTest : public SystemTest {
 protected:
  // Serves the digits model with this line in its config.yaml, and these of its text replaced.
  absl::Status ServeDigits(const std::string& batching, const std::string& from = "",
                           const std::string& to = "") {
    std::ifstream file(DigitsDirectory() + "/config.yaml");
    std::string config{std::istreambuf_iterator<char>(file), {}};
    for (size_t at = 0; !from.empty() && (at = config.find(from, at)) != std::string::npos;) {
      config.replace(at, from.size(), to);
    }
    temp_.Write("model/config.yaml", absl::StrCat(config, "\n", batching, "\n"));
    std::error_code error;
    std::filesystem::copy_file(DigitsDirectory() + "/model.safetensors",
                               temp_.path() + "/model/model.safetensors",
                               std::filesystem::copy_options::overwrite_existing, error);
    options_.directory = temp_.path() + "/model";
    return StartServer();
  }
  std::vector<Channel> Open(size_t count) {
    std::vector<Channel> channels;
    for (size_t i = 0; i < count; ++i) {
      absl::StatusOr<Channel> channel = front_->OpenChannel(
          {.ring_entries = 16, .request_arena_bytes = 64 << 10, .response_arena_bytes = 1 << 20});
      EXPECT_TRUE(channel.ok()) << channel.status();
      channels.push_back(*std::move(channel));
    }
    return channels;
  }
  Request Image(Channel& channel, size_t index) {
    absl::StatusOr<Request> request = channel.NewRequest({{"pixels", DType::kFloat32, {1, 64}}});
    EXPECT_TRUE(request.ok()) << request.status();
    const auto image = heldout_.pixels.begin() + static_cast<ptrdiff_t>(index * examples::kPixels);
    std::copy_n(image, examples::kPixels, request->input<float>(0).begin());
    return *std::move(request);
  }
  size_t images() const { return heldout_.labels.size(); }
  std::pair<uint64_t, uint64_t> BatchesAndRows() {
    absl::StatusOr<ControlClient> client =
        ControlClient::Open(options_.run_directory, options_.name);
    EXPECT_TRUE(client.ok()) << client.status();
    const auto reply = client->Call([](auto envelope) { envelope.setStatus(); });
    EXPECT_TRUE(reply.ok()) << reply.status();
    const auto status = reply->envelope().getStatusReply();
    return {status.getBatches(), status.getBatchRows()};
  }

  const examples::Heldout heldout_ = *examples::ReadHeldout(DigitsDirectory());
};

TEST_F(BatchingSystemTest, EachGetsWhatItWouldHaveGotAlone) {
  ASSERT_TRUE(ServeDigits("batching: {max_batch: 32, max_delay_us: 2000}").ok());
  std::vector<Channel> channels = Open(32);
  std::vector<float> alone(images() * kClasses);
  for (size_t i = 0; i < images(); ++i) {
    const absl::StatusOr<Response> response = channels[0].Call(Image(channels[0], i));
    ASSERT_TRUE(response.ok()) << response.status();
    const std::span<const float> scores = response->output<float>("scores");
    ASSERT_EQ(scores.size(), kClasses);
    std::copy(scores.begin(), scores.end(), alone.begin() + static_cast<ptrdiff_t>(i * kClasses));
  }
  const auto [batches_before, rows_before] = BatchesAndRows();
  EXPECT_EQ(rows_before, images());

  size_t right = 0;
  for (size_t first = 0; first < images(); first += channels.size()) {
    const size_t count = std::min(channels.size(), images() - first);
    for (size_t i = 0; i < count; ++i) {
      ASSERT_TRUE(channels[i].Submit(Image(channels[i], first + i)).ok());
    }
    for (size_t i = 0; i < count; ++i) {
      const std::optional<Outcome> outcome = channels[i].Wait(absl::Minutes(1));
      ASSERT_TRUE(outcome && outcome->response.ok());
      const std::span<const float> scores = outcome->response->output<float>("scores");
      ASSERT_EQ(scores.size(), kClasses);
      // The sums are added in the same order in a batch of any size: bit by bit the same.
      const auto expected = alone.begin() + static_cast<ptrdiff_t>((first + i) * kClasses);
      EXPECT_TRUE(std::equal(scores.begin(), scores.end(), expected)) << first + i;
      const auto best = std::max_element(scores.begin(), scores.end()) - scores.begin();
      if (best == static_cast<ptrdiff_t>(heldout_.labels[first + i])) ++right;
    }
  }
  EXPECT_GE(static_cast<double>(right), 0.97 * static_cast<double>(images()));
  const auto [batches, rows] = BatchesAndRows();
  EXPECT_EQ(rows - rows_before, images());
  EXPECT_LT(batches - batches_before, images()) << "nothing was batched";
}

// A17: what a batch has begun ends with the generation that began it, and nothing fails.
TEST_F(BatchingSystemTest, ReloadsUnderLoadFailNothing) {
  ASSERT_TRUE(ServeDigits("batching: {max_batch: 8, max_delay_us: 500}").ok());
  std::vector<Channel> channels = Open(4);
  absl::StatusOr<ControlClient> client = ControlClient::Open(options_.run_directory, options_.name);
  ASSERT_TRUE(client.ok()) << client.status();
  for (int reload = 0; reload < 3; ++reload) {
    const uint64_t next = Generation() + 1;
    ControlClient::Reloaded reloaded;
    std::thread reloader([&] { reloaded = client->Reload(); });
    uint64_t generation = 0;
    for (size_t i = 0; generation < next && !HasFailure(); ++i) {
      for (Channel& channel : channels) EXPECT_TRUE(channel.Submit(Image(channel, i % 300)).ok());
      for (Channel& channel : channels) {
        const std::optional<Outcome> outcome = channel.Wait(absl::Minutes(1));
        const absl::Status status =
            outcome ? outcome->response.status() : absl::UnknownError("no outcome");
        EXPECT_TRUE(status.ok()) << status;
        if (status.ok()) generation = std::max(generation, outcome->response->generation());
      }
    }
    reloader.join();
    EXPECT_TRUE(reloaded.status.ok()) << reloaded.status;
    EXPECT_EQ(reloaded.outcome, "swapped");
    ASSERT_TRUE(WaitForGeneration(next));
  }
}

TEST_F(BatchingSystemTest, AModelWithoutRowsIsRefusedWithWhatToDo) {
  const absl::Status status = ServeDigits("batching: {max_batch: 8}", "\"?\"", "1");
  EXPECT_FALSE(status.ok());
  const std::string message(status.message());
  EXPECT_TRUE(absl::StrContains(message, "batching: requests of the method")) << message;
  EXPECT_TRUE(absl::StrContains(message, "first dimension '?'")) << message;
}

}  // namespace
}  // namespace baton::testing
