// Secrets over a real server: both layouts, which changes reload and how often, and what cannot be
// read (A11 to A14). How a file is understood in detail is in tests/runtime/supervisor.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <optional>
#include <random>
#include <string>

#include "absl/strings/str_cat.h"

#include "tests/system/secrets_test_base.h"

namespace baton::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::Optional;

class SecretsLayoutsTest : public SecretsSystemTest {};

TEST_F(SecretsLayoutsTest, A11_A12_DotenvIsTheEnvironmentAndRemovedKeysAreGone) {
  WriteSecret("app/app",
              "# what the service needs\n"
              "\n"
              "  PLAIN = with spaces  \r\n"
              "EQUALS=a==b\n"
              "DOUBLE=\"quoted # kept\"\n"
              "SINGLE=' padded '\n"
              "SHADOWED=from the file\n"
              "ONLY_HERE=once\n");
  WriteSecret("other/other", "FROM_ANOTHER=yes\n");
  ServeSecrets({{"SHADOWED", "inherited"}, {"INHERITED", "stays"}});
  EXPECT_THAT(Ask("PLAIN"), Optional(std::string("with spaces")));
  EXPECT_THAT(Ask("EQUALS"), Optional(std::string("a==b")));
  EXPECT_THAT(Ask("DOUBLE"), Optional(std::string("quoted # kept")));
  EXPECT_THAT(Ask("SINGLE"), Optional(std::string(" padded ")));
  EXPECT_THAT(Ask("SHADOWED"), Optional(std::string("from the file")));
  EXPECT_THAT(Ask("INHERITED"), Optional(std::string("stays")));
  EXPECT_THAT(Ask("FROM_ANOTHER"), Optional(std::string("yes")));

  WriteSecret("app/app", "EQUALS=a==c\n");
  ASSERT_TRUE(WaitForGeneration(2));
  EXPECT_THAT(Ask("EQUALS"), Optional(std::string("a==c")));
  EXPECT_EQ(Ask("ONLY_HERE"), std::nullopt) << "a removed secret is still set";
  EXPECT_THAT(Ask("SHADOWED"), Optional(std::string("inherited")));
  EXPECT_THAT(Ask("FROM_ANOTHER"), Optional(std::string("yes")));
}

TEST_F(SecretsLayoutsTest, A11_A13_EachDataSwapIsOneReloadOfAllItsKeys) {
  SwapData({{"token", "token-1\n"}, {"cert", "line 1\nline 2\n"}, {"old.key", "x"}});
  ServeSecrets();
  EXPECT_THAT(Ask("token"), Optional(std::string("token-1")));
  EXPECT_THAT(Ask("cert"), Optional(std::string("line 1\nline 2")));
  EXPECT_THAT(Ask("old.key"), Optional(std::string("x")));
  for (uint64_t round = 2; round <= 4; ++round) {
    // A key goes, one comes, and one changes.
    WhileItLooksAway([&] {
      SwapData({{"token", absl::StrCat("token-", round)}, {absl::StrCat("key-", round), "new"}});
    });
    ASSERT_TRUE(WaitFor([&] { return Ask("token") == absl::StrCat("token-", round); }));
    EXPECT_EQ(answered_by(), round);
    EXPECT_THAT(Ask(absl::StrCat("key-", round)), Optional(std::string("new")));
    EXPECT_EQ(Ask(absl::StrCat("key-", round - 1)), std::nullopt);
    EXPECT_EQ(Ask("cert"), std::nullopt);
  }
  EXPECT_EQ(GenerationOfNextChange(), 5u);
}

TEST_F(SecretsLayoutsTest, A11_BothLayoutsInOneDirectory) {
  SwapData({{"token", "from-a-mount"}});
  WriteSecret("app/app", "KEY=from-a-file\n");
  ServeSecrets();
  EXPECT_THAT(Ask("token"), Optional(std::string("from-a-mount")));
  EXPECT_THAT(Ask("KEY"), Optional(std::string("from-a-file")));
}

TEST_F(SecretsLayoutsTest, A13_ModifyAddAndRemoveAreOneReloadEach) {
  WriteSecret("app/app", "KEY=1\n");
  ServeSecrets();
  EXPECT_THAT(Ask("KEY"), Optional(std::string("1")));
  WriteSecret("app/app", "KEY=2\n");
  ASSERT_TRUE(WaitFor([&] { return Ask("KEY") == "2"; }));
  EXPECT_EQ(answered_by(), 2u);
  WriteSecret("ADDED", "yes");
  ASSERT_TRUE(WaitFor([&] { return Ask("ADDED") == "yes"; }));
  EXPECT_EQ(answered_by(), 3u);
  fs::remove(secrets_ + "/ADDED");
  ASSERT_TRUE(WaitFor([&] { return !Ask("ADDED"); }));
  EXPECT_EQ(answered_by(), 4u);
  EXPECT_THAT(Ask("KEY"), Optional(std::string("2")));
  EXPECT_EQ(GenerationOfNextChange(), 5u);
}

TEST_F(SecretsLayoutsTest, A13_ATouchIsNoReload) {
  WriteSecret("app/app", "KEY=1\n");
  SwapData({{"token", "t"}});
  ServeSecrets();
  EXPECT_THAT(Ask("KEY"), Optional(std::string("1")));
  WriteSecret("app/app", "# now with a comment\nKEY = '1'\n");
  fs::last_write_time(secrets_ + "/app/app", fs::file_time_type::clock::now());
  fs::permissions(secrets_ + "/app/app", fs::perms::owner_read);
  WriteSecret("app/.app.swp", "KEY=9\n");  // what an editor leaves
  WhileItLooksAway([&] { SwapData({{"token", "t"}}); });
  EXPECT_EQ(GenerationOfNextChange(), 2u);
}

TEST_F(SecretsLayoutsTest, A13_ABurstIsOneReload) {
  WriteSecret("app/app", "KEY=0\n");
  ServeSecrets();
  EXPECT_THAT(Ask("KEY"), Optional(std::string("0")));
  WhileItLooksAway([&] {
    for (int i = 1; i <= 200; ++i) {
      std::ofstream(secrets_ + "/app/app") << "KEY=" << i << "\n";  // in place, as echo > does
      WriteSecret(absl::StrCat("EXTRA_", i % 10), absl::StrCat(i));
    }
  });
  ASSERT_TRUE(WaitFor([&] { return Ask("KEY") == "200"; }));
  EXPECT_EQ(answered_by(), 2u);
  EXPECT_THAT(Ask("EXTRA_9"), Optional(std::string("199")));
  EXPECT_EQ(GenerationOfNextChange(), 3u);
}

TEST_F(SecretsLayoutsTest, A14_AMountThatAppearsLateAndGoesAndComesBack) {
  ServeSecrets();
  EXPECT_EQ(Ask("token"), std::nullopt);
  SwapData({{"token", "late"}});
  ASSERT_TRUE(WaitFor([&] { return Ask("token") == "late"; }));
  fs::rename(secrets_, temp_.path() + "/away");
  ASSERT_TRUE(WaitFor([&] { return !Ask("token"); }));
  fs::rename(temp_.path() + "/away", secrets_);
  ASSERT_TRUE(WaitFor([&] { return Ask("token") == "late"; }));
}

// A process of root's reads every file whatever its mode, so what cannot be read here is what
// nobody can: a directory where the file was, and a link to nowhere.
TEST_F(SecretsLayoutsTest, AFileThatCanNoLongerBeReadIsNamedAndItsReturnIsNoticed) {
  WriteSecret("app/app", "KEY=1\n");
  WriteSecret("DIRECT", "here");
  WriteSecret("REST", "stays");
  ServeSecrets();
  EXPECT_THAT(Ask("KEY"), Optional(std::string("1")));
  WhileItLooksAway([&] {
    fs::remove(secrets_ + "/app/app");
    fs::create_directory(secrets_ + "/app/app");
    fs::remove(secrets_ + "/DIRECT");
    fs::create_symlink("/nowhere/at/all", secrets_ + "/DIRECT");
  });
  ASSERT_TRUE(WaitFor([&] { return !Ask("KEY"); }));
  EXPECT_EQ(answered_by(), 2u);
  EXPECT_EQ(Ask("DIRECT"), std::nullopt);
  EXPECT_THAT(Ask("REST"), Optional(std::string("stays")));
  EXPECT_TRUE(LogHas("app/app: is no regular file"));
  WhileItLooksAway([&] {
    fs::remove(secrets_ + "/app/app");
    fs::remove(secrets_ + "/DIRECT");
    WriteSecret("app/app", "KEY=2\n");
    WriteSecret("DIRECT", "again");
  });
  ASSERT_TRUE(WaitFor([&] { return Ask("KEY") == "2"; }));
  EXPECT_EQ(answered_by(), 3u);
  EXPECT_THAT(Ask("DIRECT"), Optional(std::string("again")));
}

// What is in the directory besides secrets changes nothing: no reload, and no end of the server.
TEST_F(SecretsLayoutsTest, GarbageIsLeftOutAndReloadsNothing) {
  WriteSecret("app/app", "KEY=1\n");
  ServeSecrets();
  EXPECT_THAT(Ask("KEY"), Optional(std::string("1")));
  std::mt19937 random(7);
  std::string bytes(10 << 20, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random());
  WriteSecret("garbage/garbage", bytes);
  WriteSecret("GARBAGE", bytes);
  std::string lines;  // within the limit of a file, and not one of them is a secret
  while (lines.size() < (1 << 20) - 8) absl::StrAppend(&lines, "1\n");
  WriteSecret("lines/lines", lines);
  WriteSecret("nul/nul", std::string("NUL_LINE=a") + '\0' + "b\n");
  WriteSecret("NUL", std::string("a\0b", 3));
  WriteSecret("names/names", "1STARTS=x\nHAS SPACE=x\n=x\nEMOJI\xF0\x9F\x94\x91=x\nA\tB=x\n");
  WriteSecret("9digit", "x");
  WriteSecret("with space", "x");
  WriteSecret("equals=sign", "x");
  EXPECT_EQ(GenerationOfNextChange(), 2u);
  EXPECT_THAT(Ask("KEY"), Optional(std::string("1")));
  for (const char* name : {"GARBAGE", "NUL", "NUL_LINE", "1STARTS", "HAS SPACE", "9digit",
                           "with space", "equals", "equals=sign", "1"}) {
    EXPECT_EQ(Ask(name), std::nullopt) << name;
  }
  // Each is named, but nobody's log is filled by a file of rubbish.
  for (const char* name : {"garbage/garbage", "GARBAGE", "lines/lines:1:", "nul/nul",
                           "NUL:", "names/names:1:", "9digit", "with space", "equals=sign"}) {
    EXPECT_TRUE(LogHas(absl::StrCat("secrets/", name))) << name;
  }
  EXPECT_LT(server_->Log().size(), 100'000u);
}

}  // namespace
}  // namespace baton::testing
