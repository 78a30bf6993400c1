// Descriptions of tensors: round trips, every way to be wrong, and garbage
// (R6): never a crash, never a tensor outside its block.
#include "ipc/descriptor.h"

#include <capnp/message.h>
#include <capnp/serialize.h>

#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "ipc/channel_layout.h"
#include "ipc/schema/tensor.capnp.h"

namespace baton::ipc {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr uint64_t kBlock = 8192;
constexpr uint64_t kDeviceBlock = 512;

std::vector<TensorLayout> TwoTensors() {
  return {{.name = "image", .dtype = DType::kFloat32, .shape = {2, 8}, .offset = 128, .bytes = 64},
          {.name = "flags", .dtype = DType::kBool, .shape = {}, .offset = 256, .bytes = 1}};
}

DescriptorBytes Encode(const std::function<void(schema::Tensor::Builder)>& fill) {
  capnp::MallocMessageBuilder message;
  schema::Tensor::Builder tensor = message.initRoot<schema::Request>().initInputs(1)[0];
  tensor.setName("t");
  tensor.setDtype(static_cast<uint8_t>(DType::kFloat32));
  auto shape = tensor.initShape(2);
  shape.set(0, 4);
  shape.set(1, 8);
  tensor.setOffset(128);
  tensor.setBytes(128);
  fill(tensor);
  const kj::Array<capnp::word> words = capnp::messageToFlatArray(message);
  const auto bytes = words.asBytes();
  const auto* begin = reinterpret_cast<const std::byte*>(bytes.begin());
  return {begin, begin + bytes.size()};
}

TEST(Descriptor, RoundTrips) {
  for (const std::vector<TensorLayout>& layouts : {std::vector<TensorLayout>{}, TwoTensors()}) {
    const absl::StatusOr<DescriptorBytes> request = EncodeRequest(layouts);
    ASSERT_TRUE(request.ok());
    EXPECT_EQ(*ParseRequest(*request, kBlock), layouts);
    const absl::StatusOr<DescriptorBytes> response = EncodeResponse(layouts);
    ASSERT_TRUE(response.ok());
    EXPECT_EQ(*ParseResponse(*response, kBlock), layouts);
  }
}

TEST(Descriptor, RoundTripsEveryDTypeAndRank) {
  for (uint8_t number = 1; number <= kMaxDType; ++number) {
    const auto dtype = static_cast<DType>(number);
    for (size_t rank = 0; rank <= kMaxRank; ++rank) {
      const std::vector<TensorLayout> layouts = {{.name = std::string(kMaxNameBytes, 'n'),
                                                  .dtype = dtype,
                                                  .shape = std::vector<int64_t>(rank, 2),
                                                  .offset = 128,
                                                  .bytes = DTypeBytes(dtype) << rank}};
      EXPECT_EQ(*ParseRequest(*EncodeRequest(layouts), kBlock), layouts);
    }
  }
}

TEST(Descriptor, EmptyTensorsAndTheVeryEndOfABlock) {
  const std::vector<TensorLayout> layouts = {
      {.name = "none", .dtype = DType::kInt64, .shape = {0, 3}, .offset = kBlock, .bytes = 0},
      {.name = "last",
       .dtype = DType::kUInt8,
       .shape = {128},
       .offset = kBlock - 128,
       .bytes = 128}};
  EXPECT_EQ(*ParseRequest(*EncodeRequest(layouts), kBlock), layouts);
  EXPECT_FALSE(ParseRequest(*EncodeRequest(layouts), kBlock - 1).ok());
}

// Equal shapes have equal bytes wherever their blocks lie: what a prepared
// description rests on.
TEST(Descriptor, IsTheSameEveryTime) {
  EXPECT_EQ(*EncodeRequest(TwoTensors()), *EncodeRequest(TwoTensors()));
}

TEST(Descriptor, FitsWhatIsSetAsideForIt) {
  for (const size_t count : {size_t{0}, size_t{1}, size_t{7}, kMaxTensors}) {
    for (const size_t name_bytes : {size_t{1}, size_t{7}, size_t{8}, kMaxNameBytes}) {
      std::vector<TensorSpec> specs;
      std::vector<TensorLayout> layouts;
      for (size_t i = 0; i < count; ++i) {
        specs.push_back({.name = std::string(name_bytes, 'x'),
                         .dtype = DType::kFloat32,
                         .shape = std::vector<int64_t>(kMaxRank, kDynamicDim)});
        layouts.push_back({.name = specs.back().name,
                           .dtype = DType::kFloat32,
                           .shape = std::vector<int64_t>(kMaxRank, 1),
                           .offset = 128 * i,
                           .bytes = 4});
      }
      const uint64_t reserve = DescriptorReserve(specs);
      EXPECT_EQ(reserve % kGranuleBytes, 0u);
      EXPECT_LE(EncodeRequest(layouts)->size(), reserve) << count << " names of " << name_bytes;
      EXPECT_LE(EncodeResponse(layouts)->size(), reserve);
      EXPECT_LE(reserve, kMaxDescriptorBytes);
    }
  }
}

TEST(Descriptor, TooManyTensorsToDescribeIsAStatus) {
  std::vector<TensorLayout> layouts(2000, TwoTensors()[0]);
  EXPECT_TRUE(absl::IsResourceExhausted(EncodeRequest(layouts).status()));
}

// ---- Every error -------------------------------------------------------------------------------

struct Wrong {
  const char* says;
  std::function<void(schema::Tensor::Builder)> fill;
};

TEST(DescriptorErrors, EachNamesTheTensorAndWhatIsWrong) {
  ASSERT_TRUE(ParseRequest(Encode([](auto) {}), kBlock).ok());
  const Wrong wrongs[] = {
      {"name has 0 bytes", [](auto t) { t.setName(""); }},
      {"name has 256 bytes", [](auto t) { t.setName(std::string(256, 'x').c_str()); }},
      {"dtype 0 does not exist", [](auto t) { t.setDtype(0); }},
      {"dtype 14 does not exist", [](auto t) { t.setDtype(kMaxDType + 1); }},
      {"9 dimensions", [](auto t) { t.initShape(9); }},
      {"negative dimension", [](auto t) { t.getShape().set(0, -1); }},
      {"overflows",
       [](auto t) {
         t.getShape().set(0, int64_t{1} << 62);
         t.getShape().set(1, int64_t{1} << 62);
       }},
      {"its shape needs 128", [](auto t) { t.setBytes(127); }},
      {"its shape needs 128", [](auto t) { t.setBytes(~uint64_t{0}); }},
      {"not a multiple of 128", [](auto t) { t.setOffset(64); }},
      {"outside its block", [](auto t) { t.setOffset(kBlock); }},
      {"outside its block", [](auto t) { t.setOffset(kBlock + 128); }},
      {"outside its block", [](auto t) { t.setOffset(~uint64_t{0} - 127); }},
      {"outside its block",
       [](auto t) {
         t.getShape().set(0, int64_t{1} << 40);
         t.setBytes(uint64_t{1} << 45);
       }},
      {"on a device", [](auto t) { t.setRegion(schema::Tensor::Region::DEVICE); }},
      {"strides and shape differ", [](auto t) { t.initStrides(1); }},
      {"dense row-major",
       [](auto t) {
         auto strides = t.initStrides(2);
         strides.set(0, 1);
         strides.set(1, 4);
       }},
  };
  for (const Wrong& wrong : wrongs) {
    const absl::Status status = ParseRequest(Encode(wrong.fill), kBlock).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << wrong.says << ": " << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(wrong.says));
    EXPECT_THAT(std::string(status.message()), HasSubstr("tensor"));
  }
}

TEST(DescriptorErrors, DenseStridesMayBeSaid) {
  EXPECT_TRUE(ParseRequest(Encode([](auto t) {
                             auto strides = t.initStrides(2);
                             strides.set(0, 8);
                             strides.set(1, 1);
                           }),
                           kBlock)
                  .ok());
}

TEST(DescriptorErrors, TooManyTensors) {
  const std::vector<TensorLayout> layouts(kMaxTensors + 1, TwoTensors()[1]);
  const absl::StatusOr<DescriptorBytes> bytes = EncodeRequest(layouts);
  ASSERT_TRUE(bytes.ok());
  EXPECT_TRUE(absl::IsInvalidArgument(ParseRequest(*bytes, kBlock).status()));
}

TEST(DescriptorErrors, BytesThatAreNoMessage) {
  for (const size_t size :
       {size_t{0}, size_t{1}, size_t{7}, size_t{9}, size_t{kMaxDescriptorBytes} + 8}) {
    EXPECT_TRUE(
        absl::IsInvalidArgument(ParseRequest(std::vector<std::byte>(size), kBlock).status()))
        << size;
  }
  EXPECT_FALSE(ParseRequest(std::vector<std::byte>(64, std::byte{0xff}), kBlock).ok());
  // Truncated anywhere.
  const DescriptorBytes whole = *EncodeRequest(TwoTensors());
  for (size_t size = 0; size < whole.size(); size += 8) {
    EXPECT_FALSE(ParseRequest(std::span(whole).first(size), kBlock).ok()) << size;
  }
}

// A few bytes that say "sixty million tensors", or point at the same tensor
// again and again, must not cost more than their size.
TEST(DescriptorErrors, AmplificationIsRefused) {
  capnp::MallocMessageBuilder message;
  message.initRoot<schema::Request>().initInputs(1);
  const kj::Array<capnp::word> words = capnp::messageToFlatArray(message);
  std::vector<uint64_t> raw(words.size());
  std::memcpy(raw.data(), words.begin(), raw.size() * 8);
  // word 3: the list's tag, whose upper half of the lower word is the count.
  for (size_t i = 0; i < raw.size(); ++i) {
    std::vector<uint64_t> copy = raw;
    copy[i] |= uint64_t{0x3ffffff} << 2;
    static_cast<void>(ParseRequest(std::as_bytes(std::span(copy)), kBlock));
    copy[i] = raw[i] | uint64_t{0x1fffffff} << 35;
    static_cast<void>(ParseRequest(std::as_bytes(std::span(copy)), kBlock));
  }
}

// ---- Matching ----------------------------------------------------------------------------------

std::vector<TensorSpec> Specs() {
  return {{.name = "flags", .dtype = DType::kBool, .shape = {}},
          {.name = "image", .dtype = DType::kFloat32, .shape = {kDynamicDim, 8}}};
}

TEST(MatchSpecs, FindsEachTensorInAnyOrder) {
  EXPECT_THAT(*MatchSpecs(Specs(), TwoTensors()), ElementsAre(1, 0));
  std::vector<TensorLayout> swapped = TwoTensors();
  std::swap(swapped[0], swapped[1]);
  EXPECT_THAT(*MatchSpecs(Specs(), swapped), ElementsAre(0, 1));
  EXPECT_TRUE(MatchSpecs({}, {})->empty());
}

TEST(MatchSpecs, TakesWhatTheSignatureLeavesOpen) {
  TensorSpec open{.name = "x", .dtype = DType::kAny, .shape = {kAnyRank}};
  const TensorSpec left_out{.name = "y", .dtype = DType::kInt64, .shape = {}, .optional = true};
  for (const DType dtype : {DType::kBool, DType::kFloat64}) {
    for (const std::vector<int64_t>& shape : {std::vector<int64_t>{}, {0}, {2, 3, 4}}) {
      const std::vector<TensorLayout> layouts = {{.name = "x", .dtype = dtype, .shape = shape}};
      EXPECT_THAT(*MatchSpecs(std::vector{left_out, open}, layouts), ElementsAre(kNoLayout, 0));
    }
  }
  const std::vector<TensorLayout> layouts = {{.name = "x", .dtype = DType::kBool, .shape = {1, 2}}};
  open.shape = {kDynamicDim};
  EXPECT_FALSE(MatchSpecs(std::vector{open}, layouts).ok()) << "another rank";
  open = {.name = "x", .dtype = DType::kInt8, .shape = {kAnyRank}};
  EXPECT_FALSE(MatchSpecs(std::vector{open}, layouts).ok()) << "another dtype";
  EXPECT_FALSE(MatchSpecs(std::vector{open, left_out}, {}).ok()) << "the one that is not optional";
}

TEST(MatchSpecs, SaysWhatIsWrongAndWhatWasExpected) {
  struct Case {
    const char* says;
    std::function<void(std::vector<TensorLayout>&)> spoil;
  };
  const Case cases[] = {
      {"no such tensor; it has: flags, image", [](auto& l) { l[0].name = "picture"; }},
      {"twice", [](auto& l) { l[1] = l[0]; }},
      {"'flags' is missing", [](auto& l) { l.pop_back(); }},
      {"the model takes image: float32[?, 8]", [](auto& l) { l[0].dtype = DType::kInt32; }},
      {"the model takes image: float32[?, 8]",
       [](auto& l) {
         l[0].shape = {2, 9};
       }},
      {"the model takes image: float32[?, 8]", [](auto& l) { l[0].shape = {16}; }},
      {"the model takes flags: bool[]", [](auto& l) { l[1].shape = {1}; }},
  };
  for (const Case& wrong : cases) {
    std::vector<TensorLayout> layouts = TwoTensors();
    wrong.spoil(layouts);
    const absl::Status status = MatchSpecs(Specs(), layouts).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << wrong.says;
    EXPECT_THAT(std::string(status.message()), HasSubstr(wrong.says));
  }
}

TEST(LayoutEnd, IsTheLastByte) {
  EXPECT_EQ(LayoutEnd({}), 0u);
  EXPECT_EQ(LayoutEnd(TwoTensors()), 257u);
}

// ---- On the device ------------------------------------------------------------------------------

std::vector<TensorLayout> OneThereOneHere() {
  std::vector<TensorLayout> tensors = TwoTensors();
  tensors[0].offset = 384;
  tensors[0].on_device = true;
  return tensors;
}

TEST(DeviceTensors, RoundTripWhereSomethingWasLoaned) {
  const DescriptorBytes bytes = *EncodeResponse(OneThereOneHere());
  const auto layouts = ParseResponse(bytes, kBlock, kDeviceBlock);
  ASSERT_TRUE(layouts.ok()) << layouts.status();
  EXPECT_EQ(*layouts, OneThereOneHere());
  EXPECT_EQ(LayoutEnd(*layouts), 257u);
  EXPECT_EQ(DeviceLayoutEnd(*layouts), 448u);
}

TEST(DeviceTensors, AreRefusedWhereNothingWas) {
  const DescriptorBytes bytes = *EncodeResponse(OneThereOneHere());
  EXPECT_THAT(ParseResponse(bytes, kBlock).status().ToString(), HasSubstr("nothing was loaned"));
  EXPECT_FALSE(ParseRequest(bytes, kBlock).ok());
  // Each is held against its own block.
  EXPECT_THAT(ParseResponse(bytes, kBlock, 384).status().ToString(), HasSubstr("outside"));
}

// ---- Garbage (R6) ------------------------------------------------------------------------------

// Whatever is accepted must lie inside the block, whatever the bytes were.
void ParseAndCheck(std::span<const std::byte> bytes, int* accepted) {
  for (const auto& layouts : {ParseRequest(bytes, kBlock), ParseResponse(bytes, kBlock),
                              ParseResponse(bytes, kBlock, kDeviceBlock)}) {
    if (!layouts.ok()) continue;
    ++*accepted;
    ASSERT_LE(layouts->size(), kMaxTensors);
    for (const TensorLayout& layout : *layouts) {
      const uint64_t block = layout.on_device ? kDeviceBlock : kBlock;
      ASSERT_LE(layout.offset, block);
      ASSERT_LE(layout.bytes, block - layout.offset);
      ASSERT_EQ(layout.offset % kSharedAlignment, 0u);
      ASSERT_LE(layout.shape.size(), kMaxRank);
      ASSERT_EQ(TensorBytes(layout.dtype, layout.shape), layout.bytes);
      ASSERT_LE(layout.name.size(), kMaxNameBytes);
    }
    ASSERT_LE(LayoutEnd(*layouts), kBlock);
    ASSERT_LE(DeviceLayoutEnd(*layouts), kDeviceBlock);
  }
}

TEST(DescriptorGarbage, EverySingleByteSetToEveryValue) {  // R6
  const DescriptorBytes whole = *EncodeRequest(TwoTensors());
  int accepted = 0;
  for (size_t at = 0; at < whole.size(); ++at) {
    DescriptorBytes bytes = whole;
    for (int value = 0; value < 256; ++value) {
      bytes[at] = static_cast<std::byte>(value);
      ASSERT_NO_FATAL_FAILURE(ParseAndCheck(bytes, &accepted)) << at << " = " << value;
    }
  }
  EXPECT_GT(accepted, 0) << "a changed name, at least, is still a description";
}

TEST(DescriptorGarbage, SeveralWordsAtOnce) {  // R6
  const DescriptorBytes whole = *EncodeRequest(TwoTensors());
  std::mt19937_64 random(20);
  int accepted = 0;
  for (int round = 0; round < 30'000; ++round) {
    DescriptorBytes bytes = whole;
    for (uint64_t hits = 1 + random() % 6; hits > 0; --hits) {
      const size_t at = random() % bytes.size();
      switch (random() % 4) {
        case 0:
          bytes[at] ^= static_cast<std::byte>(1 << random() % 8);
          break;
        case 1:
          bytes[at] = static_cast<std::byte>(random());
          break;
        case 2: {  // a word of another place: pointers that lead elsewhere
          const size_t to = at / 8 * 8;
          const size_t from = random() % (bytes.size() / 8) * 8;
          std::memcpy(bytes.data() + to, whole.data() + from, 8);
          break;
        }
        default: {
          const uint64_t extremes[] = {0, ~uint64_t{0}, uint64_t{1} << 63, 0x7fffffff, random()};
          std::memcpy(bytes.data() + at / 8 * 8, &extremes[random() % 5], 8);
        }
      }
    }
    if (random() % 8 == 0) bytes.resize(random() % (bytes.size() / 8 + 1) * 8);
    ASSERT_NO_FATAL_FAILURE(ParseAndCheck(bytes, &accepted)) << "round " << round;
  }
}

TEST(DescriptorGarbage, NothingButNoise) {  // R6
  std::mt19937_64 random(21);
  int accepted = 0;
  for (int round = 0; round < 10'000; ++round) {
    std::vector<std::byte> bytes(8 * (1 + random() % 64));
    for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
    // A first word that says "one segment of the right size" gets further.
    if (round % 2 == 0) {
      const uint64_t table = (bytes.size() / 8 - 1) << 32;
      std::memcpy(bytes.data(), &table, 8);
    }
    ASSERT_NO_FATAL_FAILURE(ParseAndCheck(bytes, &accepted)) << "round " << round;
  }
}

}  // namespace
}  // namespace baton::ipc
