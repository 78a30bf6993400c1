// Channels and a worker's device memory on huge pages, over real processes. What the machine has of
// them is its own matter: what is said of them is true, and everything works as ever.
#include <cstdint>
#include <numeric>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "ipc/memory_file.h"
#include "tests/ipc/mapping_pages.h"
#include "tests/system/control_system_test.h"

namespace baton::testing {
namespace {

using ::testing::HasSubstr;

uint64_t FreePages() { return MeminfoValue("HugePages_Free"); }

class HugePagesSystemTest : public ControlSystemTest {
 protected:
  // Their segments are no whole huge pages.
  static ChannelOptions Options() {
    return {.ring_entries = 16,
            .request_arena_bytes = (3 << 20) + 12345,
            .response_arena_bytes = 100 << 10,
            .huge_pages = true};
  }
  // The pages of what `process` maps of files whose name contains `name`; that there is any.
  static std::vector<MappingPages> PagesOf(const std::string& process, const std::string& name) {
    std::vector<MappingPages> pages;
    for (const MappingPages& mapping : AllMappingPages(process)) {
      if (mapping.name.find(name) != std::string::npos) pages.push_back(mapping);
    }
    EXPECT_FALSE(pages.empty()) << process << " maps no " << name;
    return pages;
  }
  static void ExpectEchoes(Channel& channel, int seed) {
    absl::StatusOr<Request> request = channel.NewRequest({{"data", DType::kUInt8, {50'000}}});
    ASSERT_TRUE(request.ok()) << request.status();
    const std::span<uint8_t> data = request->input<uint8_t>(0);
    std::iota(data.begin(), data.end(), static_cast<uint8_t>(seed));
    const std::vector<uint8_t> sent(data.begin(), data.end());
    const absl::StatusOr<Response> response =
        channel.Call(*std::move(request), {.timeout = absl::Minutes(2)});
    ASSERT_TRUE(response.ok()) << response.status();
    const std::span<const uint8_t> got = response->output<uint8_t>("data");
    EXPECT_EQ(std::vector<uint8_t>(got.begin(), got.end()), sent);
  }
};

TEST_F(HugePagesSystemTest, AChannelWorksOnThePagesThatItSays) {
  Serve({"behaviour: echo"});
  const uint64_t huge = ipc::HugePageBytes();
  const uint64_t before = FreePages();
  {
    absl::StatusOr<Channel> channel = front_->OpenChannel(Options());
    ASSERT_TRUE(channel.ok()) << channel.status();
    if (before >= (4 << 20) / huge + 2) {
      EXPECT_EQ(channel->page_kind(), PageKind::kHugetlb);
    }
    for (int i = 0; i < 50; ++i) ASSERT_NO_FATAL_FAILURE(ExpectEchoes(*channel, i));
    const std::string worker = absl::StrCat(server_->WorkerOf(1));
    for (const std::string& process : {std::string("self"), worker}) {
      PageKind least = PageKind::kHugetlb;
      for (const MappingPages& pages : PagesOf(process, "baton-segment")) {
        if (pages.mapped_bytes <= 4096) continue;  // the pages that everybody reads
        least = std::min(least, pages.kind(huge));
      }
      EXPECT_EQ(least, channel->page_kind()) << process;
    }
    // The worker after the next maps them, too.
    const absl::Status reloaded = Reload();
    ASSERT_TRUE(reloaded.ok()) << reloaded;
    ExpectEchoes(*channel, 77);
  }
  // Nothing of a closed channel is left mapped, by the worker either.
  EXPECT_TRUE(WaitFor([&] { return FreePages() >= before; }));
}

TEST_F(HugePagesSystemTest, WithoutTheOptionThereAreNone) {
  Serve({"behaviour: echo"});
  ChannelOptions options = Options();
  options.huge_pages = false;
  absl::StatusOr<Channel> channel = front_->OpenChannel(options);
  ASSERT_TRUE(channel.ok()) << channel.status();
  EXPECT_EQ(channel->page_kind(), PageKind::kNormal);
}

TEST_F(HugePagesSystemTest, DeviceMemoryIsOnThePagesThatTheLogSaysAndIsConfirmedFreed) {
  const uint64_t huge = ipc::HugePageBytes();
  constexpr uint64_t kWeights = 5 << 20;
  const uint64_t arena = (kWeights + huge - 1) / huge * huge;
  const uint64_t before = FreePages();
  Serve({"behaviour: weights", absl::StrCat("weights_bytes: ", kWeights)},
        "device_huge_pages: true\n");
  const auto sum = [&]() -> uint64_t {
    absl::StatusOr<Channel> channel = front_->OpenChannel();
    EXPECT_TRUE(channel.ok()) << channel.status();
    absl::StatusOr<Request> request = channel->NewRequest({{"data", DType::kUInt8, {1}}});
    EXPECT_TRUE(request.ok()) << request.status();
    absl::StatusOr<Response> response = channel->Call(*std::move(request));
    EXPECT_TRUE(response.ok()) << response.status();
    return response.ok() ? response->output<uint64_t>("sum")[0] : 0;
  };
  EXPECT_EQ(sum(), kWeights);  // each byte is 1
  const std::vector<MappingPages> pages =
      PagesOf(absl::StrCat(server_->WorkerOf(1)), "baton-device-g1");
  ASSERT_EQ(pages.size(), 1u);
  const PageKind kind = pages[0].kind(huge);
  if (before >= arena / huge) {
    EXPECT_EQ(kind, PageKind::kHugetlb);
  }
  const char* const text = kind == PageKind::kHugetlb           ? "reserved huge"
                           : kind == PageKind::kTransparentHuge ? "transparent huge"
                                                                : "normal";
  EXPECT_THAT(server_->Log(),
              HasSubstr(absl::StrCat(arena, " bytes of device memory are on ", text, " pages")));

  absl::StatusOr<ControlClient> client = Client();
  ASSERT_TRUE(client.ok()) << client.status();
  EXPECT_EQ(client->Status().device_bytes, arena);
  const ControlClient::Reloaded reloaded = client->Reload();
  ASSERT_EQ(reloaded.outcome, "swapped") << reloaded.status << reloaded.reason;
  EXPECT_EQ(reloaded.verdict, "freed");
  EXPECT_EQ(sum(), kWeights);
  front_.reset();
  server_.reset();
  EXPECT_TRUE(WaitFor([&] { return FreePages() >= before; }));
}

}  // namespace
}  // namespace baton::testing
