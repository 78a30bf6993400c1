#include "runtime/supervisor/worker_output.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace baton::runtime {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class WorkerOutputTest : public ::testing::Test {
 protected:
  WorkerOutputTest() {
    auto secrets = std::make_shared<SecretsSnapshot>();
    for (const std::string_view value : {"sword-fish", "first line of it\nsecond line of it"}) {
      secrets->values[std::string(value)] = SecretBytes(value.begin(), value.end());
    }
    auto output =
        WorkerOutput::Create(secrets, [this](std::string_view line) { lines_.emplace_back(line); });
    EXPECT_TRUE(output.ok()) << output.status();
    output_ = *std::move(output);
  }

  // As a worker writes it; the pipe has room for it.
  void Write(std::string_view text) {
    ASSERT_EQ(::write(output_->write_fd(), text.data(), text.size()),
              static_cast<ssize_t>(text.size()));
  }
  std::vector<std::string> Lines() { return std::exchange(lines_, {}); }

  std::vector<std::string> lines_;
  std::unique_ptr<WorkerOutput> output_;
};

TEST_F(WorkerOutputTest, LogsWholeLinesAndNeverWaits) {
  EXPECT_TRUE(output_->Read());
  EXPECT_THAT(Lines(), IsEmpty());
  Write("one\n\ntwo\nthr");
  EXPECT_TRUE(output_->Read());
  EXPECT_THAT(Lines(), ElementsAre("one", "", "two"));
  Write("ee\n");
  EXPECT_TRUE(output_->Read());
  EXPECT_THAT(Lines(), ElementsAre("three"));
}

TEST_F(WorkerOutputTest, A16TakesSecretsOutHoweverTheyAreWritten) {
  Write("the sword-fish of model, and sword");
  EXPECT_TRUE(output_->Read());
  Write("-fish\nfirst line of it\nand second line of it too\n");
  EXPECT_TRUE(output_->Read());
  EXPECT_THAT(Lines(), ElementsAre("the *** of model, and ***", "***", "and *** too"));
}

TEST_F(WorkerOutputTest, AnEndIsTheEndOfALine) {
  Write("last words: sword-fish");
  output_->CloseWriteEnd();
  EXPECT_FALSE(output_->Read());
  EXPECT_THAT(Lines(), IsEmpty());
  output_->Finish();
  EXPECT_THAT(Lines(), ElementsAre("last words: ***"));
  output_->Finish();
  EXPECT_THAT(Lines(), IsEmpty());
}

// Its worker is gone; a process that it has left behind keeps the pipe.
TEST_F(WorkerOutputTest, FinishingDoesNotWaitForTheEnd) {
  Write("one\nand");
  output_->Finish();
  EXPECT_THAT(Lines(), ElementsAre("one", "and"));
}

TEST_F(WorkerOutputTest, ReadsNoMoreThanItIsTold) {
  Write("one\ntwo\n");
  EXPECT_TRUE(output_->Read(4));
  EXPECT_THAT(Lines(), ElementsAre("one"));
  EXPECT_TRUE(output_->Read(4));
  EXPECT_THAT(Lines(), ElementsAre("two"));
}

TEST_F(WorkerOutputTest, ALongLineComesInPiecesWithoutItsSecrets) {
  constexpr size_t kPiece = WorkerOutput::kMaxPieceBytes;
  const std::string before(kPiece - 3, 'x');
  Write(before + "sword-fish" + "y\n");
  EXPECT_TRUE(output_->Read());
  EXPECT_THAT(Lines(), ElementsAre(before + "***", "y"));
  // One without an end is not kept for ever.
  std::string endless(kPiece, 'z');
  for (size_t written = 0; written <= WorkerOutput::kMaxLineBytes; written += endless.size()) {
    Write(endless);
    EXPECT_TRUE(output_->Read());
  }
  std::string all;
  for (const std::string& piece : Lines()) {
    EXPECT_LE(piece.size(), kPiece);
    all += piece;
  }
  EXPECT_EQ(all, std::string(WorkerOutput::kMaxLineBytes, 'z'));
}

}  // namespace
}  // namespace baton::runtime
