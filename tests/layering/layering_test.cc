#include "tests/layering/layering.h"

#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace baton::layering {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(Layering, OfThisRepositoryHolds) {
  const char* root = getenv("BATON_SOURCE_DIR");
  ASSERT_NE(root, nullptr) << "run through ctest";
  EXPECT_GT(FilesSeen(root), 20);
  EXPECT_THAT(Violations(root), IsEmpty());
}

// A small repository in which each rule is broken in turn: the check has to see it.
class LayeringOf : public ::testing::Test {
 protected:
  LayeringOf() {
    std::string pattern = (std::filesystem::temp_directory_path() / "layering.XXXXXX").string();
    root_ = mkdtemp(pattern.data());
    Write("ipc/include/baton/tensor.h", "");
    Write("ipc/ring.h", "#include \"baton/tensor.h\"\n");
    Write("ipc/CMakeLists.txt", "baton_library(baton_ipc SOURCES ring.cc)\n");
    Write("loader/model.h", "#include \"ipc/ring.h\"\n");
    Write("loader/CMakeLists.txt", "baton_library(baton_loader LINK baton_ipc)\n");
    Write("runtime/front/include/baton/front.h", "#include <vector>\n");
    Write("runtime/worker/worker.h", "#include \"loader/model.h\"\n");
  }
  ~LayeringOf() override { std::filesystem::remove_all(root_); }

  void Write(const std::string& path, const std::string& text) {
    std::filesystem::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text;
  }

  std::filesystem::path root_;
};

TEST_F(LayeringOf, DownwardUseHolds) { EXPECT_THAT(Violations(root_), IsEmpty()); }

TEST_F(LayeringOf, UpwardIncludeIsCaught) {
  Write("ipc/ring.cc", "// first\n#include \"loader/model.h\"\n");
  EXPECT_THAT(Violations(root_), ElementsAre(HasSubstr("ipc/ring.cc:2")));
}

TEST_F(LayeringOf, UpwardIncludeOfPublicHeaderIsCaught) {
  Write("loader/model.cc", "#include \"baton/front.h\"\n");
  EXPECT_THAT(Violations(root_), ElementsAre(HasSubstr("runtime/front/include/baton/front.h")));
}

TEST_F(LayeringOf, UpwardLinkIsCaught) {
  Write("ipc/CMakeLists.txt", "baton_library(baton_ipc SOURCES ring.cc\n  LINK baton_loader)\n");
  EXPECT_THAT(Violations(root_), ElementsAre(HasSubstr("ipc/CMakeLists.txt:2")));
}

TEST_F(LayeringOf, UpwardSchemaImportIsCaught) {
  Write("ipc/schema/a.capnp", "using B = import \"/runtime/b.capnp\";\n");
  EXPECT_THAT(Violations(root_), ElementsAre(HasSubstr("ipc/schema/a.capnp:1")));
}

TEST_F(LayeringOf, SidewaysUseBetweenProgramsIsCaught) {
  Write("bench/x.cc", "#include \"tests/y.h\"\n");
  Write("tests/z.cc", "#include \"bench/x.h\"\n");
  EXPECT_THAT(Violations(root_), ElementsAre(HasSubstr("bench/x.cc:1")));
}

TEST_F(LayeringOf, FrontUsingTheWorkerIsCaught) {
  Write("runtime/front/front.cc", "#include \"runtime/worker/worker.h\"\n");
  EXPECT_THAT(Violations(root_), ElementsAre(HasSubstr("runtime/front/front.cc:1")));
}

TEST_F(LayeringOf, RelativeIncludeIsCaught) {
  Write("loader/a.cc", "#include \"model.h\"\n");
  Write("loader/b.cc", "#include \"../ipc/ring.h\"\n");
  EXPECT_EQ(Violations(root_).size(), 2u);
}

}  // namespace
}  // namespace baton::layering
