#include "bench/histogram_file.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <iterator>

#include "tests/tools/shmctl/json_reader.h"

namespace baton::bench {
namespace {

using testing::JsonReader;

// The reader takes one line; line ends between tokens mean nothing in JSON.
JsonReader Parsed(std::string text) {
  std::replace(text.begin(), text.end(), '\n', ' ');
  return JsonReader(text + "\n");
}

TEST(HistogramFileTest, HasEverySample) {
  runtime::LatencyHistogram one, other;
  for (const uint64_t ns : {120, 130, 130, 1'000'000}) one.Add(ns);
  other.Add(7);
  const JsonReader json =
      Parsed(HistogramsJson({{"machine", "a \"quoted\" one"}}, {{"A/64", &one}, {"B", &other}}));
  EXPECT_EQ(json["context"]["machine"].Text(), "a \"quoted\" one");
  ASSERT_EQ(json["histograms"].size(), 2u);
  const JsonReader first = json["histograms"][0];
  EXPECT_EQ(first["name"].Text(), "A/64");
  EXPECT_EQ(first["count"].Number(), 4);
  EXPECT_EQ(first["min_ns"].Number(), 120);
  EXPECT_EQ(first["max_ns"].Number(), 1'000'000);
  ASSERT_EQ(first["buckets"].size(), 3u);
  EXPECT_EQ(first["buckets"][0].Numbers(), (std::vector<double>{120, 1}));
  EXPECT_EQ(first["buckets"][1].Numbers(), (std::vector<double>{130, 2}));
  EXPECT_NEAR(first["buckets"][2].Numbers()[0], 1'000'000, 10'000);
  EXPECT_EQ(json["histograms"][1]["buckets"][0].Numbers(), (std::vector<double>{7, 1}));
}

TEST(HistogramFileTest, OfNothingIsJson) {
  EXPECT_EQ(Parsed(HistogramsJson({}, {}))["histograms"].size(), 0u);
}

TEST(HistogramFileTest, SaysWhichFileItCannotWrite) {
  const absl::Status status = WriteFile("/no/such/folder/file.json", "x");
  EXPECT_NE(status.ToString().find("/no/such/folder/file.json"), std::string::npos) << status;
  const std::string path = ::testing::TempDir() + "/histogram_file_test.json";
  ASSERT_TRUE(WriteFile(path, "first, longer").ok());
  ASSERT_TRUE(WriteFile(path, "second").ok());
  std::ifstream file(path);
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(file), {}), "second");
}

}  // namespace
}  // namespace baton::bench
