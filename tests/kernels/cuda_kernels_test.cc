// Each CUDA kernel against its CPU reference, on the machine that is linked in.
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <tuple>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

#include "kernels/cast.h"
#include "kernels/dense.h"
#include "kernels/digest.h"
#include "kernels/pack.h"
#include "tests/kernels/device_array.h"
#include "tests/kernels/on_machine.h"
#include "tests/kernels/random_floats.h"

namespace baton::kernels::cuda {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::vector<std::byte> RandomBytes(size_t count, uint32_t seed) {
  std::mt19937 engine(seed);
  std::vector<std::byte> bytes(count);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(engine());
  return bytes;
}

// ---- Pack and unpack ----

struct RowsShape {
  std::vector<uint64_t> rows;
  uint64_t row_bytes;
  uint64_t offset_bytes;  // of every address
};

std::vector<uint64_t> ManyRows() {  // more blocks than one launch takes
  std::vector<uint64_t> rows;
  for (uint64_t i = 0; i < 2 * kMaxRowBlocks + 3; ++i) rows.push_back(i % 4);
  return rows;
}

class RowsOnMachine : public OnMachine, public ::testing::WithParamInterface<RowsShape> {
 protected:
  void SetUp() override {
    OnMachine::SetUp();
    if (machine_ == nullptr) return;
    const auto& [rows, row_bytes, offset] = GetParam();
    for (const uint64_t count : rows) {
      auto& part = parts_.emplace_back(
          RandomBytes(count * row_bytes, static_cast<uint32_t>(parts_.size() + 1)));
      arrays_.push_back(std::make_unique<DeviceArray<std::byte>>(*machine_, part, offset));
      blocks_.push_back({.address = arrays_.back()->address(), .rows = count});
      total_ += part.size();
    }
  }

  std::vector<std::vector<std::byte>> parts_;
  std::vector<std::unique_ptr<DeviceArray<std::byte>>> arrays_;
  std::vector<DeviceRows> blocks_;
  size_t total_ = 0;
};

TEST_P(RowsOnMachine, PackEqualsTheReference) {
  const auto& [rows, row_bytes, offset] = GetParam();
  std::vector<RowBlock> host;
  for (size_t i = 0; i < rows.size(); ++i) {
    host.push_back({.data = parts_[i].data(), .rows = rows[i]});
  }
  std::vector<std::byte> expected(total_);
  kernels::Pack(host, row_bytes, expected.data());
  DeviceArray<std::byte> batch(*machine_, std::vector<std::byte>(total_), offset);

  Finish(machine_->Pack(blocks_, row_bytes, batch.address()));

  EXPECT_EQ(batch.Read(), expected);
  for (size_t i = 0; i < rows.size(); ++i) EXPECT_EQ(arrays_[i]->Read(), parts_[i]);
}

TEST_P(RowsOnMachine, UnpackEqualsTheReference) {
  const auto& [rows, row_bytes, offset] = GetParam();
  const auto source = RandomBytes(total_, 1000);
  DeviceArray<std::byte> batch(*machine_, source, offset);
  std::vector<MutableRowBlock> host;
  for (size_t i = 0; i < rows.size(); ++i) {
    host.push_back({.data = parts_[i].data(), .rows = rows[i]});
  }
  kernels::Unpack(source.data(), row_bytes, host);

  Finish(machine_->Unpack(batch.address(), row_bytes, blocks_));

  for (size_t i = 0; i < rows.size(); ++i) EXPECT_EQ(arrays_[i]->Read(), parts_[i]) << i;
  EXPECT_EQ(batch.Read(), source);
}

INSTANTIATE_TEST_SUITE_P(Shapes, RowsOnMachine,
                         ::testing::Values(RowsShape{{}, 16, 0}, RowsShape{{0, 0}, 16, 0},
                                           RowsShape{{1}, 1, 0}, RowsShape{{3, 0, 5}, 16, 0},
                                           RowsShape{{2, 1, 4}, 12, 0}, RowsShape{{2, 1, 4}, 16, 4},
                                           RowsShape{{7, 3, 1}, 5, 0}, RowsShape{{4, 4}, 16, 1},
                                           RowsShape{{1, 2}, 20'011, 0},
                                           RowsShape{{1, 33}, 4096, 0},
                                           RowsShape{ManyRows(), 24, 0}));

// ---- Cast ----

constexpr FloatType kFloatTypes[] = {FloatType::kFloat32, FloatType::kFloat16,
                                     FloatType::kBfloat16};

class CastOnMachine : public OnMachine,
                      public ::testing::WithParamInterface<std::tuple<FloatType, FloatType>> {
 protected:
  // Addresses are `off` elements off an alignment to 256.
  void Check(size_t count, uint64_t off) {
    const auto [from, to] = GetParam();
    // All patterns in the upper half of an element: exponents of every size, NaNs.
    std::vector<std::byte> input(count * FloatBytes(from));
    std::mt19937 engine(7);
    for (size_t i = 0; i < count; ++i) {
      const auto pattern = static_cast<uint16_t>(i * 40503);  // odd: each once in 65536
      const auto bits = static_cast<uint32_t>(uint32_t{pattern} << 16 | (engine() & 0xffff));
      std::memcpy(input.data() + i * FloatBytes(from),
                  reinterpret_cast<const std::byte*>(&bits) + 4 - FloatBytes(from),
                  FloatBytes(from));
    }
    std::vector<std::byte> expected(count * FloatBytes(to));
    kernels::Cast({.input = input.data(),
                   .output = expected.data(),
                   .count = count,
                   .input_type = from,
                   .output_type = to});
    DeviceArray<std::byte> source(*machine_, input, off * FloatBytes(from));
    DeviceArray<std::byte> result(*machine_, std::vector<std::byte>(expected.size()),
                                  off * FloatBytes(to));

    Finish(machine_->Cast({.input = source.address(),
                           .output = result.address(),
                           .count = count,
                           .input_type = from,
                           .output_type = to}));

    EXPECT_TRUE(result.Read() == expected);
    EXPECT_TRUE(source.Read() == input);
  }
};

TEST_P(CastOnMachine, EqualsTheReferenceBitByBit) {
  for (const size_t count : {1, 7, 1024, 65536}) {
    for (const uint64_t off : {0, 1}) {
      SCOPED_TRACE(::testing::Message() << count << " elements, " << off << " off");
      Check(count, off);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Types, CastOnMachine,
                         ::testing::Combine(::testing::ValuesIn(kFloatTypes),
                                            ::testing::ValuesIn(kFloatTypes)));

// ---- Digest and scrub ----

constexpr size_t kByteCounts[] = {0, 1, 7, 8, 9, 2047, 2048, 100'003};

// Bytes that the address is off its alignment.
class BytesOnMachine : public OnMachine, public ::testing::WithParamInterface<uint64_t> {};

TEST_P(BytesOnMachine, DigestEqualsTheReference) {
  for (const size_t bytes : kByteCounts) {
    const auto input = RandomBytes(bytes, 3);
    DeviceArray<std::byte> source(*machine_, input, GetParam());
    DeviceArray<uint64_t> result(*machine_, std::vector<uint64_t>{0xdeadbeef});

    Finish(
        machine_->Digest({.input = source.address(), .bytes = bytes, .result = result.address()}));

    EXPECT_EQ(result.Read()[0], kernels::Digest(input)) << bytes;
  }
}

TEST_P(BytesOnMachine, ScrubLeavesZeros) {
  for (const size_t bytes : kByteCounts) {
    DeviceArray<std::byte> memory(*machine_, RandomBytes(bytes, 4), GetParam());

    Finish(machine_->Scrub(memory.address(), bytes));

    EXPECT_TRUE(memory.Read() == std::vector<std::byte>(bytes)) << bytes;
  }
}

INSTANTIATE_TEST_SUITE_P(Offsets, BytesOnMachine, ::testing::Values(0, 1, 8));

// ---- Softmax ----

constexpr size_t kColumnCounts[] = {1, 10, 255, 256, 1000};

// Rows.
class SoftmaxOnMachine : public OnMachine, public ::testing::WithParamInterface<size_t> {
 protected:
  std::vector<float> Compute(const std::vector<float>& values, size_t columns) {
    DeviceArray<float> array(*machine_, values, 4);
    Finish(
        machine_->SoftmaxRows({.values = array.address(), .rows = GetParam(), .columns = columns}));
    return array.Read();
  }
};

TEST_P(SoftmaxOnMachine, EqualsTheReferenceWithinRounding) {
  for (const size_t columns : kColumnCounts) {
    auto values = RandomFloats(GetParam() * columns, 5, 20.0f);
    values[0] = 1000.0f;  // would overflow without the row's maximum taken off
    std::vector<float> expected = values;
    kernels::SoftmaxRows(expected, columns);
    const auto actual = Compute(values, columns);
    const double relative = (static_cast<double>(columns) + 16) * 0x1p-23;
    for (size_t i = 0; i < expected.size(); ++i) {
      ASSERT_NEAR(actual[i], expected[i], relative * expected[i] + 1e-37) << columns << "," << i;
    }
  }
}

TEST_P(SoftmaxOnMachine, NanAndInfinityFillTheirRowAsInTheReference) {
  for (const size_t columns : kColumnCounts) {
    auto values = RandomFloats(GetParam() * columns, 6);
    values[columns - 1] = std::nanf("");
    values[(GetParam() - 1) * columns] = kInfinity;
    std::vector<float> expected = values;
    kernels::SoftmaxRows(expected, columns);
    const auto actual = Compute(values, columns);
    for (size_t i = 0; i < expected.size(); ++i) {
      ASSERT_EQ(std::isnan(actual[i]), std::isnan(expected[i])) << columns << "," << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Rows, SoftmaxOnMachine, ::testing::Values(1, 3));

}  // namespace
}  // namespace baton::kernels::cuda
