// The supervisor's side of the confirmation helper, with real processes: the
// helper itself, and one that does what a test wants.
#include "runtime/supervisor/confirm_helper.h"

#include <dirent.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "ipc/device.h"
#include "ipc/futex.h"
#include "runtime/executable_path.h"
#include "tests/system/test_server.h"

namespace baton::runtime {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;
using State = ConfirmHelper::State;

constexpr uint64_t kBytes = 1 << 20;
constexpr int64_t kNsPerMs = 1'000'000;
// No GPU has this UUID, with a driver or without.
constexpr ipc::cuda::Uuid kNoDevice{};

class ConfirmHelperTest : public ::testing::Test {
 protected:
  ConfirmHelperTest() : loop_(*EventLoop::Create()), log_(MakeServerLog("test")) {}
  ~ConfirmHelperTest() override {
    helper_.reset();
    EXPECT_EQ(testing::Zombies(), 0);
    for (const char* name : {"BATON_TEST_CONFIRM", "BATON_CRASH_AT", "BATON_FAIL_AT"}) {
      ::unsetenv(name);
    }
  }

  void Make(const std::string& executable) {
    helper_ = std::make_unique<ConfirmHelper>(
        *loop_, log_, ConfirmHelper::Options{executable, "test"},
        [this](const ConfirmQuestion&, DeviceVerdict verdict) { verdict_ = std::move(verdict); },
        [this](uint64_t generation, absl::StatusOr<ipc::cuda::GpuSurvey> survey) {
          EXPECT_EQ(generation, 1u);
          survey_ = std::move(survey);
        });
  }
  void StartReal() {
    Make(*FindExecutable("baton-confirm"));
    helper_->Start(ipc::MonotonicNs());
  }
  void StartScripted(const std::string& script) {
    ::setenv("BATON_TEST_CONFIRM", script.c_str(), 1);
    Make(std::getenv("BATON_SCRIPTED_CONFIRM"));
    helper_->Start(ipc::MonotonicNs());
  }

  // Runs the loop until `condition` holds.
  template <typename Condition>
  void RunUntil(Condition&& condition) {
    while (!condition()) {
      ASSERT_TRUE(loop_->RunOnce(helper_->deadline_ns()).ok());
      helper_->Tick(ipc::MonotonicNs());
    }
  }
  void Ask(ConfirmQuestion question, absl::Duration timeout = absl::Minutes(2)) {
    RunUntil([this] { return helper_->state() == State::kIdle; });
    verdict_.reset();
    helper_->Ask(question, timeout, ipc::MonotonicNs());
  }
  absl::StatusOr<ipc::cuda::GpuSurvey> Survey(absl::Duration timeout = absl::Minutes(2)) {
    RunUntil([this] { return helper_->state() == State::kIdle; });
    survey_.reset();
    helper_->AskSurvey(1, kNoDevice, timeout, ipc::MonotonicNs());
    RunUntil([this] { return survey_.has_value(); });
    return *survey_;
  }
  DeviceVerdict Answer() {
    RunUntil([this] { return verdict_.has_value(); });
    return *verdict_;
  }

  std::unique_ptr<EventLoop> loop_;
  ServerLog log_;
  std::unique_ptr<ConfirmHelper> helper_;
  std::optional<DeviceVerdict> verdict_;
  std::optional<absl::StatusOr<ipc::cuda::GpuSurvey>> survey_;
};

// An arena whose owner is this process, until it is freed.
class Arena {
 public:
  Arena() : device_(ipc::CreateHostDevice(kBytes)), arena_(*device_->CreateArena(kBytes, 1)) {
    exported_ = *arena_->Export();
  }
  ConfirmQuestion Question(bool asked_before = false, bool name_holders = false) const {
    return {.generation = 1,
            .bytes = kBytes,
            .fd = exported_.fd.get(),
            .token = "",
            .asked_before = asked_before,
            .name_holders = name_holders};
  }
  void Free() { arena_.reset(); }

 private:
  std::unique_ptr<ipc::Device> device_;
  std::unique_ptr<ipc::DeviceArena> arena_;
  ipc::ArenaExport exported_;
};

// Descriptors of `pid` that lead to an arena.
int ArenaDescriptors(pid_t pid) {
  int count = 0;
  const std::string folder = "/proc/" + std::to_string(pid) + "/fd";
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    std::error_code gone;
    const std::string target = std::filesystem::read_symlink(entry.path(), gone).string();
    count += target.find("baton-device") != std::string::npos;
  }
  return count;
}

bool Exists(pid_t pid) { return ::kill(pid, 0) == 0; }

TEST_F(ConfirmHelperTest, AsksTheKernelAndKeepsNoDescriptor) {
  StartReal();
  Arena arena;
  Ask(arena.Question(false, /*name_holders=*/true));
  DeviceVerdict verdict = Answer();
  EXPECT_EQ(verdict.text, "pinned-by " + std::to_string(::getpid()));
  EXPECT_TRUE(verdict.mapped);
  EXPECT_EQ(ArenaDescriptors(helper_->pid()), 0);
  arena.Free();
  for (int i = 0; i < 2; ++i) {
    Ask(arena.Question(true));
    verdict = Answer();
    EXPECT_TRUE(verdict.freed) << verdict.detail;
    EXPECT_EQ(verdict.text, "freed");
    EXPECT_EQ(verdict.source, "F_SEAL_WRITE + st_blocks");
    EXPECT_EQ(ArenaDescriptors(helper_->pid()), 0);
  }
}

// A27: what is mapped, by nobody that was looked for, is not known to be pinned by anybody.
TEST_F(ConfirmHelperTest, A27_MappedWithoutANameIsUnknown) {
  StartReal();
  Arena arena;
  Ask(arena.Question());
  const DeviceVerdict verdict = Answer();
  EXPECT_FALSE(verdict.freed);
  EXPECT_TRUE(verdict.mapped);
  EXPECT_EQ(verdict.text, "unknown");
  EXPECT_THAT(verdict.detail, HasSubstr("still maps it"));
}

// The first one has sealed and emptied the arena, and dies over the answer.
TEST_F(ConfirmHelperTest, AHelperThatDiesAfterItsLookIsFollowedByOneThatKnows) {
  ::setenv("BATON_CRASH_AT", "confirm.looked@1", 1);
  StartReal();
  Arena arena;
  arena.Free();
  Ask(arena.Question());
  const pid_t first = helper_->pid();
  const DeviceVerdict lost = Answer();
  EXPECT_FALSE(lost.freed);
  EXPECT_EQ(lost.text, "unknown");
  EXPECT_THAT(lost.detail, HasSubstr("confirmation helper"));
  Ask(arena.Question(/*asked_before=*/true));
  EXPECT_NE(helper_->pid(), first);
  EXPECT_TRUE(Answer().freed);
  RunUntil([&] { return !Exists(first); });  // reaped
}

TEST_F(ConfirmHelperTest, ALookThatFailsIsUnknown) {
  ::setenv("BATON_FAIL_AT", "confirm.look", 1);
  StartReal();
  Arena arena;
  arena.Free();
  Ask(arena.Question());
  const DeviceVerdict verdict = Answer();
  EXPECT_EQ(verdict.text, "unknown");
  EXPECT_THAT(verdict.detail, HasSubstr("confirm.look"));
  Ask(arena.Question(true));
  EXPECT_TRUE(Answer().freed);
}

TEST_F(ConfirmHelperTest, OneThatIsStoppedIsKilledAndReplaced) {
  StartReal();
  const pid_t first = helper_->pid();
  ASSERT_EQ(::kill(first, SIGSTOP), 0);
  Arena arena;
  arena.Free();
  Ask(arena.Question(), absl::Milliseconds(50));
  EXPECT_EQ(Answer().detail, "the confirmation helper (pid " + std::to_string(first) +
                                 ") did not answer within 50ms");
  RunUntil([&] { return helper_->state() == State::kIdle && !Exists(first); });
  Ask(arena.Question(true));
  EXPECT_TRUE(Answer().freed);
}

TEST_F(ConfirmHelperTest, OneThatIsKilledIsReplacedAtOnce) {
  StartReal();
  const pid_t first = helper_->pid();
  ASSERT_EQ(::kill(first, SIGKILL), 0);
  RunUntil([&] { return helper_->pid() != first && helper_->state() == State::kIdle; });
  RunUntil([&] { return !Exists(first); });  // reaped
  EXPECT_EQ(helper_->why_absent(), "");
}

TEST_F(ConfirmHelperTest, A27_AnAnswerToAnOldQuestionIsNeverBelieved) {
  StartScripted("old-call");
  Arena arena;
  Ask(arena.Question(), absl::Milliseconds(50));
  const DeviceVerdict verdict = Answer();
  EXPECT_FALSE(verdict.freed);
  EXPECT_THAT(verdict.detail, HasSubstr("did not answer within 50ms"));
}

TEST_F(ConfirmHelperTest, A27_AnAnswerAboutAnotherGenerationIsNeverBelieved) {
  StartScripted("other");
  Arena arena;
  Ask(arena.Question());
  const DeviceVerdict verdict = Answer();
  EXPECT_FALSE(verdict.freed);
  EXPECT_EQ(verdict.text, "unknown");
}

TEST_F(ConfirmHelperTest, AnAnswerThatNobodyWantsAnyMoreIsToldToNobody) {
  StartScripted("driver");
  Arena arena;
  Ask(arena.Question());
  helper_->Forget();
  RunUntil([this] { return helper_->state() == State::kIdle; });
  EXPECT_FALSE(verdict_.has_value());
}

TEST_F(ConfirmHelperTest, DriverHeldIsAVerdictOfItsOwn) {
  StartScripted("driver");
  Arena arena;
  Ask(arena.Question());
  const DeviceVerdict verdict = Answer();
  EXPECT_FALSE(verdict.freed);
  EXPECT_EQ(verdict.text, "driver-held");
  EXPECT_EQ(verdict.source, "a script");
}

TEST_F(ConfirmHelperTest, OneThatDiesWhenAskedAnswersUnknown) {
  StartScripted("die");
  Arena arena;
  Ask(arena.Question());
  const DeviceVerdict verdict = Answer();
  EXPECT_EQ(verdict.text, "unknown");
  EXPECT_THAT(verdict.detail, StartsWith("the confirmation helper"));
}

// ---- on a GPU that nobody has ----

TEST_F(ConfirmHelperTest, A27_ASurveyOfAGpuThatIsNotThereKnowsNothingAndSaysWhy) {
  StartReal();
  const auto survey = Survey();
  ASSERT_TRUE(survey.ok()) << survey.status();
  EXPECT_FALSE(survey->memory.ok());
  EXPECT_FALSE(survey->processes.ok());
  EXPECT_NE(survey->processes.status().message(), "");
  EXPECT_EQ(helper_->state(), State::kIdle);
}

TEST_F(ConfirmHelperTest, A27_AnArenaOnAGpuThatCannotBeAskedIsUnknown) {
  StartReal();
  ConfirmQuestion question{.generation = 1, .bytes = kBytes, .token = "a handle"};
  question.gpu = GpuQuestion{.owner = {.pid = 1 << 22, .start_time = 1}, .needed_bytes = kBytes};
  Ask(question);
  const DeviceVerdict verdict = Answer();
  EXPECT_TRUE(verdict.answered);
  EXPECT_FALSE(verdict.freed);
  EXPECT_EQ(verdict.text, "unknown");
  EXPECT_THAT(verdict.detail, HasSubstr("trial allocation"));
}

TEST_F(ConfirmHelperTest, ASurveyThatHangsEndsItsHelper) {
  StartScripted("mute");
  const pid_t first = helper_->pid();
  const auto survey = Survey(absl::Milliseconds(50));
  EXPECT_THAT(std::string(survey.status().message()), HasSubstr("did not answer within 50ms"));
  RunUntil([&] { return helper_->state() == State::kIdle && !Exists(first); });
}

TEST_F(ConfirmHelperTest, A27_AVerdictIsNoAnswerToASurvey) {
  StartScripted("driver");
  const auto survey = Survey();
  EXPECT_THAT(std::string(survey.status().message()), HasSubstr("another question"));
  EXPECT_FALSE(verdict_.has_value());
}

TEST_F(ConfirmHelperTest, ASurveyThatNobodyWantsAnyMoreIsToldToNobody) {
  StartReal();
  RunUntil([this] { return helper_->state() == State::kIdle; });
  helper_->AskSurvey(1, kNoDevice, absl::Minutes(2), ipc::MonotonicNs());
  helper_->Forget();
  RunUntil([this] { return helper_->state() == State::kIdle; });
  EXPECT_FALSE(survey_.has_value());
}

// By the time that it is told: no clock.
TEST_F(ConfirmHelperTest, OneThatNeverStartsIsTriedLessAndLessOften) {
  Make("/nonexistent/baton-confirm");
  int64_t now = 1000 * kNsPerMs;
  helper_->Start(now);
  EXPECT_EQ(helper_->state(), State::kAbsent);
  EXPECT_EQ(helper_->pid(), 0);
  EXPECT_THAT(helper_->why_absent(), HasSubstr("/nonexistent/baton-confirm"));
  EXPECT_EQ(helper_->deadline_ns(), now);  // the first time: at once
  helper_->Tick(now);
  for (const int64_t wait_ms : {100, 200, 400, 800, 1600, 3200, 6400, 10'000, 10'000}) {
    EXPECT_EQ(helper_->deadline_ns(), now + wait_ms * kNsPerMs);
    helper_->Tick(now + wait_ms * kNsPerMs - 1);
    EXPECT_EQ(helper_->deadline_ns(), now + wait_ms * kNsPerMs) << "it was tried too early";
    now += wait_ms * kNsPerMs;
    helper_->Tick(now);
  }
}

}  // namespace
}  // namespace baton::runtime
