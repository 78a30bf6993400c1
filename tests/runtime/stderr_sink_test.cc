#include "runtime/stderr_sink.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <climits>
#include <csignal>
#include <memory>
#include <string>

#include "absl/strings/match.h"

#include "spdlog/logger.h"

namespace baton::runtime {
namespace {

using ::testing::EndsWith;

// Two connected descriptors: what is written to the one is read from the other.
class Ends {
 public:
  explicit Ends(bool pipe) {
    int fds[2];
    const bool made =
        pipe ? ::pipe2(fds, O_CLOEXEC) == 0 : ::socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0;
    EXPECT_TRUE(made);
    read.reset(fds[0]);
    write.reset(fds[1]);
    ::fcntl(read.get(), F_SETFL, O_NONBLOCK);
  }
  // Until nothing more goes in; the writing end blocks again afterwards.
  void Fill() {
    ::fcntl(write.get(), F_SETFL, O_NONBLOCK);
    const std::string filler(4096, 'x');
    while (::write(write.get(), filler.data(), filler.size()) > 0) {
    }
    while (::write(write.get(), filler.data(), 1) > 0) {
    }
    ::fcntl(write.get(), F_SETFL, 0);
  }
  // What is there, without the filler.
  std::string Drain() {
    std::string text;
    char buffer[4096];
    for (ssize_t n; (n = ::read(read.get(), buffer, sizeof(buffer))) > 0;) {
      text.append(buffer, static_cast<size_t>(n));
    }
    return text.substr(text.find_last_of('x') == std::string::npos ? 0
                                                                   : text.find_last_of('x') + 1);
  }
  ipc::UniqueFd read;
  ipc::UniqueFd write;
};

spdlog::logger MakeLogger(int fd) {
  spdlog::logger logger("test", std::make_shared<StderrSink>(fd));
  logger.set_pattern("%l %n: %v");
  return logger;
}

class StderrSinkTest : public ::testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(Into, StderrSinkTest, ::testing::Values(true, false),
                         [](const auto& info) { return info.param ? "pipe" : "socket"; });

// The descriptor blocks: with a plain write this test would hang.
TEST_P(StderrSinkTest, AFullOneDropsLinesAndSaysHowMany) {
  Ends ends(GetParam());
  spdlog::logger logger = MakeLogger(ends.write.get());
  logger.info("one");
  EXPECT_EQ(ends.Drain(), "info test: one\n");
  ends.Fill();
  for (int i = 0; i < 3; ++i) logger.info("lost");
  ends.Drain();
  logger.info("two");
  logger.info("three");
  EXPECT_EQ(ends.Drain(),
            "warning test: 3 log lines were dropped\ninfo test: two\ninfo test: three\n");
  ends.Fill();
  logger.info("lost");
  ends.Drain();
  logger.info("four");
  EXPECT_EQ(ends.Drain(), "warning test: 1 log line was dropped\ninfo test: four\n");
}

TEST_P(StderrSinkTest, ALongLineIsCutSoThatItIsOneWrite) {
  Ends ends(GetParam());
  MakeLogger(ends.write.get()).info(std::string(100'000, 'y'));
  const std::string line = ends.Drain();
  EXPECT_EQ(line.size(), static_cast<size_t>(PIPE_BUF));
  EXPECT_THAT(line, EndsWith("yyy [...]\n"));
}

// Its description is shared with whoever else has it, who may rely on it to block.
TEST(StderrSink, LeavesTheDescriptorAsItIs) {
  Ends ends(/*pipe=*/true);
  MakeLogger(ends.write.get()).info("one");
  EXPECT_EQ(::fcntl(ends.write.get(), F_GETFL) & O_NONBLOCK, 0);
}

TEST(StderrSink, APipeThatNobodyReadsIsNoReasonToStop) {
  ::signal(SIGPIPE, SIG_IGN);
  Ends ends(/*pipe=*/true);
  spdlog::logger logger = MakeLogger(ends.write.get());
  ends.read.reset();
  logger.info("one");
  logger.info("two");
}

// Where it was at, and not from the start.
TEST(StderrSink, AppendsToAFile) {
  std::string name = ::testing::TempDir() + "stderr_sink_XXXXXX";
  const ipc::UniqueFd file(::mkstemp(name.data()));
  ASSERT_EQ(::write(file.get(), "zero\n", 5), 5);
  MakeLogger(file.get()).info("one");
  char text[64] = {};
  ASSERT_GT(::pread(file.get(), text, sizeof(text) - 1, 0), 0);
  EXPECT_STREQ(text, "zero\ninfo test: one\n");
  ::unlink(name.c_str());
}

}  // namespace
}  // namespace baton::runtime
