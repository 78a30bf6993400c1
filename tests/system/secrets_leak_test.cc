// A16: a server that lives through everything, with secrets that are easily found; and a search for
// them in all that its processes wrote, were called with, and told a front, and in a front's
// memory.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <optional>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "ipc/unique_fd.h"
#include "tests/crash/loaded_front.h"
#include "tests/system/secrets_test_base.h"
#include "tests/tools/shmctl/shmctl_process.h"

namespace baton::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// Each is looked for by itself: also the lines of a value that has several.
constexpr char kToken[] = "zebra-token-";  // with a number
constexpr char kKeyLines[][24] = {"zebra-key-line-one", "zebra-key-line-two", "zebraKeyLineThree"};
// In files and lines that are no secrets, but that somebody meant to be.
constexpr char kMisplaced[] = "zebra-misplaced";
constexpr char kMisplacedName[] = "zebraMisplacedName";

std::string ReadAll(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream text;  // unlike an iterator it does not throw where a process has just ended
  text << in.rdbuf();
  return text.str();
}

// Which of the secrets are in `text`.
std::vector<std::string> Leaks(const std::string& text) {
  std::vector<std::string> found;
  for (const char* needle :
       {kToken, kKeyLines[0], kKeyLines[1], kKeyLines[2], kMisplaced, kMisplacedName}) {
    if (absl::StrContains(text, needle)) found.push_back(needle);
  }
  return found;
}

// The command lines of all processes of a test, looked at all the while.
class CommandLines {
 public:
  explicit CommandLines(std::string mark) : mark_(std::move(mark)), thread_([this] { Look(); }) {}
  ~CommandLines() { Stop(); }
  std::set<std::string> Stop() {
    stop_.store(true);
    if (thread_.joinable()) thread_.join();
    return seen_;
  }

 private:
  void Look() {
    while (!stop_.load()) {
      for (const pid_t pid : MarkedProcesses(mark_)) {
        std::string line = ReadAll(absl::StrCat("/proc/", pid, "/cmdline"));
        std::replace(line.begin(), line.end(), '\0', ' ');
        seen_.insert(line);
      }
    }
  }
  const std::string mark_;
  std::atomic<bool> stop_{false};
  std::set<std::string> seen_;
  std::thread thread_;
};

class SecretsLeakTest : public SecretsSystemTest {
 protected:
  void Token(int number) { WriteSecret("TOKEN", absl::StrCat(kToken, number)); }
  void WriteAllSecrets() {
    Token(1);
    WriteSecret("KEY", absl::StrCat("-----BEGIN-----\n", kKeyLines[0], "\n", kKeyLines[1], "\n",
                                    kKeyLines[2], "==\n-----END-----\n"));
    WriteSecret("bad/bad", absl::StrCat("no sign ", kMisplaced, "\n", kMisplaced, "/+ = x\n",
                                        kMisplacedName, "==\n", kMisplacedName, "==\n"));
    WriteSecret("nul/nul", std::string("A=") + kMisplaced + '\0');
    WriteSecret("NUL", std::string(kMisplaced) + '\0');
    WriteSecret("BIG", kMisplaced + std::string(100'000, 'x'));
  }

  // What shmctl prints; its exit code is the caller's business where it asks for it.
  std::string Shmctl(std::vector<std::string> args, int* exit_code = nullptr) {
    args.insert(args.end(), {"--run-directory", options_.run_directory});
    const ShmctlResult result =
        ShmctlProcess::Start(absl::StrCat(temp_.path(), "/shmctl-", ++commands_), args,
                             {absl::StrCat("BATON_TEST_MARK=", temp_.path())})
            .Wait();
    if (exit_code != nullptr) *exit_code = result.exit_code;
    return result.out + result.err;
  }
  void ShowEverything() {
    for (const char* verb : {"status", "receipts", "signature"}) {
      said_ += Shmctl({verb, "test"});
      said_ += Shmctl({verb, "test", "--json"});
    }
    said_ += Shmctl({"ls"});
    said_ += Shmctl({"reload", "test", "--dry-run", "--json"});
  }
  void Reload(bool works) {
    int exit_code = -1;
    const std::string said = Shmctl({"reload", "test", "--json"}, &exit_code);
    EXPECT_EQ(exit_code == 0, works) << said;
    said_ += said;
    said_ += Shmctl({"receipts", "test", "--last", "1"});
  }
  // The message with which the model's own call fails.
  std::string ErrorOf(Channel& channel, const std::string& data) {
    const absl::StatusOr<EnvAnswer> answer = AskVariable(channel, data);
    EXPECT_FALSE(answer.ok());
    const std::string message(answer.status().message());
    said_ += message + "\n";
    return message;
  }
  // All regular files under the run directory: log, receipts, and what else there is.
  std::string RunDirectory() const {
    std::string all;
    for (const auto& entry : fs::recursive_directory_iterator(options_.run_directory)) {
      if (entry.is_regular_file()) all += ReadAll(entry.path());
      all += entry.path().native() + "\n";
    }
    return all;
  }

  std::string said_;
  int commands_ = 0;
};

TEST_F(SecretsLeakTest, A16_NothingThatIsWrittenHoldsASecret) {
  WriteAllSecrets();
  ServeSecrets({}, {"load: leak", "variable: KEY", "only_if: BREAK=yes"});
  CommandLines command_lines(temp_.path());
  absl::StatusOr<Channel> channel = front_->OpenChannel({.ring_entries = 16});
  ASSERT_TRUE(channel.ok()) << channel.status();
  EXPECT_EQ(Ask("TOKEN"), absl::StrCat(kToken, 1)) << "there is nothing to leak";
  ASSERT_TRUE(absl::StrContains(Ask("KEY").value_or(""), kKeyLines[1]));
  ShowEverything();

  // A good change, a command, a call that fails and says what the model should not say.
  Token(2);
  ASSERT_TRUE(WaitFor([&] { return Ask("TOKEN") == absl::StrCat(kToken, 2); }));
  Reload(/*works=*/true);
  EXPECT_THAT(ErrorOf(*channel, "!TOKEN"), HasSubstr("no such token: ***"));
  EXPECT_THAT(ErrorOf(*channel, "!KEY"), HasSubstr("no such token: ***"));
  ShowEverything();

  // A load that fails and says it, by a change and by a command: kept-old both times.
  const size_t receipts = server_->Receipts().size();
  WriteSecret("BREAK", "yes");
  ASSERT_TRUE(WaitForReceipts(receipts + 1));
  Reload(/*works=*/false);
  ShowEverything();
  EXPECT_THAT(said_, HasSubstr("kept-old"));
  EXPECT_THAT(said_, HasSubstr("no such token: ***"));
  WriteSecret("BREAK", "no");
  ASSERT_TRUE(WaitFor([&] { return Ask("BREAK") == "no"; }));

  // A worker that dies, and a request that dies with it or is served by the next one.
  const uint64_t before = answered_by();
  const std::vector<pid_t> workers = server_->Workers();
  ASSERT_EQ(workers.size(), 1u);
  ASSERT_EQ(::kill(workers.front(), SIGKILL), 0);
  ASSERT_TRUE(WaitForGeneration(before + 1));
  EXPECT_EQ(Ask("TOKEN"), absl::StrCat(kToken, 2));
  ShowEverything();

  // A server that cannot start, and says why to whoever started it.
  WriteSecret("BREAK", "yes");
  TestServerOptions second = options_;
  second.name = "second";
  const absl::StatusOr<std::unique_ptr<TestServer>> failed = TestServer::Start(second);
  ASSERT_FALSE(failed.ok());
  EXPECT_THAT(std::string(failed.status().message()), HasSubstr("no such token: ***"));
  said_ += failed.status().ToString();

  ASSERT_TRUE(server_->Stop().ok());
  said_ += AskVariable(*channel, "TOKEN").status().ToString();
  said_ += Shmctl({"receipts", "test", "--json"});
  const std::set<std::string> lines = command_lines.Stop();
  EXPECT_THAT(lines, Contains(HasSubstr("baton-worker")));
  for (const std::string& line : lines) EXPECT_THAT(Leaks(line), IsEmpty()) << line;
  const std::string written = RunDirectory();
  for (const char* expected : {"bad/bad:1", "bad/bad:4", "NUL", "BIG", "worker-death", "kept-old",
                               "Subprocess: Model created successfully"}) {
    EXPECT_THAT(written, HasSubstr(expected)) << "this run has not done what it was to do";
  }
  EXPECT_THAT(Leaks(written), IsEmpty());
  EXPECT_THAT(Leaks(said_), IsEmpty()) << said_;
}

// Larger than all that a front maps. Only a sanitizer's shadow is: terabytes of address space, of
// which no byte is the program's.
constexpr uint64_t kShadowBytes = uint64_t{64} << 30;
constexpr uint64_t kPieceBytes = 64 << 20;

// A process's memory, read piece by piece. Of a piece, only what is there: a sanitizer's heaps are
// mostly holes, and larger than the machine.
class ProcessBytes {
 public:
  explicit ProcessBytes(pid_t pid)
      : memory_(::open(absl::StrCat("/proc/", pid, "/mem").c_str(), O_RDONLY | O_CLOEXEC)),
        pages_(::open(absl::StrCat("/proc/", pid, "/pagemap").c_str(), O_RDONLY | O_CLOEXEC)) {}
  bool readable() const { return memory_.valid() && pages_.valid(); }

  // How often `text` stands between two addresses.
  size_t Count(uint64_t from, uint64_t to, const std::string& text) {
    size_t found = 0;
    std::string bytes;  // with the end of the piece before, where that goes on
    for (uint64_t at = from; at < to; at += kPieceBytes) {
      const uint64_t size = std::min(kPieceBytes, to - at);
      if (to - from > kPieceBytes && !AnyPage(at, size)) {
        bytes.clear();
        continue;
      }
      const size_t kept = std::min(bytes.size(), text.size() - 1);
      bytes.erase(0, bytes.size() - kept);
      bytes.resize(kept + size);
      const ssize_t got = ::pread(memory_.get(), bytes.data() + kept, size, static_cast<off_t>(at));
      bytes.resize(kept + static_cast<size_t>(std::max<ssize_t>(got, 0)));  // [vvar] and the like
      for (size_t in = bytes.find(text); in != bytes.npos; in = bytes.find(text, in + 1)) ++found;
    }
    return found;
  }

 private:
  bool AnyPage(uint64_t at, uint64_t bytes) {
    constexpr uint64_t kPage = 4096;
    constexpr uint64_t kThereOrSwapped = uint64_t{3} << 62;
    std::vector<uint64_t> pages(bytes / kPage);
    const ssize_t got = ::pread(pages_.get(), pages.data(), pages.size() * sizeof(uint64_t),
                                static_cast<off_t>(at / kPage * sizeof(uint64_t)));
    pages.resize(static_cast<size_t>(std::max<ssize_t>(got, 0)) / sizeof(uint64_t));
    return std::any_of(pages.begin(), pages.end(),
                       [](uint64_t page) { return (page & kThereOrSwapped) != 0; });
  }

  ipc::UniqueFd memory_;
  ipc::UniqueFd pages_;
};

// How often `text` stands in a process's memory; nullopt: it cannot be read.
std::optional<size_t> CountInMemory(pid_t pid, const std::string& text) {
  ProcessBytes memory(pid);
  if (!memory.readable()) return std::nullopt;
  size_t found = 0;
  std::ifstream maps(absl::StrCat("/proc/", pid, "/maps"));
  for (std::string line; std::getline(maps, line);) {
    uint64_t from = 0;
    uint64_t to = 0;
    char mode[5] = {};
    if (std::sscanf(line.c_str(), "%lx-%lx %4s", &from, &to, mode) != 3 || mode[0] != 'r') continue;
    if (to - from < kShadowBytes) found += memory.Count(from, to, text);
  }
  return found;
}

// A core of a front is its memory, all that it maps of others' included.
TEST_F(SecretsLeakTest, A16_AFrontsMemoryHoldsNoSecret) {
  WriteAllSecrets();
  options_.secrets_directory = secrets_;
  Serve({"behaviour: echo", "variable: TOKEN", "weights_bytes: 1048576", "load: leak",
         "only_if: BREAK=yes"});
  const std::string file = temp_.Write("tally", std::string(4096, '\0'));
  const int fd = ::open(file.c_str(), O_RDWR | O_CLOEXEC);
  auto* tally = static_cast<FrontTally*>(
      ::mmap(nullptr, sizeof(FrontTally), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
  ::close(fd);
  ASSERT_NE(tally, MAP_FAILED);
  const std::string known = "a-word-that-this-front-knows";
  absl::StatusOr<ipc::ChildProcess> front =
      ipc::SpawnProcess({.executable = BATON_LOADED_FRONT,
                         .args = {options_.run_directory, "test", file},
                         .env = std::vector<std::string>{
                             absl::StrCat("BATON_TEST_MARK=", temp_.path()), "KNOWN=" + known}});
  ASSERT_TRUE(front.ok()) << front.status();
  const auto progress = [&] {
    const uint64_t goal = tally->answered.load() + 100;
    return WaitFor([&] { return tally->answered.load() >= goal; });
  };
  const auto expect_no_secret = [&] {
    const std::optional<size_t> control = CountInMemory(front->pid(), known);
    ASSERT_TRUE(control.has_value()) << "its memory cannot be read";
    ASSERT_GE(*control, 1u) << "the search finds nothing at all";
    for (const char* needle : {kToken, kKeyLines[0], kKeyLines[2], kMisplaced, kMisplacedName}) {
      EXPECT_EQ(CountInMemory(front->pid(), needle), 0u) << needle;
    }
  };
  ASSERT_TRUE(progress());
  expect_no_secret();
  Token(2);
  ASSERT_TRUE(WaitFor([&] { return tally->last_generation.load() == 2; }));
  ASSERT_TRUE(progress());
  expect_no_secret();
  WriteSecret("BREAK", "yes");
  ASSERT_TRUE(WaitForReceipts(2));
  ASSERT_TRUE(progress());
  expect_no_secret();
  tally->stop.store(1);
  const absl::StatusOr<ipc::ExitStatus> ended = front->Reap(absl::Minutes(1));
  EXPECT_TRUE(ended.ok() && ended->clean());
  ::munmap(tally, sizeof(FrontTally));
}

}  // namespace
}  // namespace baton::testing
