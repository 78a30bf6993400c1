// Dense layers against their CPU reference, on the machine that is linked in.
#include <cmath>
#include <cstdint>
#include <limits>
#include <tuple>
#include <vector>

#include "gtest/gtest.h"

#include "tests/kernels/dense_layer.h"
#include "tests/kernels/device_array.h"
#include "tests/kernels/on_machine.h"

namespace baton::kernels::cuda {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Rows and activation; below, at and above the tile sizes.
class DenseOnMachine : public OnMachine,
                       public ::testing::WithParamInterface<std::tuple<size_t, Activation>> {
 protected:
  template <class Check>
  void ForEachLayer(Check check) {
    for (const size_t inputs : {1, 16, 37}) {
      for (const size_t outputs : {1, 10, 16, 64, 83}) {
        SCOPED_TRACE(::testing::Message() << inputs << " inputs, " << outputs << " outputs");
        Layer layer(std::get<0>(GetParam()), inputs, outputs);
        check(layer);
      }
    }
  }

  std::vector<float> Compute(const Layer& layer) {
    // Aligned to nothing but a float, for one of the sizes.
    const uint64_t offset = layer.inputs == 37 ? sizeof(float) : 0;
    DeviceArray<float> input(*machine_, layer.input, offset);
    DeviceArray<float> weights(*machine_, layer.PackedWeights());
    DeviceArray<float> bias(*machine_, layer.bias);
    DeviceArray<float> output(*machine_, std::vector<float>(layer.rows * layer.outputs), offset);
    Finish(machine_->Dense({.input = input.address(),
                            .weights = weights.address(),
                            .bias = bias.address(),
                            .output = output.address(),
                            .rows = layer.rows,
                            .inputs = layer.inputs,
                            .outputs = layer.outputs,
                            .activation = std::get<1>(GetParam())}));
    return output.Read();
  }
};

TEST_P(DenseOnMachine, EqualsTheReferenceWithinRounding) {
  ForEachLayer([&](const Layer& layer) {
    const auto expected = layer.Reference(std::get<1>(GetParam()));
    const auto actual = Compute(layer);
    for (size_t i = 0; i < expected.size(); ++i) {
      const double tolerance = layer.Tolerance(i / layer.outputs, i % layer.outputs);
      ASSERT_NEAR(actual[i], expected[i], tolerance) << i;
    }
  });
}

// What is loaded beyond an edge must not meet an infinity of the other factor.
TEST_P(DenseOnMachine, InfinitiesStayInTheirRowAndColumn) {
  const bool relu = std::get<1>(GetParam()) == Activation::kRelu;
  ForEachLayer([&](Layer& layer) {
    layer.input.back() = kInfinity;    // the last row's last input
    layer.weights.back() = kInfinity;  // the last column's
    layer.bias[0] = std::nanf("");
    const auto expected = layer.Reference(std::get<1>(GetParam()));
    const auto actual = Compute(layer);
    for (size_t i = 0; i < expected.size(); ++i) {
      if (std::isnan(expected[i]) && relu && !machine_->ReluKeepsNan()) continue;
      ASSERT_EQ(std::isnan(actual[i]), std::isnan(expected[i])) << i;
      ASSERT_EQ(std::isinf(actual[i]), std::isinf(expected[i])) << i;
    }
  });
}

INSTANTIATE_TEST_SUITE_P(Sizes, DenseOnMachine,
                         ::testing::Combine(::testing::Values(1, 5, 64, 67),
                                            ::testing::Values(Activation::kNone,
                                                              Activation::kRelu)));

}  // namespace
}  // namespace baton::kernels::cuda
