#include "tools/shmctl/terminal.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "ipc/unique_fd.h"

namespace baton::shmctl {
namespace {

// The environment of this process, which is the test's alone, and a standard output that is put
// back.
class TerminalTest : public ::testing::Test {
 protected:
  TerminalTest() : stdout_(::dup(STDOUT_FILENO)) {
    for (const char* name : {"COLUMNS", "NO_COLOR", "LC_ALL", "LC_CTYPE", "LANG"}) ::unsetenv(name);
    ::setenv("TERM", "xterm", 1);
  }
  ~TerminalTest() override { ::dup2(stdout_.get(), STDOUT_FILENO); }

  void UseTerminal(uint16_t columns) {
    master_.reset(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
    ASSERT_EQ(::grantpt(master_.get()), 0);
    ASSERT_EQ(::unlockpt(master_.get()), 0);
    const ipc::UniqueFd slave(::open(::ptsname(master_.get()), O_RDWR | O_NOCTTY | O_CLOEXEC));
    ASSERT_TRUE(slave);
    struct winsize window = {};
    window.ws_col = columns;
    ASSERT_EQ(::ioctl(slave.get(), TIOCSWINSZ, &window), 0);
    ASSERT_NE(::dup2(slave.get(), STDOUT_FILENO), -1);
  }
  static void UseFile() {
    const ipc::UniqueFd null(::open("/dev/null", O_WRONLY | O_CLOEXEC));
    ASSERT_NE(::dup2(null.get(), STDOUT_FILENO), -1);
  }

 private:
  const ipc::UniqueFd stdout_;
  ipc::UniqueFd master_;
};

TEST_F(TerminalTest, ColumnsThenTheTerminalThenEighty) {
  UseTerminal(133);
  const size_t terminal = OutputWidth();
  ::setenv("COLUMNS", "100", 1);
  const size_t columns = OutputWidth();
  ::setenv("COLUMNS", "7", 1);
  const size_t narrow = OutputWidth();
  for (const char* nonsense : {"", "0", "-5", "many"}) {
    ::setenv("COLUMNS", nonsense, 1);
    EXPECT_EQ(OutputWidth(), 133u) << nonsense;
  }
  UseFile();
  EXPECT_EQ(OutputWidth(), 80u);
  EXPECT_EQ(terminal, 133u);
  EXPECT_EQ(columns, 100u);
  EXPECT_EQ(narrow, 40u);
}

TEST_F(TerminalTest, ColoursAreForATerminal) {
  UseTerminal(80);
  EXPECT_TRUE(OutputHasColours());
  ::setenv("NO_COLOR", "1", 1);
  EXPECT_FALSE(OutputHasColours());
  ::unsetenv("NO_COLOR");
  ::setenv("TERM", "dumb", 1);
  EXPECT_FALSE(OutputHasColours());
  ::setenv("TERM", "xterm", 1);
  UseFile();
  EXPECT_FALSE(OutputHasColours());
}

TEST_F(TerminalTest, TheFirstLocaleThatIsSetCounts) {
  EXPECT_FALSE(OutputIsUtf8());
  ::setenv("LANG", "en_US.UTF-8", 1);
  EXPECT_TRUE(OutputIsUtf8());
  ::setenv("LC_CTYPE", "C", 1);
  EXPECT_FALSE(OutputIsUtf8());
  ::setenv("LC_ALL", "de_DE.utf8", 1);
  EXPECT_TRUE(OutputIsUtf8());
}

}  // namespace
}  // namespace baton::shmctl
