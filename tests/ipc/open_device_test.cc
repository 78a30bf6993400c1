#include "ipc/open_device.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "ipc/cuda/driver.h"

namespace baton::ipc {
namespace {

using ::testing::HasSubstr;

TEST(DeviceName, HostAndGpusByNumber) {
  EXPECT_EQ(ParseDeviceName("host")->kind, DeviceName::Kind::kHost);
  EXPECT_EQ(ParseDeviceName("cuda:0")->kind, DeviceName::Kind::kCuda);
  EXPECT_EQ(ParseDeviceName("cuda:12")->ordinal, 12u);
  for (const char* bad : {"", "cuda", "cuda:", "cuda:x", "cuda:-1", "cuda:1x", "cuda: 1", "gpu:0",
                          "Host", "cuda:99999999999"}) {
    EXPECT_THAT(ParseDeviceName(bad).status().ToString(), HasSubstr("cuda:0")) << bad;
  }
}

TEST(OpenDevice, TheHostDeviceNeedsNoAnnouncement) {
  EXPECT_TRUE(ProbeDevice({.name = "host", .transport = {}}).ok());
  const auto announced = AnnounceArena({.name = "host", .transport = {}}, 4096, 1);
  ASSERT_TRUE(announced.ok());
  EXPECT_FALSE(announced->has_value());
  const auto device = OpenDevice({.name = "host", .transport = {}}, 1 << 20);
  ASSERT_TRUE(device.ok());
  EXPECT_EQ((*device)->name(), "host");
}

// What a machine without a GPU says; on one with, there is nothing to say.
TEST(OpenDevice, WithoutADriverItSaysSoAndWhatToDo) {
  const absl::StatusOr<const cuda::Driver*> driver = cuda::Driver::Get();
  const absl::StatusOr<DeviceProfile> profile = ProbeDevice({.name = "cuda:0", .transport = {}});
  ASSERT_EQ(profile.ok(), driver.ok());
  if (driver.ok()) return;
  EXPECT_EQ(profile.status(), driver.status());
  EXPECT_THAT(profile.status().ToString(), HasSubstr("device: host"));
}

TEST(ImportArena, AGarbageTokenIsAStatus) {
  const auto arena =
      ImportArena({.fd = {}, .token = "no such thing", .bytes = 4096, .generation = 3});
  EXPECT_EQ(arena.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(arena.status().ToString(), HasSubstr("generation 3"));
}

TEST(ImportArena, ATokenOfAnotherArenaIsRefused) {
  const std::string token = cuda::EncodeArenaToken({.transport = cuda::Transport::kIpc,
                                                    .handle = cuda::IpcMemHandle{},
                                                    .base_offset = 0,
                                                    .bytes = 2 << 20,
                                                    .device_uuid = {},
                                                    .ordinal = 0,
                                                    .generation = 4,
                                                    .owner = {.pid = 1, .start_time = 1}});
  const auto other = ImportArena({.fd = {}, .token = token, .bytes = 2 << 20, .generation = 5});
  EXPECT_EQ(other.status().code(), absl::StatusCode::kInvalidArgument);
  const auto larger = ImportArena({.fd = {}, .token = token, .bytes = 4 << 20, .generation = 4});
  EXPECT_EQ(larger.status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace baton::ipc
