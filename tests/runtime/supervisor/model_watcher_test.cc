#include "runtime/supervisor/model_watcher.h"

#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <string>

#include "tests/system/test_server.h"

namespace baton::runtime {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMs = 1'000'000;

// The clock is the test's.
class ModelWatcherTest : public ::testing::Test {
 protected:
  ModelWatcherTest() {
    temp_.Write("config.yaml", "loader: native\n");
    temp_.Write("weights.bin", std::string(1024, 'w'));
    temp_.Write("lib/model.so", "code");
    ModelWatcherOptions options;
    options.max_content_bytes = 512;  // weights.bin goes by identity
    watcher_ = std::make_unique<ModelWatcher>(temp_.path(), now_, options);
  }
  int Pass(int duration_ms) {
    int changes = 0;
    for (int ms = 0; ms < duration_ms; ms += 10) {
      now_ += 10 * kMs;
      changes += watcher_->Check(now_) ? 1 : 0;
    }
    return changes;
  }
  void Touch(const std::string& name) {
    const fs::path path = temp_.path() + "/" + name;
    fs::last_write_time(path, fs::last_write_time(path) + std::chrono::seconds(5));
  }

  testing::TempDirectory temp_;
  int64_t now_ = 1'000'000 * kMs;
  std::unique_ptr<ModelWatcher> watcher_;
};

TEST_F(ModelWatcherTest, EachKindOfChangeIsOne) {
  EXPECT_EQ(Pass(5000), 0);
  temp_.Write("config.yaml", "loader: dense\n");
  EXPECT_EQ(Pass(5000), 1);
  temp_.Write("lib/model.so", "CODE");
  EXPECT_EQ(Pass(5000), 1);
  temp_.Write("new.txt", "x");
  EXPECT_EQ(Pass(5000), 1);
  fs::remove(temp_.path() + "/new.txt");
  EXPECT_EQ(Pass(5000), 1);
  // A swap by rename, same size.
  temp_.Write("weights.tmp~", std::string(1024, 'v'));
  fs::rename(temp_.path() + "/weights.tmp~", temp_.path() + "/weights.bin");
  EXPECT_EQ(Pass(5000), 1);
}

TEST_F(ModelWatcherTest, ATouchIsNothingWhereContentIsReadAndAChangeWhereItIsNot) {
  Touch("config.yaml");
  EXPECT_EQ(Pass(5000), 0);
  Touch("weights.bin");
  EXPECT_EQ(Pass(5000), 1);
}

TEST_F(ModelWatcherTest, ABurstIsOneChangeAfterItHasSettled) {
  for (int i = 0; i < 20; ++i) {
    temp_.Write("config.yaml", "loader: " + std::to_string(i) + "\n");
    EXPECT_EQ(Pass(400), 0) << i;
  }
  EXPECT_EQ(Pass(5000), 1);
}

TEST_F(ModelWatcherTest, AChangeThatIsTakenBackIsNone) {
  temp_.Write("config.yaml", "loader: dense\n");
  Pass(1000);
  temp_.Write("config.yaml", "loader: native\n");
  EXPECT_EQ(Pass(5000), 0);
}

TEST_F(ModelWatcherTest, WhatAWorkerHasLoadedIsNoChange) {
  temp_.Write("config.yaml", "loader: dense\n");
  watcher_->Loaded(now_);  // a reload for another reason
  EXPECT_EQ(Pass(5000), 0);
  temp_.Write("config.yaml", "loader: native\n");
  EXPECT_EQ(Pass(5000), 1);
}

TEST_F(ModelWatcherTest, ScratchFilesDoNotCount) {
  temp_.Write(".config.yaml.swp", "x");
  temp_.Write("config.yaml~", "x");
  temp_.Write("__pycache__/model.pyc", "x");
  EXPECT_EQ(Pass(5000), 0);
}

TEST_F(ModelWatcherTest, SymlinksAreFollowed) {
  temp_.Write("..v1/data.txt", "1");
  temp_.Write("..v2/data.txt", "2");
  fs::create_symlink("..v1", temp_.path() + "/..data");
  fs::create_symlink("..data/data.txt", temp_.path() + "/data.txt");
  EXPECT_EQ(Pass(5000), 1);
  fs::create_symlink("..v2", temp_.path() + "/..data_tmp");
  fs::rename(temp_.path() + "/..data_tmp", temp_.path() + "/..data");
  EXPECT_EQ(Pass(5000), 1);
}

TEST_F(ModelWatcherTest, ADirectoryThatGoesAndComesBackIsFine) {
  fs::rename(temp_.path() + "/lib", temp_.path() + "/.away");
  EXPECT_EQ(Pass(5000), 1);
  fs::rename(temp_.path() + "/.away", temp_.path() + "/lib");
  EXPECT_EQ(Pass(5000), 1);
}

}  // namespace
}  // namespace baton::runtime
