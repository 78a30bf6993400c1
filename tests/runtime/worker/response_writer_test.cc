// Responses as a channel's writer lays them out and describes them: each is described as it is,
// whatever the one before it was, and whoever else describes responses meanwhile.
#include "runtime/worker/response_writer.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "ipc/descriptor.h"
#include "ipc/device.h"

namespace baton::runtime {
namespace {

constexpr uint64_t kBytes = 64 << 10;

class ResponseWriterTest : public testing::Test {
 protected:
  using Shape = std::vector<int64_t>;

  // What a front reads in the block.
  std::vector<ipc::TensorLayout> Described(const ResponseWriter::Description& description) const {
    auto layouts = ipc::ParseResponse({block_.data(), description.bytes}, kBytes, kBytes);
    EXPECT_TRUE(layouts.ok()) << layouts.status();
    return layouts.ok() ? *layouts : std::vector<ipc::TensorLayout>();
  }
  // One response: a, then b.
  ResponseWriter::Description Write(ResponseWriter& writer, const Shape& a, const Shape& b,
                                    const DeviceResultBlock& device = {}) {
    writer.Begin(block_, device);
    EXPECT_TRUE(writer.Allocate(0, a).ok());
    EXPECT_TRUE(writer.Allocate(1, b).ok());
    const auto description = writer.Finish();
    EXPECT_TRUE(description.ok()) << description.status();
    const std::vector<ipc::TensorLayout> layouts = Described(*description);
    EXPECT_EQ(layouts.size(), 2u);
    if (layouts.size() == 2) {
      EXPECT_EQ(layouts[0].shape, a);
      EXPECT_EQ(layouts[1].shape, b);
      EXPECT_EQ(layouts[0].on_device, device.bytes > 0);
    }
    return *description;
  }

  const Signature signature_{
      .inputs = {},
      .outputs = {{.name = "a", .dtype = DType::kFloat32, .shape = {kDynamicDim}},
                  {.name = "b", .dtype = DType::kInt64, .shape = {kDynamicDim, 2}}}};
  ResponseDescriptions descriptions_{signature_};
  ResponseWriter writer_{signature_, descriptions_};
  std::vector<std::byte> block_ = std::vector<std::byte>(kBytes);
};

TEST_F(ResponseWriterTest, WhatLooksLikeTheLastHasItsToken) {
  const uint64_t token = Write(writer_, {3}, {4, 2}).token;
  std::fill(block_.begin(), block_.end(), std::byte{0});  // another block, as it may be
  EXPECT_EQ(Write(writer_, {3}, {4, 2}).token, token);
  EXPECT_NE(Write(writer_, {5}, {4, 2}).token, token);
  EXPECT_EQ(Write(writer_, {3}, {4, 2}).token, token);
  EXPECT_NE(Write(writer_, {3}, {1, 2}).token, token);
}

TEST_F(ResponseWriterTest, AnotherWriterTakesThePlaceOfTheLast) {
  const uint64_t token = Write(writer_, {3}, {4, 2}).token;
  ResponseWriter other(signature_, descriptions_);
  std::set<uint64_t> others;
  // More than are kept, so that the first is not among them.
  for (int64_t n = 100; n < 200; ++n) others.insert(Write(other, {n}, {1, 2}).token);
  EXPECT_EQ(others.size(), 100u);
  const uint64_t again = Write(writer_, {3}, {4, 2}).token;
  EXPECT_NE(again, token) << "a front may know the old one by now as what took its place";
  EXPECT_FALSE(others.contains(again));
}

TEST_F(ResponseWriterTest, TheOrderInWhichOutputsAreAskedForIsTheirPlace) {
  const uint64_t token = Write(writer_, {64}, {4, 2}).token;
  writer_.Begin(block_);
  const auto b = writer_.Allocate(1, Shape{4, 2});
  const auto a = writer_.Allocate(0, Shape{64});
  ASSERT_TRUE(a.ok() && b.ok());
  const auto description = writer_.Finish();
  ASSERT_TRUE(description.ok());
  EXPECT_NE(description->token, token);
  const std::vector<ipc::TensorLayout> layouts = Described(*description);
  ASSERT_EQ(layouts.size(), 2u);
  EXPECT_EQ(block_.data() + layouts[0].offset, a->data());
  EXPECT_EQ(block_.data() + layouts[1].offset, b->data());
}

TEST_F(ResponseWriterTest, OneThatIsLeftOutIsMissedThoughTheLastHadIt) {
  Write(writer_, {3}, {4, 2});
  writer_.Begin(block_);
  ASSERT_TRUE(writer_.Allocate(0, Shape{3}).ok());
  const absl::Status missing = writer_.Finish().status();
  EXPECT_TRUE(absl::IsInternal(missing)) << missing;
  EXPECT_THAT(std::string(missing.message()), testing::HasSubstr("'b'"));
  writer_.Begin(block_);
  ASSERT_TRUE(writer_.Allocate(0, Shape{3}).ok());
  EXPECT_FALSE(writer_.Allocate(0, Shape{3}).ok()) << "twice";
  EXPECT_FALSE(writer_.Finish().ok());
  Write(writer_, {3}, {4, 2});
}

TEST_F(ResponseWriterTest, AShapeIsCheckedWhateverTheLastWas) {
  writer_.Begin(block_);
  EXPECT_FALSE(writer_.Allocate(1, Shape{4}).ok());
  EXPECT_FALSE(writer_.AllocateAs(0, DType::kInvalid, Shape{}).ok());
  Write(writer_, {3}, {4, 2});
  for (const Shape& wrong : {Shape{4}, Shape{4, 3}, Shape{4, 2, 1}, Shape{-4, 2}, Shape{}}) {
    writer_.Begin(block_);
    EXPECT_FALSE(writer_.Allocate(1, wrong).ok());
  }
  writer_.Begin(block_);
  EXPECT_FALSE(writer_.AllocateAs(1, DType::kFloat32, Shape{4, 2}).ok());
  Write(writer_, {3}, {4, 2});
}

TEST_F(ResponseWriterTest, RoomIsCheckedWhateverTheLastWas) {
  Write(writer_, {3}, {4, 2});
  writer_.Begin(std::span(block_).first(writer_.first_offset() + 8));
  const absl::Status refused = writer_.Allocate(0, Shape{3}).status();
  EXPECT_TRUE(absl::IsResourceExhausted(refused)) << refused;
  EXPECT_GT(writer_.needed_bytes(), writer_.first_offset() + 8);
}

TEST_F(ResponseWriterTest, WhatLiesOnADeviceIsDescribedAnew) {
  const uint64_t token = Write(writer_, {3}, {4, 2}).token;
  const std::unique_ptr<ipc::Device> device = ipc::CreateHostDevice(kBytes);
  std::vector<std::byte> there(kBytes);
  const DeviceResultBlock results{
      .device = device.get(), .address = reinterpret_cast<uint64_t>(there.data()), .bytes = kBytes};
  EXPECT_NE(Write(writer_, {3}, {4, 2}, results).token, token);
  EXPECT_EQ(Write(writer_, {3}, {4, 2}).token, token);
}

// ---- Repeating ---------------------------------------------------------------------------------

class ResponseWriterRepeatTest : public ResponseWriterTest {
 protected:
  static constexpr ResponseWriter::Like kLike = {.outputs = 1, .rows = 3};

  void WriteAndRemember(ResponseWriter& writer) {
    written_ = Write(writer, {3}, {4, 2});
    writer.Remember(kLike);
  }
  bool Repeats(ResponseWriter& writer, const ResponseWriter::Like& like = kLike) {
    std::fill(block_.begin(), block_.end(), std::byte{0});
    return writer.Repeat(like, block_, &repeated_);
  }

  ResponseWriter::Description written_;
  ResponseWriter::Description repeated_;
};

TEST_F(ResponseWriterRepeatTest, IsDescribedAndPlacedAsBefore) {
  WriteAndRemember(writer_);
  for (int lap = 0; lap < 3; ++lap) {
    ASSERT_TRUE(Repeats(writer_));
    EXPECT_EQ(repeated_.token, written_.token);
    const std::vector<ipc::TensorLayout> layouts = Described(repeated_);
    ASSERT_EQ(layouts.size(), 2u);
    EXPECT_EQ(layouts[0].shape, Shape({3}));
    for (size_t i = 0; i < 2; ++i) {
      EXPECT_EQ(writer_.Repeated(i).data(), block_.data() + layouts[i].offset);
      EXPECT_EQ(writer_.Repeated(i).size(), layouts[i].bytes);
    }
  }
}

TEST_F(ResponseWriterRepeatTest, NothingWasRemembered) {
  EXPECT_FALSE(Repeats(writer_));
  Write(writer_, {3}, {4, 2});
  EXPECT_FALSE(Repeats(writer_));
  EXPECT_FALSE(Repeats(writer_, {}));
}

TEST_F(ResponseWriterRepeatTest, SomethingElseWasRemembered) {
  WriteAndRemember(writer_);
  EXPECT_FALSE(Repeats(writer_, {.outputs = 2, .rows = 3}));
  EXPECT_FALSE(Repeats(writer_, {.outputs = 1, .rows = 2}));
  EXPECT_TRUE(Repeats(writer_));
}

TEST_F(ResponseWriterRepeatTest, SomethingWasWrittenInBetween) {
  WriteAndRemember(writer_);
  Write(writer_, {3}, {4, 2});
  EXPECT_FALSE(Repeats(writer_));
}

// More are described meanwhile than are kept: a front that reads the token finds another's.
TEST_F(ResponseWriterRepeatTest, ItsDescriptionHasGone) {
  WriteAndRemember(writer_);
  ResponseWriter other(signature_, descriptions_);
  for (int64_t n = 100; n < 200; ++n) Write(other, {n}, {1, 2});
  EXPECT_FALSE(Repeats(writer_));
}

TEST_F(ResponseWriterRepeatTest, ABlockIsTooSmall) {
  WriteAndRemember(writer_);
  const std::span<std::byte> block(block_);
  EXPECT_FALSE(writer_.Repeat(kLike, block.first(writer_.needed_bytes() - 1), &repeated_));
  EXPECT_FALSE(writer_.Repeat(kLike, {}, &repeated_));
  EXPECT_TRUE(writer_.Repeat(kLike, block.first(writer_.needed_bytes()), &repeated_));
}

}  // namespace
}  // namespace baton::runtime
