// The held-out digits, and how well a served model reads them.
#ifndef BATON_TOOLS_EXAMPLES_DIGITS_HELDOUT_H_
#define BATON_TOOLS_EXAMPLES_DIGITS_HELDOUT_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "baton/front.h"

namespace baton::examples {

inline constexpr size_t kPixels = 64;  // 8 x 8, 0 to 16

struct Heldout {
  std::vector<float> pixels;    // kPixels an image
  std::vector<uint8_t> labels;  // 0 to 9
};

// Reads heldout_pixels.npy (float32[n, 64]) and heldout_labels.npy (uint8[n]).
absl::StatusOr<Heldout> ReadHeldout(const std::string& directory);

struct Score {
  size_t right = 0;
  size_t images = 0;
  uint64_t generation = 0;  // of the last answer
  double accuracy() const {
    return images == 0 ? 0 : static_cast<double>(right) / static_cast<double>(images);
  }
};

// Asks for `batch` images at a time, in one channel.
absl::StatusOr<Score> Classify(Front& front, const Heldout& heldout, int64_t batch);

}  // namespace baton::examples

#endif  // BATON_TOOLS_EXAMPLES_DIGITS_HELDOUT_H_
