// What shmctl says of itself, and how it refuses.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/tools/shmctl/shmctl_process.h"
#include "tools/shmctl/command_line.h"

namespace baton::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class UsageTest : public ShmctlTest {};

TEST_F(UsageTest, TheVerbs) {
  EXPECT_THAT(shmctl::CommandLine().verbs(),
              ElementsAre("serve", "ls", "status", "signature", "infer", "bench", "reload",
                          "receipts", "timeline", "stop", "doctor"));
}

TEST_F(UsageTest, EveryVerbsHelpShowsAnExample) {
  for (const std::string& verb : shmctl::CommandLine().verbs()) {
    const ShmctlResult help = Run({verb, "--help"});
    EXPECT_EQ(help.exit_code, 0) << verb;
    EXPECT_THAT(help.out, HasSubstr("Example:\n  shmctl " + verb + " ")) << verb;
    EXPECT_EQ(help.err, "") << verb;
  }
  const ShmctlResult help = Run({"--help"});
  EXPECT_EQ(help.exit_code, 0);
  for (const std::string& verb : shmctl::CommandLine().verbs()) {
    EXPECT_THAT(help.out, HasSubstr("\n  " + verb + " ")) << verb;
  }
  EXPECT_THAT(help.out, HasSubstr("3 no such server"));
  EXPECT_THAT(Run({"--version"}).out, ::testing::StartsWith("shmctl "));
}

// Who overrides is told beforehand what it may cost.
TEST_F(UsageTest, ReloadSaysWhatAnOverrideRisks) {
  const std::string help = Run({"reload", "--help"}).out;
  EXPECT_THAT(help, HasSubstr("  shmctl reload digits --dry-run\n"));
  EXPECT_THAT(help, HasSubstr("  shmctl reload digits --override-unconfirmed"));
  EXPECT_THAT(help, HasSubstr("RISK: two generations may hold device memory at once"));
  EXPECT_THAT(help, HasSubstr("the reload under way when that is CONFIRMING"));
}

TEST_F(UsageTest, WrongUsageIsTwo) {
  const std::vector<std::vector<std::string>> cases = {
      {},
      {"bogus"},
      {"infer"},
      {"infer", "a", "b"},
      {"infer", "a", "--input", "no-equals-sign"},
      {"infer", "a", "--no-such-option"},
      {"infer", "not/a/name"},
      {"status", "not/a/name"},
      {"receipts", "not/a/name"},
      {"serve"},
      {"serve", "/nowhere", "--name", "not/a/name"},
      {"bench", "a", "--concurrency", "0"},
      {"bench", "a", "--seconds", "-1"},
      {"bench", "a", "--seconds", "many"},
      {"reload", "a", "--timeout", "0"},
      {"receipts", "a", "--last", "0"},
      {"reload", "a", "--dry-run", "--override-unconfirmed"},
      {"timeline"},
      {"timeline", "a", "0"},
      {"timeline", "a", "many"},
      {"timeline", "a", "1", "2"},
      {"timeline", "not/a/name"},
      {"status", "a", "--timeout"},
      {"doctor", "--device", "tpu:0"},
      {"doctor", "--device", "cuda:-1"},
      {"doctor", "--device", "cuda:"},
      {"doctor", "--probe", "nobody"},
  };
  for (const std::vector<std::string>& args : cases) {
    const ShmctlResult result = Run(args);
    EXPECT_EQ(result.exit_code, 2) << ::testing::PrintToString(args);
    EXPECT_EQ(result.out, "") << ::testing::PrintToString(args);
    EXPECT_THAT(result.err, ::testing::StartsWith("shmctl: ")) << ::testing::PrintToString(args);
  }
  EXPECT_THAT(Run({"bogus"}).err, HasSubstr("'bogus'"));
}

// Text from elsewhere: a terminal would obey it.
TEST_F(UsageTest, AnErrorHasNoControlCharacters) {
  const ShmctlResult result = Run({"status", "a\033[31mb"});
  EXPECT_THAT(result.err, HasSubstr("'a?[31mb'"));
  EXPECT_THAT(result.err, ::testing::Not(HasSubstr("\033")));
}

TEST_F(UsageTest, NoSuchServerIsThree) {
  const std::vector<std::vector<std::string>> cases = {
      {"infer", "nobody"},
      {"bench", "nobody"},
      {"signature", "nobody"},
      {"status", "nobody"},
      {"reload", "nobody"},
      {"stop", "nobody"},
      {"receipts", "nobody"},
      {"status", "nobody", "--json"},
      {"timeline", "nobody"},
      {"timeline", "nobody", "2", "--json"},
      {"reload", "nobody", "--dry-run"},
  };
  for (const std::vector<std::string>& args : cases) {
    const ShmctlResult result = Run(args);
    EXPECT_EQ(result.exit_code, 3) << ::testing::PrintToString(args);
    EXPECT_EQ(result.out, "") << ::testing::PrintToString(args);
    EXPECT_THAT(result.err, HasSubstr("no server named 'nobody'"));
  }
}

TEST_F(UsageTest, NoServersIsNoError) {
  const ShmctlResult ls = Run({"ls"});
  EXPECT_EQ(ls.exit_code, 0);
  EXPECT_EQ(ls.out, "");
  EXPECT_EQ(Run({"ls", "--json"}).out, "{\"servers\":[]}\n");
  EXPECT_EQ(Run({"status", "--json"}).out, "{\"servers\":[]}\n");
  EXPECT_EQ(Run({"status"}).exit_code, 0);
}

// Output that goes nowhere is a failure, not a success with nothing to show.
TEST_F(UsageTest, AFullDiskIsAFailure) {
  const ShmctlResult result = RunInto("/dev/full", {"ls", "--json"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.err, HasSubstr("standard output"));
}

}  // namespace
}  // namespace baton::testing
