// Reloads as a user asks for them: dry runs, overrides, and how they are shown afterwards.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "ipc/unique_fd.h"
#include "tests/tools/shmctl/json_reader.h"
#include "tests/tools/shmctl/shmctl_process.h"

namespace baton::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

class ReloadTest : public ShmctlTest {
 protected:
  JsonReader Status() { return JsonReader(Run({"status", "probe", "--json"}).out)["servers"][0]; }
  JsonReader Receipts() { return JsonReader(Run({"receipts", "probe", "--json"}).out)["receipts"]; }
};

// What the server is and has written, as far as a reload would change it.
TEST_F(ReloadTest, DryRunChangesNothing) {
  ShmctlProcess server = Serve({"behaviour: echo", "weights_bytes: 100000"}, "probe", {},
                               "reload: {drain_timeout: 7s}\n");
  ASSERT_EQ(Run({"reload", "probe"}).exit_code, 0);
  const std::vector<pid_t> workers = Workers();
  for (int i = 0; i < 3; ++i) {
    const ShmctlResult text = Run({"reload", "probe", "--dry-run"});
    EXPECT_EQ(text.exit_code, 0) << text.err;
    EXPECT_THAT(text.out, StartsWith("would reload  generation 2 of probe, which is SERVING\n"
                                     "strategy      exclusive: as configured\n"));
    EXPECT_THAT(text.out, HasSubstr("st_blocks"));
    EXPECT_THAT(text.out, HasSubstr("mean of the last gaps"));
    EXPECT_THAT(text.out, HasSubstr("drain_timeout 7.00 s"));
    EXPECT_THAT(text.out, HasSubstr("obstacles     none\n"));
  }
  const ShmctlResult json = Run({"reload", "probe", "--dry-run", "--json"});
  EXPECT_EQ(json.exit_code, 0) << json.err;
  const JsonReader plan(json.out);
  EXPECT_EQ(plan.Keys(), (std::set<std::string>{
                             "strategy", "strategyReason", "state", "generation", "footprintBytes",
                             "footprintSource", "deviceBytesInUse", "deviceCapacityBytes",
                             "expectedGapNs", "gapSource", "secretsChanged", "requestsWaiting",
                             "fronts", "channels", "importers", "deadlines", "obstacles"}));
  EXPECT_EQ(plan["generation"].Number(), 2);
  EXPECT_GE(plan["footprintBytes"].Number(), 100000);
  EXPECT_GT(plan["expectedGapNs"].Number(), 0);

  const JsonReader status = Status();
  EXPECT_EQ(status["state"].Text(), "SERVING");
  EXPECT_EQ(status["generation"].Number(), 2);
  EXPECT_EQ(status["reloads"].Number(), 1);
  EXPECT_EQ(Receipts().size(), 1u);
  EXPECT_EQ(Workers(), workers);
}

// A configuration that would not load is seen beforehand, and is no failure of the dry run.
TEST_F(ReloadTest, DryRunNamesObstacles) {
  temp_.Write("secrets/TOKEN", "one");
  ShmctlProcess server =
      Serve({"behaviour: echo"}, "probe",
            {"--secrets", temp_.path() + "/secrets", "--disable-secrets-reload"});
  EXPECT_THAT(Run({"reload", "probe", "--dry-run"}).out, HasSubstr("secrets       not changed\n"));
  temp_.Write("secrets/TOKEN", "another");
  temp_.Write("model/config.yaml", "nonsense: [\n");
  const ShmctlResult plan = Run({"reload", "probe", "--dry-run"});
  EXPECT_EQ(plan.exit_code, 0) << plan.err;
  EXPECT_THAT(plan.out, HasSubstr("secrets       changed since that generation was started\n"));
  EXPECT_THAT(plan.out, HasSubstr("obstacles     the successor would not be staged"));
  EXPECT_EQ(Status()["generation"].Number(), 1);
}

// Maps the device memory of the server's only generation, as somebody who forgot to let go of it.
class Pin {
 public:
  explicit Pin(pid_t supervisor) {
    for (const auto& entry :
         std::filesystem::directory_iterator(absl::StrCat("/proc/", supervisor, "/fd"))) {
      std::error_code gone;
      const std::string target = std::filesystem::read_symlink(entry.path(), gone).string();
      if (!absl::StartsWith(target, "/memfd:baton-device")) continue;
      const ipc::UniqueFd fd(::open(entry.path().c_str(), O_RDWR | O_CLOEXEC));
      at_ = ::mmap(nullptr, kBytes, PROT_READ, MAP_SHARED, fd.get(), 0);
    }
  }
  ~Pin() {
    if (held()) ::munmap(at_, kBytes);
  }
  bool held() const { return at_ != MAP_FAILED; }

 private:
  static constexpr size_t kBytes = 4096;
  void* at_ = MAP_FAILED;
};

// The reload under way goes on, its receipt keeps the verdict and says who went on without it.
TEST_F(ReloadTest, OverrideEndsAConfirmationThatDoesNotCome) {
  ShmctlProcess server = Serve({"behaviour: echo", "weights_bytes: 100000"}, "probe", {},
                               "reload: {confirm_timeout: 100ms}\n");
  const Pin pin(server.process().pid());
  ASSERT_TRUE(pin.held());
  const std::string verdict = absl::StrCat("pinned-by ", ::getpid());
  ShmctlProcess waits = Begin({"reload", "probe"});
  ASSERT_TRUE(WaitFor([&] {
    const JsonReader status = Status();
    return status["state"].Text() == "CONFIRMING" && status["lastVerdict"].Text() == verdict &&
           absl::StrContains(status["reason"].Text(), "is not confirmed freed (" + verdict);
  })) << Run({"status", "probe"}).out
      << server.Err();
  EXPECT_THAT(Run({"reload", "probe", "--dry-run"}).out, HasSubstr("is not confirmed freed"));

  // Who asked for it was told that it does not go on.
  const ShmctlResult told = waits.Wait();
  EXPECT_EQ(told.exit_code, 1);
  EXPECT_THAT(told.err, HasSubstr("device memory of generation 1 is not confirmed freed"));

  const ShmctlResult override = Run({"reload", "probe", "--override-unconfirmed"});
  EXPECT_EQ(override.exit_code, 0) << override.err;
  const JsonReader receipts = Receipts();
  ASSERT_EQ(receipts.size(), 2u);  // of the one that went on, and of the one that was asked for
  EXPECT_TRUE(receipts[0]["overridden"].True());
  EXPECT_EQ(receipts[0]["outcome"].Text(), "swapped");
  EXPECT_EQ(receipts[0]["verdict"].Text(), verdict);
  EXPECT_FALSE(receipts[1]["overridden"].True());
  EXPECT_THAT(Run({"receipts", "probe", "--last", "2"}).out,
              HasSubstr("\n  overridden the successor"));
  EXPECT_THAT(Run({"timeline", "probe"}).out, HasSubstr(" (overridden)"));
}

TEST_F(ReloadTest, TimelineShowsTheLastOnesAlsoWhenTheServerIsGone) {
  ShmctlProcess server = Serve({"behaviour: echo", "weights_bytes: 4096"});
  const ShmctlResult none = Run({"timeline", "probe"});
  EXPECT_EQ(none.exit_code, 0);
  EXPECT_EQ(none.out, "'probe' has not been reloaded yet\n");
  EXPECT_EQ(Run({"timeline", "probe", "--json"}).out, "{\"server\":\"probe\",\"reloads\":[]}\n");
  for (int i = 0; i < 5; ++i) ASSERT_EQ(Run({"reload", "probe"}).exit_code, 0);
  ASSERT_EQ(Run({"stop", "probe"}).exit_code, 0);

  const ShmctlResult five = Run({"timeline", "probe"});
  EXPECT_EQ(five.exit_code, 0) << five.err;
  EXPECT_THAT(five.out, StartsWith("2 -> 3  command, exclusive: swapped, verdict freed, gap "));
  EXPECT_THAT(five.out, HasSubstr("\n6 -> none  stop, exclusive: stopped, verdict freed\n"));
  EXPECT_THAT(five.out, HasSubstr("  nobody served "));
  EXPECT_THAT(five.out, Not(HasSubstr("\033")));  // it is no terminal
  const ShmctlResult two = Run({"timeline", "probe", "2"});
  EXPECT_THAT(two.out, StartsWith("5 -> 6 "));

  const JsonReader reloads = JsonReader(Run({"timeline", "probe", "2", "--json"}).out)["reloads"];
  ASSERT_EQ(reloads.size(), 2u);
  const JsonReader reload = reloads[0];
  EXPECT_EQ(reload.Keys(),
            (std::set<std::string>{"generation", "successor", "trigger", "strategy", "outcome",
                                   "reason", "verdict", "overridden", "startedUnixMs", "ns",
                                   "gapNs", "gapStartNs", "gapEndNs", "states"}));
  const JsonReader states = reload["states"];
  ASSERT_EQ(states.size(), 8u);
  EXPECT_EQ(states[0].Keys(), (std::set<std::string>{"state", "startNs", "ns", "served"}));
  EXPECT_EQ(states[0]["state"].Text(), "STAGING");
  EXPECT_TRUE(states[0]["served"].True());
  EXPECT_EQ(states[1]["state"].Text(), "HOLDING");
  EXPECT_FALSE(states[1]["served"].True());
  EXPECT_EQ(states[1]["startNs"].Number(), states[0]["ns"].Number());
  EXPECT_EQ(reload["gapStartNs"].Number(), states[1]["startNs"].Number());
  EXPECT_EQ(reload["gapEndNs"].Number(), reload["ns"].Number());
}

}  // namespace
}  // namespace baton::testing
