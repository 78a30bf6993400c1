// SIGKILL at every store that a stream shares, of the worker and of the front: the other side ends
// what it has, gets its memory back, and the server serves on.
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "tests/system/stream_server.h"

namespace baton::testing {
namespace {

using test::kLong;
using test::kSum;
using test::OpenItems;
using test::ReadText;
using test::WriteItem;

class StreamKillTest : public StreamServerTest, public ::testing::WithParamInterface<const char*> {
 protected:
  // Ten items, each answered, and the end. Returns what came in place of that, or "end".
  static std::string Converse(Channel& channel) {
    absl::StatusOr<Stream> stream =
        channel.OpenStream(test::Scalars(channel, kSum, {}), {.window = 4});
    if (!stream.ok()) return stream.status().ToString();
    int64_t sum = 0;
    for (int64_t x = 1; x <= 10; ++x) {
      if (!WriteItem(*stream, x).ok()) break;
      const std::string text = ReadText(*stream, kLong);
      if (text != std::to_string(sum += x)) return text;
    }
    if (!stream->WritesDone().ok()) return "closed";
    return ReadText(*stream, kLong);
  }
};

// ---- The worker --------------------------------------------------------------------------------

class WorkerDies : public StreamKillTest {
 protected:
  // At its first store of that name, of the first generation. The model's part runs on the serving
  // thread, or, with more streams than one, on a thread of its own.
  void DieAt(const std::string& point, size_t max_streams) {
    const size_t pass = std::min(point.find(':'), point.size());
    options_.env["BATON_CRASH_AT"] = absl::StrCat(point.substr(0, pass), "@1", point.substr(pass));
    ServeStreams(max_streams);
    Channel channel = Open();
    const uint64_t request_bytes = channel.free_request_bytes();
    const uint64_t response_bytes = channel.free_response_bytes();
    // After the last completion the stream is whole.
    EXPECT_EQ(Converse(channel), point == "worker.stream_ended" ? "end" : "ABORTED");
    EXPECT_EQ(Converse(channel), "end");
    EXPECT_EQ(Ask(channel).generation, 2u);
    EXPECT_EQ(channel.free_request_bytes(), request_bytes);
    EXPECT_EQ(channel.free_response_bytes(), response_bytes);
  }
};

TEST_P(WorkerDies, TheStreamIsAbortedOrWholeAndTheNextServes) { DieAt(GetParam(), 1); }

TEST_P(WorkerDies, LikewiseWhereTheModelHasAThreadForIt) { DieAt(GetParam(), 2); }

INSTANTIATE_TEST_SUITE_P(AtEachStore, WorkerDies,
                         ::testing::Values("worker.stream_progress_reset", "worker.stream_started",
                                           "worker.chunk_written", "worker.chunk_published",
                                           "worker.chunk_written:5", "worker.chunk_published:5",
                                           "worker.stream_item_taken", "worker.stream_item_taken:4",
                                           "worker.stream_ending", "worker.stream_ended"),
                         [](const auto& info) {
                           std::string name = info.param;
                           for (char& c : name) {
                             if (c == '.' || c == ':') c = '_';
                           }
                           return name;
                         });

// ---- The front ---------------------------------------------------------------------------------

using FrontDies = StreamKillTest;

TEST_P(FrontDies, TheModelIsToldAndOthersAreServed) {
  StartServer(1);
  const pid_t child = ::fork();
  if (child == 0) {
    ::setenv("BATON_CRASH_AT", GetParam(), 1);
    absl::StatusOr<std::unique_ptr<Front>> front = server_->Attach();
    if (!front.ok()) ::_exit(2);
    absl::StatusOr<Channel> channel = (*front)->OpenChannel({.ring_entries = 64});
    if (!channel.ok()) ::_exit(3);
    static_cast<void>(Converse(*channel));
    ::_exit(0);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << WEXITSTATUS(status);
  Attach();
  Channel channel = Open();
  EXPECT_EQ(Converse(channel), "end");  // with one stream at most: the other one has gone
  const State state = Ask(channel);
  EXPECT_EQ(state.generation, 1u);
  const std::string point = GetParam();
  // Before it was in the ring there was nothing to cancel; and after the last item the model
  // comes to its end by itself.
  const bool cancelled = point.find(':') != std::string::npos;
  if (cancelled) {
    EXPECT_TRUE(WaitFor([&] { return Ask(channel).cancelled == 1; })) << state.cancelled;
  }
  EXPECT_TRUE(WaitFor([] { return SharedMemoryNames().empty(); }));
}

INSTANTIATE_TEST_SUITE_P(
    AtEachStore, FrontDies,
    ::testing::Values("front.stream_credit_filled", "front.stream_credit_published",
                      "front.stream_credit_filled:6", "front.stream_credit_published:6",
                      "front.stream_item_filled:2", "front.stream_item_published:2",
                      "front.stream_items_done"),
    [](const auto& info) {
      std::string name = info.param;
      for (char& c : name) {
        if (c == '.' || c == ':') c = '_';
      }
      return name;
    });

}  // namespace
}  // namespace baton::testing
