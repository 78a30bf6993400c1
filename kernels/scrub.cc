#include "kernels/scrub.h"

#include <string.h>

namespace baton::kernels {

void Scrub(std::span<std::byte> bytes) {
  if (!bytes.empty()) ::explicit_bzero(bytes.data(), bytes.size());
}

}  // namespace baton::kernels
