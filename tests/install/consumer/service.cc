// service MODEL_DIRECTORY SUPERVISOR: launches a server for the model and checks one answer of it.
#include <algorithm>
#include <iostream>
#include <memory>
#include <span>
#include <vector>

#include "baton/front.h"

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  auto front = baton::Front::Launch({.directory = argv[1], .supervisor_executable = argv[2]});
  if (!front.ok()) {
    std::cerr << front.status() << "\n";
    return 1;
  }
  auto channel = (*front)->OpenChannel();
  if (!channel.ok()) {
    std::cerr << channel.status() << "\n";
    return 1;
  }
  const std::vector<baton::TensorSpec> inputs = {{"x", baton::DType::kFloat32, {4}}};
  auto request = channel->NewRequest(inputs);
  if (!request.ok()) {
    std::cerr << request.status() << "\n";
    return 1;
  }
  const std::vector<float> x = {0.0f, 1.0f, -2.5f, 100.0f};
  std::copy(x.begin(), x.end(), request->input<float>("x").begin());
  auto response = channel->Call(*std::move(request));
  if (!response.ok()) {
    std::cerr << response.status() << "\n";
    return 1;
  }
  const std::span<const float> y = response->output<float>("y");
  const std::vector<float> expected = {0.0f, 3.0f, -7.5f, 300.0f};
  if (!std::equal(y.begin(), y.end(), expected.begin(), expected.end())) {
    std::cerr << "the answer is not three times the question\n";
    return 1;
  }
  std::cout << "answered by generation " << response->generation() << "\n";
  return 0;
}
