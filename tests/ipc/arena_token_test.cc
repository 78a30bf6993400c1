#include "ipc/cuda/arena_token.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <string>

namespace baton::ipc::cuda {
namespace {

using ::testing::HasSubstr;

ArenaToken Sample() {
  ArenaToken token{.transport = Transport::kIpc,
                   .handle = IpcMemHandle{},
                   .base_offset = 4096,
                   .bytes = 8 << 20,
                   .device_uuid = {},
                   .ordinal = 3,
                   .generation = 17,
                   .owner = {.pid = 4711, .start_time = 123456}};
  for (size_t i = 0; i < sizeof(IpcMemHandle); ++i) {
    token.handle->bytes[i] = static_cast<unsigned char>(200 + i);
  }
  for (size_t i = 0; i < sizeof(Uuid); ++i) {
    token.device_uuid.bytes[i] = static_cast<unsigned char>(i);
  }
  return token;
}

TEST(ArenaToken, WhatWasWrittenIsRead) {
  const ArenaToken sample = Sample();
  const absl::StatusOr<ArenaToken> read = ParseArenaToken(EncodeArenaToken(sample));
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->transport, Transport::kIpc);
  ASSERT_TRUE(read->handle.has_value());
  EXPECT_EQ(std::to_array(read->handle->bytes), std::to_array(sample.handle->bytes));
  EXPECT_EQ(read->device_uuid, sample.device_uuid);
  EXPECT_EQ(read->base_offset, 4096u);
  EXPECT_EQ(read->bytes, 8u << 20);
  EXPECT_EQ(read->ordinal, 3u);
  EXPECT_EQ(read->generation, 17u);
  EXPECT_EQ(read->owner, sample.owner);
}

TEST(ArenaToken, AnAnnouncementHasNoHandle) {
  ArenaToken sample = Sample();
  sample.transport = Transport::kVmm;
  sample.handle.reset();
  const absl::StatusOr<ArenaToken> read = ParseArenaToken(EncodeArenaToken(sample));
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->transport, Transport::kVmm);
  EXPECT_FALSE(read->handle.has_value());
}

TEST(ArenaToken, WhatCannotBeIsRefused) {
  ArenaToken empty = Sample();
  empty.bytes = 0;
  EXPECT_THAT(ParseArenaToken(EncodeArenaToken(empty)).status().ToString(), HasSubstr("0 bytes"));
  ArenaToken nobody = Sample();
  nobody.owner.pid = 0;
  EXPECT_THAT(ParseArenaToken(EncodeArenaToken(nobody)).status().ToString(), HasSubstr("pid 0"));
  EXPECT_FALSE(ParseArenaToken("").ok());
  EXPECT_FALSE(ParseArenaToken("no message").ok());
  EXPECT_FALSE(ParseArenaToken(std::string(1 << 16, '\0')).ok());
}

// R6: a front gets it from a worker, which runs a model's code.
TEST(ArenaToken, GarbageIsAStatus) {
  const std::string good = EncodeArenaToken(Sample());
  std::mt19937 random(1);
  for (int round = 0; round < 20'000; ++round) {
    std::string bytes = good;
    const int flips = 1 + static_cast<int>(random() % 8);
    for (int i = 0; i < flips; ++i) {
      bytes[random() % bytes.size()] ^= static_cast<char>(1u << (random() % 8));
    }
    if (random() % 4 == 0) bytes.resize(random() % (bytes.size() + 1));
    const absl::StatusOr<ArenaToken> read = ParseArenaToken(bytes);
    if (!read.ok()) {
      EXPECT_EQ(read.status().code(), absl::StatusCode::kInvalidArgument);
      continue;
    }
    EXPECT_GT(read->bytes, 0u);
    EXPECT_GT(read->owner.pid, 0);
  }
}

}  // namespace
}  // namespace baton::ipc::cuda
