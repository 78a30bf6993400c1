// SIGKILL of a worker in the middle of a batch: every request of it has exactly one outcome, the
// blocks come back, and the next generation serves.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "tests/system/system_test_base.h"

namespace baton::testing {
namespace {

constexpr size_t kRequests = 8;

// Where it dies, and how many of eight requests of one batch are then answered by it, fail as
// started, and are served by the next.
struct Death {
  const char* point;
  size_t answered;
  size_t started;
};

class BatchKillTest : public SystemTest, public ::testing::WithParamInterface<Death> {
 protected:
  // The first generation dies at `point`.
  void ServeDigits(const std::string& point) {
    const char* source = std::getenv("BATON_SOURCE_DIR");
    const std::string digits =
        absl::StrCat(source == nullptr ? "." : source, "/loader/models/digits");
    std::ifstream file(digits + "/config.yaml");
    const std::string config{std::istreambuf_iterator<char>(file), {}};
    temp_.Write("model/config.yaml", absl::StrCat(config, "\nbatching: {max_batch: ", kRequests,
                                                  ", max_delay_us: 100000}\n"));
    std::filesystem::copy_file(digits + "/model.safetensors",
                               temp_.path() + "/model/model.safetensors");
    options_.directory = temp_.path() + "/model";
    const size_t pass = std::min(point.find(':'), point.size());
    options_.env["BATON_CRASH_AT"] = absl::StrCat(point.substr(0, pass), "@1", point.substr(pass));
    const absl::Status started = StartServer();
    ASSERT_TRUE(started.ok()) << started;
  }
  Channel Open() {
    absl::StatusOr<Channel> channel = front_->OpenChannel({.ring_entries = 16});
    EXPECT_TRUE(channel.ok()) << channel.status();
    return *std::move(channel);
  }
  static Request Image(Channel& channel) {
    absl::StatusOr<Request> request = channel.NewRequest({{"pixels", DType::kFloat32, {1, 64}}});
    EXPECT_TRUE(request.ok()) << request.status();
    for (float& pixel : request->input<float>(0)) pixel = 1;
    return *std::move(request);
  }
  // Without a deadline: a batch would not wait with one before any was timed.
  static CallOptions Whenever() { return {.timeout = absl::InfiniteDuration()}; }

  struct Tally {
    size_t first = 0;  // answered by the first generation
    size_t next = 0;
    size_t aborted = 0;
    std::string other = {};
  };
  static void Count(Channel& channel, Tally& tally) {
    const std::optional<Outcome> outcome = channel.Wait(absl::Minutes(2));
    if (!outcome) {
      tally.other = "no outcome";
    } else if (outcome->response.ok()) {
      ++(outcome->response->generation() == 1 ? tally.first : tally.next);
    } else if (absl::IsAborted(outcome->response.status())) {
      ++tally.aborted;
    } else {
      tally.other = outcome->response.status().ToString();
    }
  }
};

// All in one channel's ring at once, so that one batch takes them.
TEST_P(BatchKillTest, EachRequestHasOneOutcome) {
#ifndef BATON_CRASH_POINTS
  GTEST_SKIP() << "built without BATON_CRASH_POINTS";
#else
  ServeDigits(GetParam().point);
  Channel channel = Open();
  const uint64_t request_bytes = channel.free_request_bytes();
  const uint64_t response_bytes = channel.free_response_bytes();
  std::vector<Request> requests;
  for (size_t i = 0; i < kRequests; ++i) requests.push_back(Image(channel));
  const absl::StatusOr<size_t> submitted = channel.SubmitBatch(requests, Whenever());
  ASSERT_TRUE(submitted.ok()) << submitted.status();
  ASSERT_EQ(*submitted, kRequests);
  Tally tally;
  for (size_t i = 0; i < kRequests; ++i) Count(channel, tally);
  EXPECT_EQ(tally.other, "");
  EXPECT_EQ(tally.first, GetParam().answered);
  EXPECT_EQ(tally.aborted, GetParam().started);
  EXPECT_EQ(tally.next, kRequests - GetParam().answered - GetParam().started);
  EXPECT_FALSE(channel.Poll().has_value()) << "a second outcome";
  EXPECT_EQ(channel.outstanding(), 0u);

  {
    const absl::StatusOr<Response> response = channel.Call(Image(channel), Whenever());
    ASSERT_TRUE(response.ok()) << response.status();
    EXPECT_EQ(response->generation(), 2u);
  }
  EXPECT_EQ(channel.free_request_bytes(), request_bytes);
  EXPECT_EQ(channel.free_response_bytes(), response_bytes);
#endif
}

// Of several fronts' channels, gathered while they come.
TEST_P(BatchKillTest, SoHasEachOfSeveralChannels) {
#ifndef BATON_CRASH_POINTS
  GTEST_SKIP() << "built without BATON_CRASH_POINTS";
#else
  ServeDigits(GetParam().point);
  std::vector<Channel> channels;
  for (size_t i = 0; i < kRequests; ++i) channels.push_back(Open());
  const uint64_t request_bytes = channels[0].free_request_bytes();
  const uint64_t response_bytes = channels[0].free_response_bytes();
  // The point may be passed only by a batch of several: until it has been.
  Tally tally;
  size_t submitted = 0;
  while (tally.next == 0) {
    for (Channel& channel : channels) {
      ASSERT_TRUE(channel.Submit(Image(channel), Whenever()).ok());
      ++submitted;
    }
    for (Channel& channel : channels) Count(channel, tally);
    ASSERT_EQ(tally.other, "");
  }
  EXPECT_EQ(tally.first + tally.next + tally.aborted, submitted);
  EXPECT_LE(tally.aborted, kRequests);
  for (Channel& channel : channels) {
    EXPECT_FALSE(channel.Poll().has_value());
    EXPECT_EQ(channel.free_request_bytes(), request_bytes);
    EXPECT_EQ(channel.free_response_bytes(), response_bytes);
  }
#endif
}

// Some are given up while they wait in a batch that is not full, so that it is run when its time
// has come: the worker dies when it has answered the first of those.
class BatchKillAmongCancelledTest : public BatchKillTest {};

TEST_P(BatchKillAmongCancelledTest, TheOthersHaveOneOutcomeEach) {
#ifndef BATON_CRASH_POINTS
  GTEST_SKIP() << "built without BATON_CRASH_POINTS";
#else
  ServeDigits(GetParam().point);
  Channel channel = Open();
  std::vector<Ticket> tickets;
  for (size_t i = 0; i + 1 < kRequests; ++i) {
    const absl::StatusOr<Ticket> ticket = channel.Submit(Image(channel), Whenever());
    ASSERT_TRUE(ticket.ok()) << ticket.status();
    tickets.push_back(*ticket);
  }
  for (const size_t i : {1, 4}) EXPECT_TRUE(channel.Cancel(tickets[i]).ok());
  const size_t others = tickets.size() - 2;
  Tally tally;
  for (size_t i = 0; i < others; ++i) Count(channel, tally);
  EXPECT_EQ(tally.other, "");
  // What it answers first is one that was given up; unless the batch was run before that.
  EXPECT_LE(tally.first, 1u);
  EXPECT_EQ(tally.first + tally.aborted + tally.next, others);
  const absl::StatusOr<Response> response = channel.Call(Image(channel), Whenever());
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_EQ(response->generation(), 2u);
  EXPECT_FALSE(channel.Poll().has_value()) << "a second outcome";
  EXPECT_EQ(channel.outstanding(), 0u);
#endif
}

INSTANTIATE_TEST_SUITE_P(First, BatchKillAmongCancelledTest,
                         ::testing::Values(Death{"worker.completion_published", 0, 0}));

INSTANTIATE_TEST_SUITE_P(AtEachStore, BatchKillTest,
                         ::testing::Values(Death{"worker.entry_read:3", 0, 2},
                                           Death{"worker.taken_published:3", 0, 3},
                                           Death{"worker.batch_gathered", 0, kRequests},
                                           Death{"worker.batch_run", 0, kRequests},
                                           Death{"worker.answer_written:4", 3, 5},
                                           Death{"worker.completion_filled:4", 3, 5},
                                           Death{"worker.completion_published:3", 3, 5},
                                           Death{"worker.batch_answered:3", 3, 5},
                                           Death{"worker.batch_answered:8", 8, 0}),
                         [](const auto& info) {
                           std::string name = info.param.point;
                           for (char& c : name) {
                             if (c == '.' || c == ':') c = '_';
                           }
                           return name;
                         });

}  // namespace
}  // namespace baton::testing
