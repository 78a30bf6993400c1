#include "tools/gpu_check/table.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "tests/tools/shmctl/json_reader.h"

namespace baton::gpu_check {
namespace {

using testing::JsonReader;

Table SomeTable() {
  return {.head = {{"commit", "abc"}, {"odd \"name\"", "back\\slash"}},
          .rows = {{.name = "speed", .value = 51.25, .unit = "GB/s", .note = "a \"quoted\" | bar"},
                   {.name = "ratio",
                    .value = 0.5,
                    .target = Target{.bound = 0.8, .at_most = false},
                    .outcome = Outcome::kMissed},
                   {.name = "fact: x", .outcome = Outcome::kContradicted, .note = "two\nlines"}}};
}

// The reader takes one line; line ends between tokens mean nothing in JSON.
JsonReader Parsed(const Table& table) {
  std::string text = JsonText(table);
  std::replace(text.begin(), text.end(), '\n', ' ');
  return JsonReader(text + "\n");
}

size_t Count(const std::string& text, const std::string& part) {
  size_t count = 0;
  for (size_t at = 0; (at = text.find(part, at)) != std::string::npos; at += part.size()) ++count;
  return count;
}

TEST(TableTest, JsonHasEveryField) {
  const JsonReader json = Parsed(SomeTable());
  EXPECT_FALSE(json["simulated"].True());
  EXPECT_FALSE(json["passed"].True());
  EXPECT_EQ(json["head"]["commit"].Text(), "abc");
  EXPECT_EQ(json["head"]["odd \"name\""].Text(), "back\\slash");
  ASSERT_EQ(json["rows"].size(), 3u);
  const JsonReader speed = json["rows"][0];
  EXPECT_EQ(speed["name"].Text(), "speed");
  EXPECT_EQ(speed["value"].Number(), 51.25);
  EXPECT_EQ(speed["unit"].Text(), "GB/s");
  EXPECT_EQ(speed["outcome"].Text(), "measured");
  EXPECT_EQ(speed["note"].Text(), "a \"quoted\" | bar");
  EXPECT_FALSE(speed["simulated"].True());
  EXPECT_EQ(json["rows"][1]["target"].Text(), ">= 0.8");
  EXPECT_EQ(json["rows"][2]["outcome"].Text(), "CONTRADICTED");
  EXPECT_EQ(json["rows"][2]["note"].Text(), "two\nlines");
  const std::string text = JsonText(SomeTable());
  EXPECT_EQ(Count(text, "\"target\": null"), 2u);
  EXPECT_EQ(Count(text, "\"value\": null"), 1u);
}

TEST(TableTest, JsonOfNothingIsJson) {
  const JsonReader json = Parsed(Table());
  EXPECT_FALSE(json["passed"].True()) << "nothing was looked at";
  EXPECT_EQ(json["rows"].size(), 0u);
}

TEST(TableTest, PassesOnlyWithGoodRows) {
  Table table;
  table.rows = {{.name = "a"}, {.name = "b", .outcome = Outcome::kSkipped}};
  EXPECT_TRUE(table.passed());
  EXPECT_TRUE(Parsed(table)["passed"].True());
  table.rows.push_back({.name = "c", .outcome = Outcome::kError});
  EXPECT_FALSE(table.passed());
}

TEST(TableTest, EverySimulatedFigureSaysSo) {
  Table table = SomeTable();
  EXPECT_EQ(Count(MarkdownText(table), "(simulated)"), 0u);
  table.simulated = true;
  table.rows.resize(1);
  const std::string text = MarkdownText(table);
  EXPECT_NE(text.find("SIMULATED"), std::string::npos);
  EXPECT_NE(text.find("| speed | 51.25 GB/s (simulated) |"), std::string::npos) << text;
  const JsonReader json = Parsed(table);
  EXPECT_TRUE(json["simulated"].True());
  EXPECT_TRUE(json["rows"][0]["simulated"].True());
}

TEST(TableTest, MarkdownKeepsItsColumnsAndNamesWhatIsNotGood) {
  const std::string text = MarkdownText(SomeTable());
  EXPECT_NE(text.find("a \"quoted\" \\| bar"), std::string::npos) << text;
  EXPECT_NE(text.find("two lines"), std::string::npos) << text;
  EXPECT_NE(text.find("- result: 2 of 3 rows are not good"), std::string::npos) << text;
  const size_t bad = text.find("## Not good");
  const size_t all = text.find("## All");
  ASSERT_NE(bad, std::string::npos);
  ASSERT_NE(all, std::string::npos);
  const std::string not_good = text.substr(bad, all - bad);
  EXPECT_NE(not_good.find("| ratio | 0.5 | >= 0.8 | missed |"), std::string::npos) << not_good;
  EXPECT_EQ(not_good.find("speed"), std::string::npos) << not_good;
}

TEST(TableTest, WritesAFileAsAWhole) {
  const std::string folder = ::testing::TempDir() + "/gpu_check_table_test";
  std::filesystem::remove_all(folder);
  EXPECT_FALSE(WriteWhole(folder + "/table.md", "x").ok()) << "there is no such folder";
  ASSERT_TRUE(std::filesystem::create_directory(folder));
  ASSERT_TRUE(WriteWhole(folder + "/table.md", "first, longer").ok());
  ASSERT_TRUE(WriteWhole(folder + "/table.md", "second").ok());
  std::ifstream file(folder + "/table.md");
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(file), {}), "second");
  size_t files = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder)) ++files;
  EXPECT_EQ(files, 1u) << "a temporary file was left";
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace baton::gpu_check
