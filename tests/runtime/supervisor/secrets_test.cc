#include "runtime/supervisor/secrets.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "capnp/serialize.h"

#include "ipc/schema/control.capnp.h"

namespace baton::runtime {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::Pair;

class SecretsTest : public testing::Test {
 protected:
  SecretsTest() {
    std::string name = (fs::temp_directory_path() / "baton-secrets-XXXXXX").native();
    dir_ = ::mkdtemp(name.data());
  }
  ~SecretsTest() override { fs::remove_all(dir_); }

  void Write(const std::string& path, const std::string& content) {
    fs::create_directories((dir_ / path).parent_path());
    std::ofstream(dir_ / path, std::ios::binary) << content;
  }
  std::map<std::string, std::string> Read(const SecretsLimits& limits = {}) {
    snapshot_ = ReadSecrets(dir_, limits);
    std::map<std::string, std::string> values;
    for (const auto& [key, value] : snapshot_.values) {
      values[key] = std::string(value.begin(), value.end());
    }
    return values;
  }

  fs::path dir_;
  SecretsSnapshot snapshot_;
};

TEST_F(SecretsTest, A11_Dotenv) {
  Write("app/app",
        "# a comment\n"
        "\n"
        "  PLAIN = value with spaces  \r\n"
        "EQUALS=a==b\n"
        "DOUBLE=\"in quotes # kept\"\n"
        "SINGLE=' padded '\n"
        "HALF=\"open\n"
        "ONE=\"\n"
        "EMPTY=\n"
        "export EXPORTED=yes\n"
        "HASH=pass#word\n"
        "LAST=no line end");
  EXPECT_THAT(Read(),
              ElementsAre(Pair("DOUBLE", "in quotes # kept"), Pair("EMPTY", ""),
                          Pair("EQUALS", "a==b"), Pair("EXPORTED", "yes"), Pair("HALF", "\"open"),
                          Pair("HASH", "pass#word"), Pair("LAST", "no line end"), Pair("ONE", "\""),
                          Pair("PLAIN", "value with spaces"), Pair("SINGLE", " padded ")));
  EXPECT_THAT(snapshot_.problems, IsEmpty());
}

TEST_F(SecretsTest, A11_OnlyTheFileNamedAsItsFolderIsDotenv) {
  Write("app/other", "KEY=value\n");
  Write("app/deeper/deeper", "KEY=value\n");
  EXPECT_THAT(Read(), IsEmpty());
}

TEST_F(SecretsTest, A11_KubernetesMount) {
  Write("..2024_1/token", "one\n");
  Write("..2024_1/cert", "line 1\nline 2\n\n");
  Write("..2024_1/crlf", "x\r\n");
  fs::create_directory_symlink("..2024_1", dir_ / "..data");
  for (const char* key : {"token", "cert", "crlf"}) {
    fs::create_symlink(fs::path("..data") / key, dir_ / key);
  }
  // One line end at the very end goes; what else is there stays.
  EXPECT_THAT(Read(), ElementsAre(Pair("cert", "line 1\nline 2\n"), Pair("crlf", "x"),
                                  Pair("token", "one")));
}

TEST_F(SecretsTest, A14_NoDirectoryIsNoSecrets) {
  const SecretsSnapshot snapshot = ReadSecrets(dir_ / "nowhere");
  EXPECT_THAT(snapshot.values, IsEmpty());
  EXPECT_THAT(snapshot.problems, IsEmpty());
}

TEST_F(SecretsTest, A16_WhatCannotBeUsedIsNamedWithoutItsValue) {
  const std::string hidden = "hunter2";
  Write("app/app", "no equals sign " + hidden + "\n" + hidden + "/+x=" + hidden + "\nGOOD=1\n");
  Write("nul/nul", std::string("A=") + '\0' + hidden);
  Write("NUL_VALUE", hidden + '\0');
  Write("9starts-with-digit", hidden);
  Write("bad key\n", hidden);
  Write("HUGE", std::string(10 << 20, 'x'));
  Write("big/big", std::string(10 << 20, '='));
  ::mkfifo((dir_ / "PIPE").c_str(), 0600);
  fs::create_symlink("/nowhere/at/all", dir_ / "DANGLING");
  EXPECT_THAT(Read(), ElementsAre(Pair("GOOD", "1")));
  EXPECT_THAT(snapshot_.problems,
              testing::UnorderedElementsAre(
                  HasSubstr("app/app:1: no `=`"), HasSubstr("app/app:2: the key"),
                  HasSubstr("nul/nul: has NUL"), HasSubstr("NUL_VALUE: has NUL"),
                  HasSubstr("9starts-with-digit: its name"), HasSubstr("bad key\\n: its name"),
                  HasSubstr("HUGE: larger than"), HasSubstr("big/big: larger than"),
                  HasSubstr("PIPE: is no regular file")));
  for (const std::string& problem : snapshot_.problems) {
    EXPECT_THAT(problem, Not(HasSubstr(hidden)));
  }
}

// The lines of a value that was meant to have several look like keys and values of their own.
TEST_F(SecretsTest, A16_TheRestOfAValueIsNotTakenForANameThatMayBeTold) {
  SecretsLimits limits;
  limits.max_secret_bytes = 8;
  Write("app/app", "CERT=BEGIN\nhunterA==\nhunterA==\nhunterB=0123456789\nhunter/C==\nEND\n");
  Read(limits);
  EXPECT_THAT(snapshot_.problems,
              ElementsAre(HasSubstr("app/app:3: its key is set more than once"),
                          HasSubstr("app/app:4: larger than 8"), HasSubstr("app/app:5: the key"),
                          HasSubstr("app/app:6: no `=`")));
  for (const std::string& problem : snapshot_.problems)
    EXPECT_THAT(problem, Not(HasSubstr("hunter")));
}

TEST_F(SecretsTest, AFileOfRubbishIsNamedButNotLineByLine) {
  std::string rubbish;
  for (int i = 0; i < 100'000; ++i) rubbish += "1\n";
  Write("rubbish/rubbish", rubbish + "GOOD=1\n");
  EXPECT_THAT(Read(), ElementsAre(Pair("GOOD", "1")));
  ASSERT_EQ(snapshot_.problems.size(), 9u);
  EXPECT_THAT(snapshot_.problems[7], HasSubstr("rubbish/rubbish:8: no `=`"));
  EXPECT_THAT(snapshot_.problems[8], HasSubstr("rubbish/rubbish: and 99992 more lines like these"));
}

TEST_F(SecretsTest, ADirectoryOfRubbishHasAnEndToItsProblems) {
  for (int i = 0; i < 300; ++i) Write("no key " + std::to_string(i), "x");
  EXPECT_THAT(Read(), IsEmpty());
  ASSERT_EQ(snapshot_.problems.size(), 257u);
  EXPECT_EQ(snapshot_.problems.back(), "and 44 more problems");
}

TEST_F(SecretsTest, AFileThatMayNotBeReadIsNamed) {
  if (::geteuid() == 0) {  // root may read everything: a directory in the file's place will do
    fs::create_directories(dir_ / "app" / "app");
  } else {
    Write("app/app", "KEY=value");
    ::chmod((dir_ / "app/app").c_str(), 0);
  }
  EXPECT_THAT(Read(), IsEmpty());
  EXPECT_THAT(snapshot_.problems, ElementsAre(HasSubstr("app/app")));
}

TEST_F(SecretsTest, LimitsHold) {
  SecretsLimits limits;
  limits.max_secret_bytes = 4;
  limits.max_secrets_total_bytes = 12;
  limits.max_secrets = 2;
  Write("A", "1234\n");
  Write("B", "12345");
  Write("C", "12");
  Write("D", "");
  EXPECT_THAT(Read(limits), ElementsAre(Pair("A", "1234"), Pair("C", "12")));
  EXPECT_THAT(snapshot_.problems,
              ElementsAre(HasSubstr("B: larger than 4"), HasSubstr("D: left out")));
  limits.max_secrets = 9;
  Write("E", "1234");
  EXPECT_THAT(Read(limits), ElementsAre(Pair("A", "1234"), Pair("C", "12"), Pair("D", "")));
}

TEST_F(SecretsTest, TheLastOfTwoCounts) {
  Write("a/a", "KEY=first\n");
  Write("b/b", "KEY=second\n");
  EXPECT_THAT(Read(), ElementsAre(Pair("KEY", "second")));
  EXPECT_THAT(snapshot_.problems, ElementsAre(HasSubstr("b/b:1: its key is set more than once")));
}

TEST_F(SecretsTest, TheSealedSnapshotReadsBackAndCannotBeChanged) {
  Write("KEY", std::string(40'000, 'k'));
  for (int i = 0; i < 300; ++i) Write("KEY_" + std::to_string(i), std::to_string(i));
  Read();
  auto sealed = SealSecrets(snapshot_);
  ASSERT_TRUE(sealed.ok()) << sealed.status();
  struct stat info;
  ASSERT_EQ(::fstat(sealed->fd.get(), &info), 0);
  EXPECT_EQ(static_cast<uint64_t>(info.st_size), sealed->bytes);
  EXPECT_EQ(::pwrite(sealed->fd.get(), "x", 1, 0), -1);
  EXPECT_EQ(::ftruncate(sealed->fd.get(), 0), -1);

  const size_t words = sealed->bytes / sizeof(capnp::word);
  std::vector<capnp::word> buffer(words);
  ASSERT_EQ(::pread(sealed->fd.get(), buffer.data(), sealed->bytes, 0),
            static_cast<ssize_t>(sealed->bytes));
  capnp::FlatArrayMessageReader message(kj::arrayPtr(buffer.data(), words));
  size_t found = 0;
  for (auto entry : message.getRoot<ipc::schema::Secrets>().getEntries()) {
    const auto& value = snapshot_.values.at(entry.getKey().cStr());
    EXPECT_TRUE(std::equal(value.begin(), value.end(), entry.getValue().begin(),
                           entry.getValue().end(),
                           [](char a, capnp::byte b) { return static_cast<capnp::byte>(a) == b; }));
    ++found;
  }
  EXPECT_EQ(found, 301);
}

TEST(WipingAllocator, OverwritesBeforeItGivesBack) {
  alignas(16) static char arena[64];
  std::fill_n(arena, sizeof(arena), 's');
  WipeBytes(arena, 32);
  EXPECT_EQ(std::count(arena, arena + 64, '\0'), 32);
  EXPECT_EQ(std::count(arena + 32, arena + 64, 's'), 32);
}

}  // namespace
}  // namespace baton::runtime
