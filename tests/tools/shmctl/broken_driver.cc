// A libcuda.so.1 that has none of the driver's functions, and as
// $BATON_TEST_DRIVER says
//   hang   never finishes loading, as one that hangs in the kernel
//   abort  takes its process down
#include <unistd.h>

#include <cstdlib>
#include <cstring>

namespace {

__attribute__((constructor)) void Load() {
  const char* const script = std::getenv("BATON_TEST_DRIVER");
  if (script == nullptr) return;
  while (std::strcmp(script, "hang") == 0) ::pause();
  if (std::strcmp(script, "abort") == 0) std::abort();
}

}  // namespace
