#include "kernels/cuda/cublas_lt.h"

#include <dlfcn.h>

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "kernels/cublaslt/baton_cublaslt.h"

namespace baton::kernels::cuda {
namespace {

using ::testing::HasSubstr;

TEST(CublasLtTest, SaysWhatIsMissingAndWhatHappensInstead) {
  const auto absent = CublasLt::LoadFrom("/nonexistent/libbaton_cublaslt.so");
  ASSERT_TRUE(absl::IsNotFound(absent.status())) << absent.status();
  EXPECT_THAT(std::string(absent.status().message()), HasSubstr("/nonexistent"));
  EXPECT_THAT(std::string(absent.status().message()), HasSubstr("Baton's own kernel"));
}

TEST(CublasLtTest, RefusesALibraryThatIsAnother) {
  const auto other = CublasLt::LoadFrom("libm.so.6");
  ASSERT_TRUE(absl::IsFailedPrecondition(other.status())) << other.status();
  EXPECT_THAT(std::string(other.status().message()), HasSubstr("another version"));
}

#ifdef BATON_CUBLASLT_FILE
TEST(CublasLtTest, TheLibraryHasTheInterfaceOfItsHeader) {
  void* const library = ::dlopen(BATON_CUBLASLT_FILE, RTLD_NOW | RTLD_LOCAL);
  ASSERT_NE(library, nullptr) << ::dlerror();
  const auto version = reinterpret_cast<decltype(&baton_cublaslt_abi_version)>(
      ::dlsym(library, "baton_cublaslt_abi_version"));
  ASSERT_NE(version, nullptr);
  EXPECT_EQ(version(), BATON_CUBLASLT_ABI_VERSION);
  // Nothing else is missing either: with a GPU it starts, without one it says so.
  const auto loaded = CublasLt::LoadFrom(BATON_CUBLASLT_FILE);
  if (!loaded.ok()) {
    EXPECT_TRUE(absl::IsInternal(loaded.status())) << loaded.status();
    EXPECT_THAT(std::string(loaded.status().message()), HasSubstr("does not start"));
  }
}
#endif

}  // namespace
}  // namespace baton::kernels::cuda
