// Classifies one handwritten digit, in a model process of this program's own.
#include <algorithm>
#include <cstdio>

#include "baton/front.h"

int main(int argc, char** argv) {
  if (argc != 2) return std::fprintf(stderr, "usage: embed MODEL_DIRECTORY\n"), 2;
  auto front = baton::Front::Launch({.directory = argv[1]});
  if (!front.ok()) return std::fprintf(stderr, "%s\n", front.status().ToString().c_str()), 1;
  auto channel = (*front)->OpenChannel();
  if (!channel.ok()) return std::fprintf(stderr, "%s\n", channel.status().ToString().c_str()), 1;
  auto request = channel->NewRequest({{"pixels", baton::DType::kFloat32, {1, 64}}});
  if (!request.ok()) return std::fprintf(stderr, "%s\n", request.status().ToString().c_str()), 1;
  auto pixels = request->input<float>("pixels");  // shared memory: the model reads these bytes
  std::fill(pixels.begin(), pixels.end(), 0.0f);
  for (int row = 1; row < 7; ++row) pixels[row * 8 + 3] = pixels[row * 8 + 4] = 16.0f;  // a "1"
  auto response = channel->Call(*std::move(request), {.timeout = absl::Seconds(5)});
  if (!response.ok()) return std::fprintf(stderr, "%s\n", response.status().ToString().c_str()), 1;
  auto scores = response->output<float>("scores");  // shared memory too, until `response` goes
  std::printf("digit %td\n", std::max_element(scores.begin(), scores.end()) - scores.begin());
}
