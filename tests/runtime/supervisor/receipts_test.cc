#include "runtime/supervisor/receipts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "capnp/compat/json.h"

namespace baton::runtime {
namespace {

namespace fs = std::filesystem;
using State = ipc::ServerState;

ReceiptDraft SomeDraft() {
  ReceiptDraft draft(1, "secrets", 100);
  draft.Enter(State::kStaging, 100);
  draft.Enter(State::kHolding, 130);
  draft.Enter(State::kServing, 135);
  draft.Close(135);
  draft.successor = 2;
  draft.outcome = "swapped";
  draft.verdict = "freed";
  draft.reason = "a \"quoted\" reason\nof two lines";
  return draft;
}

std::vector<std::string> Lines(const fs::path& path) {
  std::vector<std::string> lines;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  return lines;
}

TEST(ReceiptDraft, KnowsHowLongEachStepTook) {
  capnp::MallocMessageBuilder message;
  auto receipt = message.initRoot<ipc::schema::Receipt>();
  SomeDraft().WriteTo(receipt);
  ASSERT_EQ(receipt.getStates().size(), 3);
  EXPECT_STREQ(receipt.getStates()[0].getState().cStr(), "STAGING");
  EXPECT_EQ(receipt.getStates()[0].getNs(), 30);
  EXPECT_EQ(receipt.getStates()[1].getNs(), 5);
  EXPECT_EQ(receipt.getStates()[2].getNs(), 0);
  EXPECT_GT(receipt.getStartedUnixMs(), 1'600'000'000'000u);
}

TEST(ReceiptDraft, IsOfLimitedSize) {
  ReceiptDraft draft = SomeDraft();
  for (int i = 0; i < 1000; ++i) draft.Enter(State::kUnavailable, 200 + i);
  draft.Enter(State::kStopped, 2000);
  draft.reason = std::string(kMaxReasonBytes - 1, 'x') + "\u00fc" + std::string(100'000, 'y');
  capnp::MallocMessageBuilder message;
  auto receipt = message.initRoot<ipc::schema::Receipt>();
  draft.WriteTo(receipt);
  ASSERT_EQ(receipt.getStates().size(), kMaxReceiptStates);
  EXPECT_STREQ(receipt.getStates()[0].getState().cStr(), "STAGING");
  EXPECT_STREQ(receipt.getStates()[kMaxReceiptStates - 1].getState().cStr(), "STOPPED");
  EXPECT_EQ(receipt.getReason().size(), kMaxReasonBytes - 1);
}

TEST(ReceiptLog, AppendsOneJsonLineEach) {
  std::string name = (fs::temp_directory_path() / "baton-receipts-XXXXXX").native();
  const fs::path dir = ::mkdtemp(name.data());
  const fs::path path = dir / "receipts.jsonl";
  for (int run = 0; run < 2; ++run) {  // a second server goes on where the first one stopped
    auto log = ReceiptLog::Open(path);
    ASSERT_TRUE(log.ok()) << log.status();
    EXPECT_FALSE(log->has_latest());
    ASSERT_TRUE(log->Append(SomeDraft()).ok());
    EXPECT_EQ(log->latest().getSuccessor(), 2);
  }
  const auto lines = Lines(path);
  ASSERT_EQ(lines.size(), 2);
  struct stat info;
  ASSERT_EQ(::stat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);

  capnp::JsonCodec codec;
  capnp::MallocMessageBuilder message;
  auto receipt = message.initRoot<ipc::schema::Receipt>();
  codec.decode(kj::ArrayPtr<const char>(lines[1].data(), lines[1].size()), receipt);
  EXPECT_STREQ(receipt.getVerdict().cStr(), "freed");
  EXPECT_STREQ(receipt.getReason().cStr(), "a \"quoted\" reason\nof two lines");
  fs::remove_all(dir);
}

TEST(ReceiptLog, AReceiptThatCannotBeWrittenIsStillTheLatest) {
  auto log = ReceiptLog::Open("/dev/full");
  ASSERT_TRUE(log.ok()) << log.status();
  EXPECT_FALSE(log->Append(SomeDraft()).ok());
  ASSERT_TRUE(log->has_latest());
  EXPECT_EQ(log->latest().getGeneration(), 1);
}

TEST(ReceiptLog, AFolderThatIsNotThereIsAnError) {
  const auto log = ReceiptLog::Open("/nowhere/receipts.jsonl");
  EXPECT_EQ(log.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(log.status().message()), testing::HasSubstr("/nowhere"));
}

}  // namespace
}  // namespace baton::runtime
