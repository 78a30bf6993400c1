// The books after a SIGKILL: first with the bytes that one would leave at each
// step, then with real ones at random.
#include "tests/simgpu/books.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "tests/simgpu/sim_gpu.h"
#include "tests/simgpu/sim_process.h"

namespace baton::testing {
namespace {

namespace fs = std::filesystem;
using ipc::cuda::DevicePtr;
using ipc::cuda::IpcMemHandle;
using ipc::cuda::kSuccess;
using ::testing::IsEmpty;

constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr SimGpuOptions kSmall = {.capacity_bytes = 64 * kMiB, .context_bytes = 2 * kMiB};

std::vector<std::string> Names(const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename());
  return names;
}

void Write(const std::string& path) { std::ofstream(path).put('\n'); }

TEST(SimGpuBooks, AllocationWithoutAHolderIsNobodys) {
  const SimGpu gpu(kSmall);
  Write(gpu.folder() + "/marks/7.12345");
  Write(gpu.folder() + "/live/7.0.12345.4194304.l");
  EXPECT_EQ(gpu.BytesInUse(), 0u);
  EXPECT_THAT(Names(gpu.folder() + "/live"), IsEmpty());
  EXPECT_THAT(Names(gpu.folder() + "/marks"), IsEmpty());
  EXPECT_THAT(Names(gpu.folder() + "/ended"), IsEmpty());
}

TEST(SimGpuBooks, MarkWithoutAnAllocationGoes) {
  const SimGpu gpu(kSmall);
  Write(gpu.folder() + "/marks/7.12345");
  SimProcess(gpu, [](Link&) {
    UseContext();
    MustAlloc(1);
  }).Join();
  EXPECT_EQ(gpu.BytesInUse(), 0u);
  EXPECT_THAT(Names(gpu.folder() + "/marks"), IsEmpty());
}

TEST(SimGpuBooks, MarkOfAnEndedAllocationGoes) {
  SimGpu gpu(kSmall);
  gpu.SetKnob("hold_teardown", 1);
  Write(gpu.folder() + "/marks/7.12345");
  Write(gpu.folder() + "/ended/7.0.12345.4194304.l.12345.1");
  EXPECT_EQ(gpu.Holders()[12345], 4 * kMiB);
  SimProcess(gpu, [](Link&) { UseContext(); }).Join();
  EXPECT_EQ(gpu.BytesInUse(), 4 * kMiB);
  gpu.ClearKnob("hold_teardown");
  EXPECT_EQ(gpu.BytesInUse(), 0u);
  EXPECT_THAT(Names(gpu.folder() + "/marks"), IsEmpty());
}

// The machine's lock goes with whoever is killed inside.
TEST(SimGpuBooks, LockOfAKilledProcessIsFree) {
  const SimGpu gpu(kSmall);
  SimProcess process(gpu, [&gpu](Link& link) {
    const int fd = ::open((gpu.folder() + "/lock").c_str(), O_RDWR | O_CLOEXEC);
    struct flock range {};
    range.l_type = F_WRLCK;
    range.l_len = 1;
    EXPECT_EQ(::fcntl(fd, F_OFD_SETLK, &range), 0);
    link.Send("locked");
    link.Receive();
  });
  ASSERT_EQ(process.link().Receive(), "locked");
  SimProcess waiting(gpu, [](Link& link) {
    Cuda();
    link.Send("ready");
    UseContext();
    link.Send("allocated");
    link.Receive();
  });
  ASSERT_EQ(waiting.link().Receive(), "ready");
  EXPECT_EQ(gpu.BytesInUse(), 0u);  // to look takes no lock
  EXPECT_FALSE(waiting.link().HasMessage());
  process.Kill();
  EXPECT_EQ(waiting.link().Receive(), "allocated");
  EXPECT_EQ(gpu.ContextBytes(), 2 * kMiB);
}

// Opens what it is told, allocates, frees, exports, until it is killed.
void Churn(const SimGpu& gpu, int seed, Link& link) {
  std::mt19937 random(static_cast<unsigned>(seed));
  UseContext();
  std::vector<DevicePtr> own;
  std::vector<DevicePtr> opened;
  link.Send("started");
  for (;;) {
    switch (random() % 4) {
      case 0: {
        DevicePtr address = 0;
        if (Cuda()->MemAlloc(&address, (1 + random() % 8) * kMiB) == kSuccess) {
          own.push_back(address);
          IpcMemHandle handle{};
          Cuda()->IpcGetMemHandle(&handle, address);
          const int fd = ::open((gpu.folder() + "/handle").c_str(), O_RDWR | O_CREAT, 0600);
          if (::pwrite(fd, &handle, sizeof(handle), 0) < 0) ::_exit(3);
          ::close(fd);
        }
        break;
      }
      case 1:
        if (!own.empty() && Cuda()->MemFree(own.back()) == kSuccess) own.pop_back();
        break;
      case 2: {
        IpcMemHandle handle{};
        DevicePtr address = 0;
        const int fd = ::open((gpu.folder() + "/handle").c_str(), O_RDONLY);
        if (fd >= 0 && ::pread(fd, &handle, sizeof(handle), 0) > 0 &&
            Cuda()->IpcOpenMemHandle(&address, handle, ipc::cuda::kIpcLazyEnablePeerAccess) ==
                kSuccess) {
          opened.push_back(address);
        }
        ::close(fd);
        break;
      }
      default:
        if (!opened.empty() && Cuda()->IpcCloseMemHandle(opened.back()) == kSuccess) {
          opened.pop_back();
        }
    }
  }
}

TEST(SimGpuBooks, AreRightAfterAStormOfKills) {
  SimGpu gpu(kSmall);
  constexpr int kProcesses = 4;
  constexpr int kKills = 60;
  std::mt19937 random(20240601);
  std::vector<std::unique_ptr<SimProcess>> processes(kProcesses);
  for (int kill = 0; kill < kKills; ++kill) {
    std::unique_ptr<SimProcess>& victim = processes[static_cast<size_t>(kill) % kProcesses];
    victim.reset();  // SIGKILL, wherever it is
    victim =
        std::make_unique<SimProcess>(gpu, [&gpu, kill](Link& link) { Churn(gpu, kill, link); });
    ASSERT_EQ(victim->link().Receive(), "started");
    ::usleep(static_cast<useconds_t>(random() % 3000));
    // Whoever is named is alive: the dead were reaped before this.
    for (const auto& [pid, bytes] : gpu.Holders()) EXPECT_EQ(::kill(pid, 0), 0) << pid;
  }
  processes.clear();
  EXPECT_EQ(gpu.BytesInUse(), 0u);
  EXPECT_EQ(gpu.ContextBytes(), 0u);
  EXPECT_THAT(gpu.Holders(), IsEmpty());
  EXPECT_GT(gpu.PeakBytes(), 0u);
  EXPECT_LE(gpu.PeakBytes(), 64 * kMiB);
  // Nothing is left that a later process would trip over.
  SimProcess(gpu, [](Link&) {
    UseContext();
    EXPECT_EQ(FreeBytes(), 62 * kMiB);
    EXPECT_EQ(Cuda()->MemFree(MustAlloc(62 * kMiB)), kSuccess);
    EXPECT_EQ(Cuda()->DevicePrimaryCtxRelease(0), kSuccess);
  }).Join();
  for (const char* folder : {"/live", "/ended", "/marks"}) {
    EXPECT_THAT(Names(gpu.folder() + folder), IsEmpty()) << folder;
  }
}

// Of those that ask at once exactly as many get memory as have room.
TEST(SimGpuBooks, CapacityIsNotExceededByARace) {
  const SimGpu gpu(kSmall);
  constexpr int kProcesses = 4;
  constexpr int kRounds = 40;
  std::vector<std::unique_ptr<SimProcess>> processes;
  for (int i = 0; i < kProcesses; ++i) {
    processes.push_back(std::make_unique<SimProcess>(gpu, [](Link& link) {
      UseContext();
      for (int round = 0; round < kRounds; ++round) {
        link.Receive();
        DevicePtr address = 0;
        const bool got = Cuda()->MemAlloc(&address, 24 * kMiB) == kSuccess;
        link.Send(got ? "got" : "refused");
        link.Receive();
        EXPECT_TRUE(!got || Cuda()->MemFree(address) == kSuccess);
        link.Send("freed");
      }
    }));
  }
  for (int round = 0; round < kRounds; ++round) {
    for (const auto& process : processes) process->link().Send("ask");
    int got = 0;
    for (const auto& process : processes) got += process->link().Receive() == "got" ? 1 : 0;
    EXPECT_EQ(got, 2);
    for (const auto& process : processes) process->link().Send("free");
    for (const auto& process : processes) ASSERT_EQ(process->link().Receive(), "freed");
  }
  for (const auto& process : processes) process->Join();
  EXPECT_EQ(gpu.PeakBytes(), 48 * kMiB);
}

}  // namespace
}  // namespace baton::testing
