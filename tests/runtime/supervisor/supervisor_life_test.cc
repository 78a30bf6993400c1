// The life of a real server: starting, stopping, fronts that die or cheat.
// Workers that die or hang: supervisor_worker_loss_test.cc.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "ipc/channel_layout.h"
#include "ipc/poll_fd.h"
#include "ipc/segment.h"
#include "tests/runtime/supervisor/supervisor_fixture.h"

namespace baton::testing {
namespace {

using ::testing::HasSubstr;

class SupervisorLifeTest : public SupervisorFixture {
 protected:
  absl::StatusOr<Channel> OpenChannel() {
    if (!front_) {
      auto front = server_->Attach();
      if (!front.ok()) return front.status();
      front_ = *std::move(front);
    }
    return front_->OpenChannel({.request_arena_bytes = 65536, .response_arena_bytes = 65536});
  }

  std::unique_ptr<Front> front_;
};

TEST_F(SupervisorLifeTest, A29_StatusFollowsTheWorker) {
  Start();
  const auto status = Status();
  EXPECT_EQ(status.state, "SERVING");
  EXPECT_EQ(status.generation, 1);
  EXPECT_TRUE(status.ready);
  EXPECT_TRUE(status.started);
  EXPECT_EQ(status.reason, "");
  EXPECT_EQ(status.worker_pid, server_->Workers().at(0));
}

TEST_F(SupervisorLifeTest, AModelThatDoesNotLoadEndsTheServerWithItsReason) {
  WriteModel({"behaviour: echo", "load: fail"});
  const absl::Status status = TryStart();
  EXPECT_THAT(std::string(status.message()), HasSubstr("load fails as asked"));
  EXPECT_TRUE(WaitFor([&] { return MarkedProcesses(mark_).empty(); }));
  EXPECT_FALSE(ControlClient::Connect(run_directory_, "test").ok());
}

TEST_F(SupervisorLifeTest, ANameThatIsServedIsRefused) {
  Start();
  auto first = std::move(server_);
  const absl::Status status = TryStart();
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(std::string(status.message()), HasSubstr("test"));
  server_ = std::move(first);
  EXPECT_EQ(Status().state, "SERVING");
}

TEST_F(SupervisorLifeTest, A30_SigtermLetsRequestsEnd) {
  WriteModel({"behaviour: slow", "ms: 1000", "weights_bytes: 4096"});
  Start();
  auto channel = OpenChannel();
  ASSERT_TRUE(channel.ok()) << channel.status();
  auto request = channel->NewRequest({{"data", DType::kUInt8, {1}}});
  ASSERT_TRUE(request.ok());
  ASSERT_TRUE(channel->Submit(*std::move(request)).ok());
  auto client = Client();
  ASSERT_TRUE(WaitFor([&] { return client.Status().taken == 1; }));
  ASSERT_TRUE(server_->process().Kill(SIGTERM).ok());
  auto outcome = channel->Wait(absl::Minutes(1));
  ASSERT_TRUE(outcome.has_value());
  EXPECT_TRUE(outcome->response.ok()) << outcome->response.status();
  const auto ended = server_->process().Reap(absl::Minutes(1));
  ASSERT_TRUE(ended.ok()) << ended.status();
  EXPECT_TRUE(ended->clean()) << ipc::ToString(*ended);
  const auto receipts = Receipts();
  ASSERT_EQ(receipts.size(), 1);
  EXPECT_EQ(receipts[0].outcome, "stopped");
  EXPECT_EQ(receipts[0].verdict, "freed");
  EXPECT_EQ(receipts[0].successor, 0);
}

TEST_F(SupervisorLifeTest, TheStopCommandStops) {
  Start();
  auto client = Client();
  auto answer = client.Call([](auto to) { to.setStop(); });
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_TRUE(answer->envelope().isDone());
  const auto ended = server_->process().Reap(absl::Minutes(1));
  ASSERT_TRUE(ended.ok()) << ended.status();
  EXPECT_TRUE(ended->clean());
}

TEST_F(SupervisorLifeTest, A30_ServerEndsWithTheDescriptorThatItWasGiven) {
  int life[2];
  ASSERT_EQ(::pipe2(life, O_CLOEXEC), 0);
  auto server = ipc::SpawnProcess(
      {.executable = std::string(std::getenv("BATON_BINARY_DIR")) + "/bin/baton-supervisor",
       .args = {ProbeModel(temp_, {"behaviour: echo"}), "--name", "mine", "--run-directory",
                run_directory_, "--die-with-fd", "3"},
       .env = {},
       .fds = {{life[0], 3}}});
  ASSERT_TRUE(server.ok()) << server.status();
  ::close(life[0]);
  ASSERT_TRUE(WaitFor([&] {
    auto client = ControlClient::Open(run_directory_, "mine");
    return client.ok() && client->Status().state == "SERVING";
  }));
  ::close(life[1]);
  const auto ended = server->Reap(absl::Minutes(1));
  ASSERT_TRUE(ended.ok()) << ended.status();
  EXPECT_TRUE(ended->clean());
}

TEST_F(SupervisorLifeTest, A30_KilledSupervisorLeavesNoWorker) {
  Start();
  ASSERT_TRUE(server_->process().Kill(SIGKILL).ok());
  EXPECT_TRUE(WaitFor([&] { return MarkedProcesses(mark_).empty(); }));
  server_.reset();
  Start();
  EXPECT_EQ(Status().generation, 1);
}

TEST_F(SupervisorLifeTest, R11_AFrontThatDiesIsForgotten) {
  Start();
  const pid_t child = ::fork();
  if (child == 0) {
    auto front = server_->Attach();
    auto channel = (*front)->OpenChannel();
    ::pause();
  }
  auto client = Client();
  ASSERT_TRUE(WaitFor([&] { return client.Status().channels == 1; }));
  EXPECT_EQ(client.Status().fronts, 1);
  ::kill(child, SIGKILL);
  EXPECT_TRUE(WaitFor([&] {
    const auto status = client.Status();
    return status.channels == 0 && status.fronts == 0;
  }));
  ::waitpid(child, nullptr, 0);
}

TEST_F(SupervisorLifeTest, AChannelThatIsClosedIsForgotten) {
  Start();
  auto client = Client();
  {
    auto channel = OpenChannel();
    ASSERT_TRUE(channel.ok()) << channel.status();
    EXPECT_EQ(client.Status().channels, 1);
  }
  EXPECT_TRUE(WaitFor([&] { return client.Status().channels == 0; }));
}

TEST_F(SupervisorLifeTest, ANonsensePacketClosesItsSessionOnly) {
  Start();
  auto innocent = Client();
  for (const std::string& packet :
       {std::string("x"), std::string(64, '\xff'), std::string(60000, '\0')}) {
    auto client = Client();
    ASSERT_EQ(::send(client.fd(), packet.data(), packet.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(packet.size()));
    EXPECT_TRUE(client.IsClosed());
  }
  {
    auto silent = ControlClient::Connect(run_directory_, "test");
    ASSERT_TRUE(silent.ok());
    ASSERT_TRUE(silent->Send([](auto to) { to.setStop(); }).ok());  // before any hello
    EXPECT_TRUE(silent->IsClosed());
  }
  {
    auto cheat = Client();  // only workers say so
    ASSERT_TRUE(cheat.Send([](auto to) { to.setHeld(); }).ok());
    EXPECT_TRUE(cheat.IsClosed());
  }
  {
    auto old = ControlClient::Connect(run_directory_, "test");
    ASSERT_TRUE(old.ok());
    const auto answer = old->Call([](auto to) { to.initHello().setProtocolVersion(99); });
    EXPECT_EQ(answer.status().code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(answer.status().message()), HasSubstr("99"));
  }
  EXPECT_EQ(innocent.Status().state, "SERVING");
}

TEST_F(SupervisorLifeTest, R7_ChannelsOfAnythingButSharedMemoryAreRefused) {
  Start();
  auto front = ControlClient::Open(run_directory_, "test", ControlClient::Role::FRONT);
  ASSERT_TRUE(front.ok()) << front.status();
  auto segment = ipc::CreateSegment({.bytes = 8192, .backing = ipc::SegmentBacking::kMemfd});
  ASSERT_TRUE(segment.ok()) << segment.status();
  const auto open = [&](std::vector<int> fds, uint64_t bytes) {
    return front
        ->Call(
            [&](auto to) {
              auto channel = to.initOpenChannel();
              channel.setRingEntries(8);
              channel.setSubmissionBytes(bytes);
              channel.setCompletionBytes(bytes);
            },
            fds)
        .status();
  };
  int pipe[2];
  ASSERT_EQ(::pipe2(pipe, O_CLOEXEC), 0);
  const int good = segment->read_write.get();
  EXPECT_EQ(open({}, 8192).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(open({pipe[0], good}, 8192).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(open({good, good}, 1 << 20).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(open({good, good}, 0).code(), absl::StatusCode::kInvalidArgument);
  // Memory it is, but no channel: the worker says so.
  const absl::Status refused = open({good, good}, 8192);
  EXPECT_FALSE(refused.ok());
  EXPECT_EQ(Status().channels, 0);
  EXPECT_EQ(Status().state, "SERVING");
  ::close(pipe[0]);
  ::close(pipe[1]);
}

// A front that maps generation 1's arena and neither closes it nor goes away.
TEST_F(SupervisorLifeTest, A27_AnArenaThatIsStillMappedIsNeverCalledFreed) {
  WriteModel({"behaviour: echo", "weights_bytes: 1048576"},
             "reload:\n  close_timeout: 200ms\n  confirm_timeout: 300ms\n");
  Start();
  auto front = ControlClient::Open(run_directory_, "test", ControlClient::Role::FRONT, true);
  ASSERT_TRUE(front.ok()) << front.status();
  auto offer = front->Receive();
  ASSERT_TRUE(offer.ok()) << offer.status();
  ASSERT_TRUE(offer->envelope().isImportArena());
  const ipc::UniqueFd arena = offer->TakeFd(0);
  void* mapped = ::mmap(nullptr, 1 << 20, PROT_READ, MAP_SHARED, arena.get(), 0);
  ASSERT_NE(mapped, MAP_FAILED);
  ASSERT_TRUE(front
                  ->Send([](auto to) {
                    auto imported = to.initImported();
                    imported.setGeneration(1);
                    imported.initError();
                  })
                  .ok());
  auto asker = Client();
  absl::Status reloaded;
  std::thread reloader([&] { reloaded = asker.Reload().status; });
  EXPECT_TRUE(front->AwaitClosing().ok());  // it leases nothing, and maps it all the same
  auto client = Client();
  const std::string verdict = "pinned-by " + std::to_string(::getpid());
  EXPECT_TRUE(WaitFor([&] {
    const auto status = client.Status();
    return status.state == "CONFIRMING" && status.last_verdict == verdict;
  })) << client.Status().last_verdict;
  EXPECT_THAT(client.Status().reason, HasSubstr(verdict));
  EXPECT_FALSE(client.Status().ready);
  reloader.join();  // confirm_timeout has passed: it is told, and waits no longer
  ::munmap(mapped, 1 << 20);
  EXPECT_TRUE(WaitForGeneration(2));
  EXPECT_EQ(reloaded.code(), absl::StatusCode::kUnavailable) << reloaded;
  EXPECT_THAT(std::string(reloaded.message()), HasSubstr(verdict));
  const auto receipt = Receipts().at(0);
  EXPECT_EQ(receipt.verdict, "freed");
  EXPECT_EQ(receipt.imports_cut_off, 1);
  EXPECT_EQ(receipt.imports_closed, 0);
  EXPECT_EQ(receipt.holders,
            "generation 1's memory was mapped by pid " + std::to_string(::getpid()));
  EXPECT_THAT(receipt.evidence.at("imports-closed"),
              HasSubstr("acknowledged by 0 fronts, 0 dead, 1 cut off"));
}

TEST_F(SupervisorLifeTest, FrontsCloseAndMapArenasOfEachGeneration) {
  Start();
  FrontOptions options;
  options.import_device = true;
  auto front = server_->Attach(options);
  ASSERT_TRUE(front.ok()) << front.status();
  ASSERT_TRUE(WaitFor([&] { return (*front)->imported_generation() == 1; }));
  const auto reloaded = Client().Reload();
  ASSERT_TRUE(reloaded.status.ok()) << reloaded.status;
  EXPECT_EQ((*front)->imported_generation(), 2);
  const auto receipt = Receipts().at(0);
  EXPECT_EQ(receipt.imports_closed, 1);
  EXPECT_EQ(receipt.imports_cut_off, 0);
  EXPECT_EQ(receipt.verdict, "freed");
}

// Many more messages than a worker's socket holds, both ways.
TEST_F(SupervisorLifeTest, AFrontWithManyChannelsOutlivesAReloadAndLeaves) {
  WriteModel({"behaviour: echo"});
  Start();
  rlimit limit{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &limit), 0);
  limit.rlim_cur = limit.rlim_max;
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &limit), 0);
  auto front = server_->Attach();
  ASSERT_TRUE(front.ok()) << front.status();
  std::vector<Channel> channels;
  for (int i = 0; i < 512; ++i) {
    auto channel = (*front)->OpenChannel(
        {.ring_entries = 2, .request_arena_bytes = 4096, .response_arena_bytes = 4096});
    ASSERT_TRUE(channel.ok()) << i << ": " << channel.status();
    channels.push_back(*std::move(channel));
  }
  const auto reloaded = Client().Reload();
  ASSERT_TRUE(reloaded.status.ok()) << reloaded.status;
  EXPECT_EQ(reloaded.outcome, "swapped");
  auto request = channels.back().NewRequest({{"data", DType::kUInt8, {1}}});
  ASSERT_TRUE(request.ok()) << request.status();
  const auto response = channels.back().Call(*std::move(request));
  EXPECT_TRUE(response.ok()) << response.status();
  const pid_t worker = Status().worker_pid;
  channels.clear();
  front->reset();
  ASSERT_TRUE(WaitFor([&] { return Status().channels == 0; }));
  const auto again = Client().Reload();  // the worker has lived to be asked to go
  EXPECT_TRUE(again.status.ok()) << again.status;
  EXPECT_EQ(Receipts().at(1).exit_kind, "exited");
  EXPECT_EQ(Status().restarts, 0);
  EXPECT_NE(Status().worker_pid, worker);
}

TEST_F(SupervisorLifeTest, AFrontThatComesWhileOthersMapGetsTheNewArena) {
  Start();
  const auto imported = [](ControlClient& front, uint64_t generation) {
    return front.Send([&](auto to) {
      auto answer = to.initImported();
      answer.setGeneration(generation);
      answer.initError();
    });
  };
  auto slow = ControlClient::Open(run_directory_, "test", ControlClient::Role::FRONT, true);
  ASSERT_TRUE(slow.ok()) << slow.status();
  auto offer = slow->Receive();
  ASSERT_TRUE(offer.ok() && offer->envelope().isImportArena());
  ASSERT_TRUE(imported(*slow, 1).ok());
  offer->TakeFd(0).reset();
  auto asker = Client();
  absl::Status reloaded;
  std::thread reloader([&] { reloaded = asker.Reload().status; });
  EXPECT_TRUE(slow->AwaitClosing().ok());
  auto close = slow->Receive();
  EXPECT_TRUE(close.ok() && close->envelope().isCloseImports());
  EXPECT_TRUE(slow->Send([](auto to) { to.initImportsClosed().setGeneration(1); }).ok());
  auto next = slow->Receive();  // REMAPPING, until this is answered
  EXPECT_TRUE(next.ok() && next->envelope().isImportArena());
  auto late = ControlClient::Open(run_directory_, "test", ControlClient::Role::FRONT, true);
  EXPECT_TRUE(late.ok()) << late.status();
  if (late.ok()) {
    auto late_offer = late->Receive();
    EXPECT_TRUE(late_offer.ok()) << late_offer.status();
    if (late_offer.ok()) {
      EXPECT_TRUE(late_offer->envelope().isImportArena());
      EXPECT_EQ(late_offer->envelope().getImportArena().getGeneration(), 2);
    }
    EXPECT_TRUE(imported(*late, 2).ok());
  }
  EXPECT_TRUE(imported(*slow, 2).ok());
  reloader.join();
  EXPECT_TRUE(reloaded.ok()) << reloaded;
}

// The life pipe alone does not tell: a child of the launcher may hold it open.
TEST_F(SupervisorLifeTest, A30_ServerEndsWithItsLauncherEvenIfItsPipeDoesNot) {
  int life[2];
  ASSERT_EQ(::pipe2(life, O_CLOEXEC), 0);  // this process is the other holder
  const std::string model = ProbeModel(temp_, {"behaviour: echo"});
  const pid_t launcher = ::fork();
  if (launcher == 0) {
    ::setenv("BATON_TEST_MARK", mark_.c_str(), 1);
    auto server = ipc::SpawnProcess(
        {.executable = std::string(std::getenv("BATON_BINARY_DIR")) + "/bin/baton-supervisor",
         .args = {model, "--name", "mine", "--run-directory", run_directory_, "--die-with-fd", "3"},
         .env = {},
         .fds = {{life[0], 3}}});
    ::pause();
  }
  EXPECT_TRUE(WaitFor([&] {
    auto client = ControlClient::Open(run_directory_, "mine");
    return client.ok() && client->Status().state == "SERVING";
  }));
  ::kill(launcher, SIGKILL);
  ::waitpid(launcher, nullptr, 0);
  EXPECT_TRUE(WaitFor([&] { return MarkedProcesses(mark_).empty(); }));
  ::close(life[0]);
  ::close(life[1]);
}

}  // namespace
}  // namespace baton::testing
