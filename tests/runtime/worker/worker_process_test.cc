// A real baton-worker, with this test as its supervisor.
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "ipc/device.h"
#include "ipc/schema_convert.h"
#include "runtime/worker/worker.h"
#include "tests/runtime/worker/fake_supervisor.h"
#include "tests/runtime/worker/test_channel.h"

namespace baton::runtime {
namespace {

using Envelope = FakeSupervisor::Envelope;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

constexpr ipc::ExitStatus Exited(int code) { return {ipc::ExitStatus::Kind::kExited, code}; }

// The trace without what the model saw of its process.
std::vector<std::string> Scenes(const Stage& stage) {
  std::vector<std::string> lines = stage.Trace();
  std::erase_if(lines, [](const std::string& line) {
    return line.starts_with("env ") || line.starts_with("fd ");
  });
  return lines;
}

std::string ProcFile(pid_t pid, const char* name) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/" + name, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

TEST(WorkerProcessTest, ServesFromStartToExit) {
  Stage stage;
  FakeSupervisor worker(stage, 4, {});
  TestChannel channel;
  const ipc::ControlMessage staged = worker.Expect(Envelope::STAGED, 1);
  const auto signature = ipc::ReadSignature(staged.envelope().getStaged().getSignature());
  ASSERT_TRUE(signature.ok()) << signature.status();
  EXPECT_EQ(ToString(signature->inputs.at(0)), "x: int64[1]");
  EXPECT_EQ(staged.envelope().getStaged().getDeviceBytes(), 8192u);
  EXPECT_THAT(Scenes(stage), ElementsAre("stage"));

  channel.AddTo(worker, 9, 5);
  EXPECT_EQ(worker.Expect(Envelope::CHANNEL_ADDED, 5).envelope().getChannelAdded().getChannel(),
            9u);
  channel.Submit(41, stage.page(), stage.doorbell_fd());

  worker.Admit(2, 8192);
  ipc::ControlMessage told = worker.Expect(Envelope::ARENA, 2);
  EXPECT_EQ(told.envelope().getArena().getGeneration(), 4u);
  const uint64_t arena_bytes = told.envelope().getArena().getBytes();
  EXPECT_EQ(arena_bytes, 8192u) << "whole pages";
  const ipc::ControlMessage ready = worker.Expect(Envelope::READY, 2);
  EXPECT_EQ(ready.envelope().getReady().getGeneration(), 4u);
  EXPECT_EQ(ready.envelope().getReady().getBytes(), arena_bytes);
  EXPECT_EQ(ready.fd_count(), 0u);
  EXPECT_THAT(Scenes(stage), ElementsAre("stage", "upload", "run"));
  EXPECT_EQ(stage.page().generation, 0u) << "the page is the worker's from `serve` on";
  EXPECT_THAT(stage.Log(), HasSubstr(": Subprocess: Model created successfully\n"));

  auto arena = ipc::ImportHostArena(
      {.fd = told.TakeFd(0), .token = "", .bytes = arena_bytes, .generation = 4});
  ASSERT_TRUE(arena.ok()) << arena.status();
  EXPECT_EQ((*arena)->bytes()[4999], std::byte{0x5a});

  worker.Serve();
  TestChannel::Answer answer = channel.Take();
  EXPECT_EQ(answer.status_code, 0);
  EXPECT_EQ(answer.y, 42);
  EXPECT_EQ(answer.generation, 4u);
  EXPECT_EQ(stage.page().generation, 4u);
  EXPECT_NE(stage.page().heartbeat_ns, 0);

  worker.Hold(6);
  worker.Expect(Envelope::HELD, 6);
  channel.Submit(1, stage.page(), stage.doorbell_fd());
  worker.Hold(7);  // answered after whatever would have been served
  worker.Expect(Envelope::HELD, 7);
  EXPECT_EQ(stage.page().taken, 1u);
  worker.Serve();
  EXPECT_EQ(channel.Take().y, 2);

  worker.Hold(8);
  worker.Expect(Envelope::HELD, 8);
  worker.Exit();
  EXPECT_EQ(worker.Reap(), Exited(kExitDone));
  // A23: once.
  EXPECT_THAT(Scenes(stage),
              ElementsAre("stage", "upload", "run", "run", "run", "cleanup", "destroyed"));
}

TEST(WorkerProcessTest, TheNextGenerationTakesWhatWaits) {
  Stage stage;
  TestChannel channel;
  {
    FakeSupervisor first(stage, 1, {});
    first.BringUp();
    channel.AddTo(first, 9, 3);
    first.Expect(Envelope::CHANNEL_ADDED, 3);
    channel.Submit(1, stage.page(), stage.doorbell_fd());
    EXPECT_EQ(channel.Take().generation, 1u);
    first.Hold(4);
    first.Expect(Envelope::HELD, 4);
    channel.Submit(2, stage.page(), stage.doorbell_fd());
    first.Exit();
    EXPECT_EQ(first.Reap(), Exited(kExitDone));
  }
  stage.page().sleeping = 1;  // as if it had died asleep
  FakeSupervisor second(stage, 2, {});
  second.Expect(Envelope::STAGED, 1);
  channel.AddTo(second, 9, 3);
  second.Expect(Envelope::CHANNEL_ADDED, 3);
  second.Admit(2, 1 << 20);
  second.ExpectReady(2);
  second.Serve();
  const TestChannel::Answer answer = channel.Take();
  EXPECT_EQ(answer.generation, 2u);
  EXPECT_EQ(answer.y, 3);
}

TEST(WorkerProcessTest, A12SecretsAreInTheEnvironmentAndDeletedOnesAreNot) {
  ::setenv("BATON_TEST_BOTH", "inherited", 1);
  ::setenv("BATON_TEST_INHERITED", "inherited", 1);
  {
    Stage stage;
    FakeSupervisor worker(stage, 1, {{"BATON_TEST_BOTH", "file"}, {"BATON_TEST_GONE", "soon"}});
    worker.Expect(Envelope::STAGED, 1);
    EXPECT_THAT(stage.Trace(), Contains("env BATON_TEST_BOTH=file"));
    EXPECT_THAT(stage.Trace(), Contains("env BATON_TEST_GONE=soon"));
    EXPECT_THAT(stage.Trace(), Contains("env BATON_TEST_INHERITED=inherited"));
  }
  Stage stage;
  FakeSupervisor worker(stage, 2, {});
  worker.Expect(Envelope::STAGED, 1);
  EXPECT_THAT(stage.Trace(), Contains("env BATON_TEST_BOTH=inherited"));
  EXPECT_THAT(stage.Trace(), Not(Contains(StartsWith("env BATON_TEST_GONE"))));
  ::unsetenv("BATON_TEST_BOTH");
  ::unsetenv("BATON_TEST_INHERITED");
}

TEST(WorkerProcessTest, A16NoSecretValueInLogsOrCommandLine) {
  Stage stage;
  FakeSupervisor worker(stage, 1, {{"BATON_TEST_SECRET", "xyzzy-42"}});
  worker.BringUp();
  EXPECT_THAT(ProcFile(worker.process().pid(), "cmdline"), Not(HasSubstr("xyzzy-42")));
  EXPECT_THAT(ProcFile(worker.process().pid(), "environ"), Not(HasSubstr("xyzzy-42")));
  worker.Exit();
  EXPECT_EQ(worker.Reap(), Exited(kExitDone));
  EXPECT_THAT(stage.Trace(), Contains("env BATON_TEST_SECRET=xyzzy-42"));
  EXPECT_THAT(stage.Log(), Not(HasSubstr("xyzzy-42")));
}

TEST(WorkerProcessTest, ModelCodeFindsNoDescriptorButTheWorkersOwn) {
  Stage stage;
  const ipc::UniqueFd leaked(::open("/dev/zero", O_RDONLY));
  FakeSupervisor worker(stage, 1, {}, leaked.get());
  worker.Expect(Envelope::STAGED, 1);
  int sockets = 0, eventfds = 0;
  for (const std::string& line : stage.Trace()) {
    if (!line.starts_with("fd ")) continue;
    EXPECT_THAT(line, Not(HasSubstr("memfd")));
    EXPECT_THAT(line, Not(HasSubstr("/dev/zero")));
    sockets += line.find("socket:") != std::string::npos && line.starts_with("fd 3 ");
    eventfds += line.find("[eventfd]") != std::string::npos;
  }
  EXPECT_EQ(sockets, 1);
  EXPECT_EQ(eventfds, 2) << "doorbell and commands";
}

TEST(WorkerProcessTest, A19ALoadThatFailsSaysWhy) {
  Stage stage;
  FakeSupervisor worker(stage, 1, {{"BATON_TEST_SCRIPT", "stage-throw"}});
  EXPECT_THAT(worker.ExpectFailed(1).ToString(), HasSubstr("stage went wrong"));
  EXPECT_EQ(worker.Reap(), Exited(kExitFailed));
}

TEST(WorkerProcessTest, ABadConfigSaysWhy) {
  Stage stage;
  stage.WriteConfig("loader: native\nlaoder: native\n");
  FakeSupervisor worker(stage, 1, {});
  EXPECT_THAT(worker.ExpectFailed(1).ToString(), HasSubstr("laoder"));
  EXPECT_EQ(worker.Reap(), Exited(kExitFailed));
}

// The thread that serves is the process's first one.
cpu_set_t CpusOf(pid_t thread) {
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  EXPECT_EQ(::sched_getaffinity(thread, sizeof(cpus), &cpus), 0);
  return cpus;
}

int LastCpu(const cpu_set_t& cpus) {
  int last = -1;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) last = CPU_ISSET(cpu, &cpus) ? cpu : last;
  return last;
}

TEST(WorkerProcessTest, ServesOnTheCpuThatItWasGiven) {
  const cpu_set_t usable = CpusOf(0);
  const int last = LastCpu(usable);
  for (const char* key : {"cpu: ", "cpus: "}) {
    Stage stage;
    const std::string one = std::to_string(last);
    const bool all = std::string(key) == "cpus: ";
    stage.WriteConfig(std::string("loader: native\nworker: {") + key +
                      (all ? "[" + one + "]" : one) + "}\n");
    FakeSupervisor worker(stage, 1, {});
    worker.Expect(Envelope::STAGED, 1);
    // The model's threads start before: `cpu` is not for them.
    cpu_set_t cpus = CpusOf(worker.process().pid());
    EXPECT_EQ(CPU_COUNT(&cpus), all ? 1 : CPU_COUNT(&usable));
    worker.Admit(2, 1 << 20);
    worker.ExpectReady(2);
    cpus = CpusOf(worker.process().pid());
    EXPECT_EQ(CPU_COUNT(&cpus), 1);
    EXPECT_TRUE(CPU_ISSET(last, &cpus));
    worker.Exit();
    EXPECT_EQ(worker.Reap(), Exited(kExitDone));
  }
}

TEST(WorkerProcessTest, ACpuThatIsNotThereIsRefused) {
  const cpu_set_t usable = CpusOf(0);
  if (CPU_ISSET(1023, &usable)) return;  // there is one more than any test machine has
  for (const char* worker_key : {"cpu: 1023", "cpus: [1023]"}) {
    Stage stage;
    stage.WriteConfig(std::string("loader: native\nworker: {") + worker_key + "}\n");
    FakeSupervisor worker(stage, 1, {});
    const absl::Status status = worker.ExpectFailed(1);
    EXPECT_THAT(status.ToString(), HasSubstr("CPU 1023 is none that this worker may run on"));
    EXPECT_EQ(worker.Reap(), Exited(kExitFailed));
  }
}

TEST(WorkerProcessTest, SpinsForAsLongAsItsConfigSays) {
  const cpu_set_t usable = CpusOf(0);
  if (CPU_COUNT(&usable) < 2) return;  // with one it never spins, whatever it is told
  for (const bool spins : {false, true}) {
    Stage stage;
    stage.WriteConfig(std::string("loader: native\nworker: {max_spin: ") + (spins ? "1h" : "1us") +
                      "}\n");
    FakeSupervisor worker(stage, 1, {});
    worker.BringUp();
    ASSERT_FALSE(HasFailure());  // it would be waited for in vain
    const auto wait = [](auto&& holds) {
      while (!holds()) std::this_thread::yield();
    };
    wait([&] { return stage.page().heartbeat_ns != 0; });
    if (spins) {
      for (int i = 0; i < 3; ++i) {  // idle all the while
        const int64_t beat = stage.page().heartbeat_ns;
        wait([&] { return stage.page().heartbeat_ns != beat; });
        EXPECT_EQ(stage.page().sleeping, 0u);
      }
    } else {
      wait([&] { return stage.page().sleeping == 1; });
    }
    worker.Exit();
    EXPECT_EQ(worker.Reap(), Exited(kExitDone));
  }
}

TEST(WorkerProcessTest, TakesItsMemoryFromTheNumaNodeThatItWasGiven) {
  std::string node;  // the first that this process may use
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("Mems_allowed_list:")) node = std::to_string(std::stoi(line.substr(18)));
  }
  Stage stage;
  stage.WriteConfig("loader: native\nworker: {numa_node: " + node + "}\n");
  FakeSupervisor worker(stage, 1, {});
  worker.Expect(Envelope::STAGED, 1);
  std::ifstream maps("/proc/" + std::to_string(worker.process().pid()) + "/numa_maps");
  const std::string text(std::istreambuf_iterator<char>(maps), {});
  EXPECT_THAT(text, HasSubstr(" prefer:" + node + " "));
  worker.Exit();
  EXPECT_EQ(worker.Reap(), Exited(kExitDone));
}

TEST(WorkerProcessTest, ANumaNodeThatIsNotThereIsRefused) {
  Stage stage;
  stage.WriteConfig("loader: native\nworker: {numa_node: 1023}\n");
  FakeSupervisor worker(stage, 1, {});
  const std::string text = worker.ExpectFailed(1).ToString();
  EXPECT_THAT(text, HasSubstr("worker.numa_node: NUMA node 1023 is none"));
  EXPECT_THAT(text, HasSubstr("there are "));
  EXPECT_EQ(worker.Reap(), Exited(kExitFailed));
}

// With or without a GPU: none has that many.
TEST(WorkerProcessTest, ADeviceThatIsNotThereIsRefused) {
  Stage stage;
  stage.WriteConfig("loader: native\ndevice: cuda:999\n");
  FakeSupervisor worker(stage, 1, {});
  const absl::Status status = worker.ExpectFailed(1);
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(status.ToString(), HasSubstr("device cuda:999: "));
  EXPECT_EQ(worker.Reap(), Exited(kExitFailed));
}

TEST(WorkerProcessTest, APageOfAnotherVersionIsRefused) {
  Stage stage;
  stage.page().version = 2u << 16;
  FakeSupervisor worker(stage, 1, {});
  EXPECT_EQ(worker.ExpectFailed(1).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(worker.Reap(), Exited(kExitFailed));
}

TEST(WorkerProcessTest, TakesNoMoreThanItWasAdmitted) {
  Stage stage;
  FakeSupervisor worker(stage, 1, {});
  worker.Expect(Envelope::STAGED, 1);
  worker.Admit(2, 4096);
  EXPECT_EQ(worker.ExpectFailed(2).code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(worker.Reap(), Exited(kExitFailed));
  EXPECT_THAT(Scenes(stage), ElementsAre("stage", "cleanup", "destroyed"));
}

TEST(WorkerProcessTest, AnUploadThatFailsSaysWhy) {
  Stage stage;
  FakeSupervisor worker(stage, 1, {{"BATON_TEST_SCRIPT", "upload-throw"}});
  worker.Expect(Envelope::STAGED, 1);
  worker.Admit(2, 1 << 20);
  worker.Expect(Envelope::ARENA, 2);  // before the model has touched it
  EXPECT_THAT(worker.ExpectFailed(2).ToString(), HasSubstr("upload went wrong"));
  EXPECT_EQ(worker.Reap(), Exited(kExitFailed));
}

TEST(WorkerProcessTest, AModelThatRefusesZerosServesAnyway) {
  Stage stage;
  FakeSupervisor worker(stage, 1, {{"BATON_TEST_SCRIPT", "run-throw"}});
  worker.BringUp();
  EXPECT_THAT(stage.Log(), HasSubstr("run went wrong"));
  TestChannel channel;
  channel.AddTo(worker, 1, 3);
  worker.Expect(Envelope::CHANNEL_ADDED, 3);
  channel.Submit(1, stage.page(), stage.doorbell_fd());
  EXPECT_NE(channel.Take().status_code, 0);
  worker.Exit();
  EXPECT_EQ(worker.Reap(), Exited(kExitDone));
}

TEST(WorkerProcessTest, ASegmentThatIsNoChannelIsRefused) {
  Stage stage;
  FakeSupervisor worker(stage, 1, {});
  worker.BringUp();
  TestChannel broken;
  auto map = ipc::Segment::Map(broken.submission().read_write.get(), broken.submission().bytes,
                               ipc::SegmentAccess::kReadWrite);
  map->data()[0] = std::byte{0};  // its magic
  broken.AddTo(worker, 1, 3);
  const ipc::ControlMessage refused = worker.Expect(Envelope::CHANNEL_REFUSED, 3);
  EXPECT_FALSE(ipc::ReadStatus(refused.envelope().getChannelRefused().getError()).ok());

  TestChannel good;
  good.AddTo(worker, 2, 4);
  worker.Expect(Envelope::CHANNEL_ADDED, 4);
  good.Submit(1, stage.page(), stage.doorbell_fd());
  EXPECT_EQ(good.Take().y, 2);
}

TEST(WorkerProcessTest, ARemovedChannelIsServedNoMore) {
  Stage stage;
  FakeSupervisor worker(stage, 1, {});
  worker.BringUp();
  TestChannel channel;
  channel.AddTo(worker, 1, 3);
  worker.Expect(Envelope::CHANNEL_ADDED, 3);
  worker.Send([](Envelope::Builder envelope) {
    envelope.setCall(4);
    envelope.initRemoveChannel().setChannel(1);
  });
  EXPECT_EQ(worker.Expect(Envelope::CHANNEL_REMOVED, 4).envelope().getChannelRemoved().getChannel(),
            1u);
  channel.Submit(1, stage.page(), stage.doorbell_fd());
  worker.Hold(5);
  worker.Expect(Envelope::HELD, 5);
  EXPECT_EQ(stage.page().taken, 0u);
}

// Whatever the model does with it from then on, the supervisor knows of it.
TEST(WorkerProcessTest, TheArenaIsToldBeforeTheModelMayTouchIt) {
  Stage stage;
  FakeSupervisor worker(stage, 1, {{"BATON_TEST_SCRIPT", "upload-hang"}});
  worker.Expect(Envelope::STAGED, 1);
  worker.Admit(2, 1 << 20);
  ipc::ControlMessage told = worker.Expect(Envelope::ARENA, 2);
  auto arena = ipc::ImportHostArena({.fd = told.TakeFd(0),
                                     .token = "",
                                     .bytes = told.envelope().getArena().getBytes(),
                                     .generation = 1});
  EXPECT_TRUE(arena.ok()) << arena.status();
  worker.Die();
  worker.Reap();
}

// A30: in every state, and whatever the model does.
TEST(WorkerProcessTest, A30GoesWithItsSupervisor) {
  {
    Stage stage;
    FakeSupervisor worker(stage, 1, {});
    worker.BringUp();
    worker.Die();
    EXPECT_EQ(worker.Reap(), Exited(kExitSupervisorGone));
    EXPECT_THAT(Scenes(stage), Not(Contains("cleanup")));
  }
  for (const std::string scene : {"stage", "run", "cleanup"}) {
    Stage stage;
    FakeSupervisor worker(stage, 1, {{"BATON_TEST_SCRIPT", scene + "-hang"}});
    if (scene != "stage") {
      worker.Expect(Envelope::STAGED, 1);
      worker.Admit(2, 1 << 20);
    }
    if (scene == "cleanup") {
      worker.ExpectReady(2);
      worker.Exit();
    }
    stage.WaitForTrace(scene);
    worker.Die();
    EXPECT_EQ(worker.Reap(), Exited(kExitSupervisorGone)) << "stuck in " << scene;
  }
}

TEST(WorkerProcessTest, A23ACleanupThatThrowsIsLoggedAndEnds) {
  Stage stage;
  FakeSupervisor worker(stage, 1, {{"BATON_TEST_SCRIPT", "cleanup-throw"}});
  worker.BringUp();
  worker.Exit();
  EXPECT_EQ(worker.Reap(), Exited(kExitDone));
  const std::vector<std::string> scenes = Scenes(stage);
  EXPECT_EQ(std::count(scenes.begin(), scenes.end(), "cleanup"), 1);
}

TEST(WorkerProcessTest, A23ACleanupThatHangsIsTheSupervisorsToKill) {
  Stage stage;
  FakeSupervisor worker(stage, 1, {{"BATON_TEST_SCRIPT", "cleanup-hang"}});
  worker.BringUp();
  worker.Exit();
  stage.WaitForTrace("cleanup");
  ASSERT_TRUE(worker.process().Kill(SIGKILL).ok());
  const ipc::ExitStatus killed = worker.Reap();
  EXPECT_EQ(killed.kind, ipc::ExitStatus::Kind::kSignalled);
  EXPECT_EQ(killed.value, SIGKILL);
}

TEST(WorkerProcessTest, AStagedWorkerCleansUpWhenItIsNotWanted) {
  Stage stage;
  FakeSupervisor worker(stage, 1, {});
  worker.Expect(Envelope::STAGED, 1);
  worker.Exit();
  EXPECT_EQ(worker.Reap(), Exited(kExitDone));
  EXPECT_THAT(Scenes(stage), ElementsAre("stage", "cleanup", "destroyed"));
}

// A30: a service manager that signals every process of a service must not stop
// a worker that has to drain.
TEST(WorkerProcessTest, LeavesTerminationToTheSupervisor) {
  Stage stage;
  FakeSupervisor worker(stage, 1, {});
  worker.BringUp();
  TestChannel channel;
  channel.AddTo(worker, 1, 3);
  worker.Expect(Envelope::CHANNEL_ADDED, 3);
  for (const int number : {SIGTERM, SIGINT, SIGHUP, SIGPIPE}) {
    ASSERT_TRUE(worker.process().Kill(number).ok());
  }
  for (int64_t x = 0; x < 10; ++x) {
    channel.Submit(x, stage.page(), stage.doorbell_fd());
    EXPECT_EQ(channel.Take().y, x + 1);
  }
  worker.Exit();
  EXPECT_EQ(worker.Reap(), Exited(kExitDone));
}

TEST(WorkerProcessTest, SaysWhatItIsToPeople) {
  ipc::SpawnOptions options;
  options.executable = std::getenv("BATON_WORKER");
  auto process = ipc::SpawnProcess(options);
  ASSERT_TRUE(process.ok()) << process.status();
  EXPECT_EQ(*process->Reap(absl::Minutes(2)), Exited(kExitUsage));
}

}  // namespace
}  // namespace baton::runtime
