// The helper's look at a GPU, with answers that a test has written: what it
// asks, whom it takes for ended, and what comes back over the socket.
#include "runtime/supervisor/gpu_look.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "capnp/message.h"

#include "ipc/control_socket.h"
#include "ipc/cuda/gpu_messages.h"
#include "ipc/process.h"
#include "runtime/supervisor/confirmation.h"

namespace baton::runtime {
namespace {

using ipc::cuda::GpuConfirmation;
using ipc::cuda::GpuSurvey;
using ipc::cuda::TrialOutcome;
using ipc::cuda::Uuid;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Verdict = GpuConfirmation::Verdict;

constexpr uint64_t kArena = 1000;
constexpr uint64_t kNeeded = 1200;
// No pid is as high as this (PID_MAX_LIMIT).
constexpr pid_t kOwner = (1 << 22) + 1;

class ScriptedSource final : public ipc::cuda::GpuSource {
 public:
  GpuSurvey Survey(const Uuid& device) override {
    asked.push_back(device.bytes[0]);
    return survey;
  }
  GpuSurvey survey = ipc::cuda::UnknownSurvey(absl::NotFoundError("no NVML here"));
  std::vector<int> asked;
};

class ScriptedTrial final : public ipc::cuda::TrialAllocator {
 public:
  TrialOutcome Try(const Uuid&, uint64_t bytes) override {
    tried.push_back(bytes);
    return {.bytes = bytes, .status = status};
  }
  absl::Status status;
  std::vector<uint64_t> tried;
};

GpuSurvey Survey(uint64_t free, std::vector<GpuSurvey::Process> processes) {
  return {
      .memory = GpuSurvey::Memory{10'000, free}, .processes = std::move(processes), .mig = false};
}

class GpuLookTest : public ::testing::Test {
 protected:
  GpuLookTest() {
    question_.device.bytes[0] = 42;
    question_.owner = {.pid = kOwner, .start_time = 1};
    question_.needed_bytes = kNeeded;
    question_.baseline = Survey(500, {{kOwner, kArena}});
    source_.survey = Survey(1500, {});
  }
  GpuConfirmation Look() { return LookAtGpu(question_, kArena, source_, trial_); }
  static ipc::ProcessIdentity Self() { return *ipc::ProcessIdentity::Of(::getpid()); }

  GpuQuestion question_;
  ScriptedSource source_;
  ScriptedTrial trial_;
};

TEST_F(GpuLookTest, WhereTheListTellsNothingIsAllocated) {
  EXPECT_EQ(Look().verdict, Verdict::kFreed);
  EXPECT_THAT(source_.asked, ElementsAre(42));
  EXPECT_TRUE(trial_.tried.empty());
}

TEST_F(GpuLookTest, WithoutAListATrialOfTheNeededBytesDecides) {
  source_.survey = ipc::cuda::UnknownSurvey(absl::NotFoundError("no NVML here"));
  GpuConfirmation found = Look();
  EXPECT_EQ(found.verdict, Verdict::kFreed) << found.detail;
  EXPECT_EQ(found.source, "trial allocation of 1200 bytes");
  EXPECT_THAT(trial_.tried, ElementsAre(kNeeded));
  trial_.status = absl::ResourceExhaustedError("out of memory");
  found = Look();
  EXPECT_EQ(found.verdict, Verdict::kUnknown);
  EXPECT_THAT(found.detail, HasSubstr("no NVML here"));
  EXPECT_THAT(found.detail, HasSubstr("out of memory"));
}

TEST_F(GpuLookTest, WhereSomethingSpeaksAgainstItNothingIsAllocated) {
  source_.survey = Survey(1500, {{kOwner, 10}});
  question_.baseline.reset();
  EXPECT_EQ(Look().verdict, Verdict::kDriverHeld);
  question_.importers = {{.process = Self(), .state = Importer::State::kOpen}};
  const GpuConfirmation found = Look();
  EXPECT_EQ(found.verdict, Verdict::kStillMapped);
  EXPECT_THAT(found.holders, ElementsAre(::getpid()));
  EXPECT_TRUE(trial_.tried.empty());
}

TEST_F(GpuLookTest, AnImporterThatHasEndedHasClosedEvenAsAZombie) {
  auto child = ipc::SpawnProcess({.executable = "/bin/sleep", .args = {"1000"}});
  ASSERT_TRUE(child.ok()) << child.status();
  question_.importers = {{.process = child->identity(), .state = Importer::State::kOpen}};
  EXPECT_EQ(Look().verdict, Verdict::kStillMapped);
  auto watch = ipc::ProcessWatch::Open(child->identity());
  ASSERT_TRUE(watch.ok());
  ASSERT_TRUE(child->Kill(SIGKILL).ok());
  while (watch->alive()) std::this_thread::yield();
  EXPECT_EQ(Look().verdict, Verdict::kFreed);  // not reaped yet
  source_.survey = Survey(1500, {{child->pid(), 10}});
  EXPECT_EQ(Look().verdict, Verdict::kDriverHeld);
  ASSERT_TRUE(child->Reap(absl::InfiniteDuration()).ok());
}

// This process has the pid now; somebody else had it.
TEST_F(GpuLookTest, APidThatIsAnothersByNowIsNotTakenForTheOneThatWasMeant) {
  ipc::ProcessIdentity before = Self();
  ++before.start_time;
  question_.importers = {{.process = before, .state = Importer::State::kOpen}};
  EXPECT_EQ(Look().verdict, Verdict::kFreed);
  question_.importers.clear();
  question_.owner = before;
  question_.baseline = Survey(500, {{before.pid, kArena}});
  source_.survey = Survey(1500, {{before.pid, 10}});
  trial_.status = absl::ResourceExhaustedError("out of memory");
  const GpuConfirmation found = Look();
  EXPECT_EQ(found.verdict, Verdict::kUnknown);
  EXPECT_THAT(found.detail, HasSubstr("another process's now"));
  EXPECT_THAT(trial_.tried, ElementsAre(kNeeded));
}

// ---- over the socket ----

class ConfirmationTest : public GpuLookTest {
 protected:
  ConfirmationTest() {
    auto pair = ipc::ControlSocket::MakePair();
    supervisor_ = std::move(pair->first);
    helper_ = std::thread([this, fd = std::move(pair->second)]() mutable {
      ipc::ControlSocket socket(std::move(fd));
      ended_ = AnswerConfirmations(socket, source_, trial_);
    });
  }
  ~ConfirmationTest() override {
    supervisor_.Close();
    helper_.join();
  }
  template <typename Fill>
  ipc::ControlMessage Call(Fill&& fill) {
    capnp::MallocMessageBuilder message;
    auto envelope = message.initRoot<ipc::schema::Envelope>();
    envelope.setCall(++call_);
    fill(envelope);
    EXPECT_TRUE(supervisor_.Send(message).ok());
    auto answer = supervisor_.Receive(absl::Minutes(2));
    EXPECT_TRUE(answer.ok()) << answer.status();
    EXPECT_EQ(answer->call(), call_);
    return *std::move(answer);
  }

  ipc::ControlSocket supervisor_;
  absl::Status ended_;
  uint64_t call_ = 0;
  std::thread helper_;  // last: it uses all of these
};

TEST_F(ConfirmationTest, AGpuQuestionIsAnsweredFromWhatNvmlSays) {
  question_.successor = 5;
  question_.importers = {{.process = {.pid = 0, .start_time = 0}, .state = Importer::State::kOpen},
                         {.process = Self(), .state = Importer::State::kClosed},
                         {.process = Self(), .state = Importer::State::kLeft}};
  const auto ask = [this](auto envelope) {
    auto confirm = envelope.initConfirm();
    confirm.setGeneration(3);
    confirm.setBytes(kArena);
    WriteGpuQuestion(question_, confirm.initGpu());
  };
  ipc::ControlMessage answer = Call(ask);
  ASSERT_TRUE(answer.envelope().isVerdict());
  auto verdict = answer.envelope().getVerdict();
  EXPECT_EQ(verdict.getGeneration(), 3u);
  EXPECT_EQ(verdict.getVerdict(), ipc::schema::Verdict::Kind::STILL_MAPPED);
  EXPECT_EQ(verdict.getHolders().size(), 0u);
  EXPECT_THAT(verdict.getDetail().cStr(), HasSubstr("another pid namespace"));
  question_.importers.erase(question_.importers.begin());
  answer = Call(ask);
  verdict = answer.envelope().getVerdict();
  EXPECT_EQ(verdict.getVerdict(), ipc::schema::Verdict::Kind::FREED);
  EXPECT_EQ(verdict.getSource(), "NVML process list + free memory");
}

TEST_F(ConfirmationTest, A27_AGpuQuestionWithoutADeviceIsUnknown) {
  const ipc::ControlMessage answer = Call([](auto envelope) {
    auto confirm = envelope.initConfirm();
    confirm.setBytes(kArena);
    confirm.initGpu().setNeededBytes(kNeeded);
  });
  const auto verdict = answer.envelope().getVerdict();
  EXPECT_EQ(verdict.getVerdict(), ipc::schema::Verdict::Kind::UNKNOWN);
  EXPECT_THAT(verdict.getDetail().cStr(), HasSubstr("UUID"));
  EXPECT_TRUE(source_.asked.empty());
}

TEST_F(ConfirmationTest, ASurveyIsWhatNvmlSays) {
  const ipc::ControlMessage answer = Call([this](auto envelope) {
    auto survey = envelope.initSurvey();
    survey.setGeneration(9);
    survey.setDevice(ipc::cuda::UuidData(question_.device));
  });
  ASSERT_TRUE(answer.envelope().isSurveyed());
  EXPECT_EQ(answer.envelope().getSurveyed().getGeneration(), 9u);
  const GpuSurvey survey = ipc::cuda::ReadSurvey(answer.envelope().getSurveyed().getSurvey());
  EXPECT_EQ(survey.memory->free_bytes, 1500u);
  EXPECT_THAT(source_.asked, ElementsAre(42));
}

TEST(GpuQuestionTest, A27_ImportersThatAreNotToldCountAsOne) {
  GpuQuestion question;
  for (size_t i = 0; i < kMaxImportersTold; ++i) {
    question.importers.push_back(
        {.process = {.pid = 1, .start_time = i}, .state = Importer::State::kClosed});
  }
  question.importers.push_back(
      {.process = {.pid = 2, .start_time = 1}, .state = Importer::State::kLeft});
  capnp::MallocMessageBuilder message;
  WriteGpuQuestion(question, message.initRoot<ipc::schema::GpuQuestion>());
  const auto read = ReadGpuQuestion(message.getRoot<ipc::schema::GpuQuestion>().asReader());
  ASSERT_TRUE(read.ok());
  ASSERT_EQ(read->importers.size(), kMaxImportersTold + 1);
  EXPECT_EQ(read->importers.front().process.pid, 2);
  EXPECT_EQ(read->importers.back(), (Importer{{0, 0}, Importer::State::kOpen}));
}

}  // namespace
}  // namespace baton::runtime
