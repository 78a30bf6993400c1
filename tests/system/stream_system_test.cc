// Streams through the whole system: a native model in a real worker, reloads, deaths, and a reader
// that is slow for a long time.
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <string>

#include "absl/strings/match.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "tests/system/stream_server.h"

namespace baton::testing {
namespace {

using test::kCount;
using test::kLong;
using test::kSum;
using test::OpenCount;
using test::OpenItems;
using test::ReadText;
using test::WriteItem;

using StreamSystemTest = StreamServerTest;

TEST_F(StreamSystemTest, StreamsAnswerAndFail) {
  ServeStreams(4);
  Channel channel = Open();
  ASSERT_EQ(channel.methods().size(), 3u);
  EXPECT_EQ(channel.methods()[1].doc, "Counts.");
  Stream sums = OpenItems(channel, kSum);
  Stream counts = OpenCount(channel, {{"n", 1000}});
  Stream fails = OpenCount(channel, {{"n", 9}, {"fail", 3}});
  for (int i = 0; i < 3; ++i) EXPECT_EQ(ReadText(fails, kLong), std::to_string(i));
  const absl::Status failed = fails.Read(kLong).status();
  EXPECT_TRUE(absl::IsInternal(failed)) << failed;
  EXPECT_THAT(failed.ToString(), ::testing::HasSubstr("no number 3"));
  int64_t sum = 0;
  for (int64_t x = 0; x < 100; ++x) {  // an output before the next input is sent
    ASSERT_TRUE(WriteItem(sums, x).ok());
    ASSERT_EQ(ReadText(sums, kLong), std::to_string(sum += x));
    ASSERT_EQ(ReadText(counts, kLong), std::to_string(x));
  }
  ASSERT_TRUE(sums.WritesDone().ok());
  EXPECT_EQ(ReadText(sums, kLong), "end");
  EXPECT_EQ(Ask(channel).cancelled, 0);  // between the steps of the one that goes on
  counts = Stream();
  EXPECT_TRUE(WaitFor([&] { return Ask(channel).cancelled == 1; }));
}

// Each of them waits for an item that is not sent before everything else was served.
TEST_F(StreamSystemTest, StreamsThatWaitForTheirCallersHoldNobodyUp) {
  ServeStreams(3);
  Channel channel = Open();
  Channel other = Open();
  Stream one = OpenItems(channel, kSum);
  Stream two = OpenItems(other, kSum);
  ASSERT_TRUE(WriteItem(one, 1).ok());
  EXPECT_EQ(ReadText(one, kLong), "1");
  ASSERT_TRUE(WriteItem(two, 5).ok());
  EXPECT_EQ(ReadText(two, kLong), "5");
  const pid_t worker = Ask(channel).pid;
  Stream counts = OpenCount(other, {{"n", 100}});
  for (int i = 0; i < 100; ++i) ASSERT_EQ(ReadText(counts, kLong), std::to_string(i));
  EXPECT_EQ(ReadText(counts, kLong), "end");
  {
    Channel third = Open();  // also one that is opened now, and closed
    EXPECT_EQ(Ask(third).pid, worker);
  }
  ASSERT_TRUE(WriteItem(two, 6).ok());
  EXPECT_EQ(ReadText(two, kLong), "11");
  ASSERT_TRUE(WriteItem(one, 2).ok());
  EXPECT_EQ(ReadText(one, kLong), "3");
  two.Cancel();
  one = Stream();
  EXPECT_TRUE(WaitFor([&] { return Ask(channel).cancelled == 2; }));
}

TEST_F(StreamSystemTest, AReloadWaitsForAStreamAndTheNextGoesToTheNewGeneration) {
  with_secrets_ = true;
  SetSecret("API_KEY", "one");
  ServeStreams(4);
  Channel channel = Open();
  Stream stream = OpenItems(channel, kSum);
  ASSERT_TRUE(WriteItem(stream, 1).ok());
  EXPECT_EQ(ReadText(stream, kLong), "1");
  SetSecret("API_KEY", "two");
  ASSERT_TRUE(WaitFor([&] { return front_->state() == "DRAINING"; })) << front_->state();
  Stream next = OpenCount(channel, {{"n", 1}});
  for (int64_t x = 2; x <= 5; ++x) {
    ASSERT_TRUE(WriteItem(stream, x).ok());
    absl::StatusOr<Stream::ReadResult> read = stream.Read(kLong);
    ASSERT_TRUE(read.ok() && read->found == Stream::Found::kResponse) << read.status();
    EXPECT_EQ(read->response.generation(), 1u);
    EXPECT_EQ(read->response.output<int64_t>("y")[0], x * (x + 1) / 2);
  }
  EXPECT_EQ(Generation(), 1u);
  ASSERT_TRUE(stream.WritesDone().ok());
  EXPECT_EQ(ReadText(stream, kLong), "end");
  // Whether the hold had reached the worker before it, nobody outside can tell.
  EXPECT_EQ(ReadText(next, kLong), "0");
  EXPECT_EQ(ReadText(next, kLong), "end");
  ASSERT_TRUE(WaitForGeneration(2));
  EXPECT_EQ(Ask(channel).generation, 2u);
}

TEST_F(StreamSystemTest, AStreamThatDoesNotEndKeepsTheOldGeneration) {
  with_secrets_ = true;
  SetSecret("API_KEY", "one");
  ServeStreams(4, "reload: {drain_timeout: 200ms}\n");
  Channel channel = Open();
  Stream stream = OpenCount(channel, {{"n", 1'000'000}});
  EXPECT_EQ(ReadText(stream, kLong), "0");
  SetSecret("API_KEY", "two");
  ASSERT_TRUE(WaitForReceipts(1));
  EXPECT_TRUE(absl::StrContains(server_->Receipts().front(), "\"outcome\":\"kept-old\""))
      << server_->Receipts().front();
  for (int i = 1; i < 100; ++i) ASSERT_EQ(ReadText(stream, kLong), std::to_string(i));
  EXPECT_EQ(Ask(channel).generation, 1u);
}

TEST_F(StreamSystemTest, AKilledWorkerLeavesWhatItHadGivenAndTheNextServes) {
  ServeStreams(4);
  Channel channel = Open();
  const uint64_t request_bytes = channel.free_request_bytes();
  const uint64_t response_bytes = channel.free_response_bytes();
  const pid_t worker = Ask(channel).pid;
  ASSERT_GT(worker, 1);
  {
    Stream stream = OpenCount(channel, {{"n", 1'000'000}}, {.window = 4});
    Stream items = OpenItems(channel, kSum, {.window = 4});
    for (int64_t x = 0; x < 3; ++x) ASSERT_TRUE(WriteItem(items, x).ok());
    EXPECT_EQ(ReadText(stream, kLong), "0");
    // One that had not been started would be the next worker's, and wait there for an item.
    EXPECT_EQ(ReadText(items, kLong), "0");
    ASSERT_EQ(::kill(worker, SIGKILL), 0);
    std::string text;
    int next = 1;
    while ((text = ReadText(stream, kLong)) == std::to_string(next)) ++next;
    EXPECT_EQ(text, "ABORTED");
    while ((text = ReadText(items, kLong)) != "ABORTED") ASSERT_NE(text, "nothing");
    Stream second = OpenCount(channel, {{"n", 2}});
    EXPECT_EQ(ReadText(second, kLong), "0");
    EXPECT_EQ(ReadText(second, kLong), "1");
    EXPECT_EQ(ReadText(second, kLong), "end");
    EXPECT_EQ(Ask(channel).generation, 2u);
  }
  EXPECT_EQ(channel.free_request_bytes(), request_bytes);
  EXPECT_EQ(channel.free_response_bytes(), response_bytes);
}

// ---- A slow reader -----------------------------------------------------------------------------

uint64_t ResidentBytes(const std::string& process) {
  std::ifstream in("/proc/" + process + "/statm");
  uint64_t pages = 0;
  in >> pages >> pages;
  return pages * static_cast<uint64_t>(::getpagesize());
}

TEST_F(StreamSystemTest, AMillionResponsesTakeNoMoreMemoryThanAThousand) {
#if defined(BATON_SANITIZED)
  constexpr int64_t kResponses = 50'000;
#else
  constexpr int64_t kResponses = 1'000'000;
#endif
  ServeStreams(1);
  Channel channel = Open();
  const std::string worker = std::to_string(Ask(channel).pid);
  Stream stream = OpenCount(channel, {{"n", kResponses}}, {.window = 8});
  uint64_t front_before = 0;
  uint64_t worker_before = 0;
  for (int64_t i = 0; i < kResponses; ++i) {
    const absl::StatusOr<Stream::ReadResult> read = stream.Read(kLong);
    ASSERT_TRUE(read.ok() && read->found == Stream::Found::kResponse) << read.status();
    ASSERT_EQ(read->response.output<int64_t>("y")[0], i);
    if (i == kResponses / 10) {
      front_before = ResidentBytes("self");
      worker_before = ResidentBytes(worker);
    }
  }
  EXPECT_LE(ResidentBytes("self"), front_before + (1 << 20));
  EXPECT_LE(ResidentBytes(worker), worker_before + (1 << 20));
  EXPECT_EQ(ReadText(stream, kLong), "end");
}

}  // namespace
}  // namespace baton::testing
