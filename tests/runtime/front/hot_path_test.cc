// R13: in steady state a request costs no heap allocation, no system call and
// no page fault, on either side.
//
// Not built with sanitizers: they allocate, call and fault themselves.
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

#include "runtime/front/channel_core.h"
#include "tests/kernels/heap_counter.h"
#include "tests/runtime/front/fake_server.h"
#include "tests/runtime/front/stream_calls.h"
#include "tests/runtime/worker/batching_worker.h"

namespace baton::test {
namespace {

constexpr int kRequests = 10'000;
constexpr int kBatch = 500;

// x: float32[16] -> y: float32[16]
Signature FixedSignature() {
  return {.inputs = {{.name = "x", .dtype = DType::kFloat32, .shape = {16}}},
          .outputs = {{.name = "y", .dtype = DType::kFloat32, .shape = {16}}}};
}

struct Costs {
  uint64_t allocations = 0;
  uint64_t faults = 0;
  uint64_t syscalls = 0;
  bool none() const { return allocations == 0 && faults == 0 && syscalls == 0; }
};

std::atomic<uint64_t> syscalls{0};

// Both threads together: the process has no others that do anything meanwhile.
Costs Now() {
  rusage usage;
  ::getrusage(RUSAGE_SELF, &usage);
  return {.allocations = testing::HeapCalls(),
          .faults = static_cast<uint64_t>(usage.ru_minflt + usage.ru_majflt),
          .syscalls = syscalls.load()};
}

Costs Since(const Costs& before) {
  const Costs now = Now();
  return {.allocations = now.allocations - before.allocations,
          .faults = now.faults - before.faults,
          .syscalls = now.syscalls - before.syscalls};
}

// A service's thread and a worker's, both with something to do all the time.
class HotPath {
 public:
  HotPath()
      : server_(FixedSignature()),
        model_(Double, FixedSignature()),
        channel_(server_.Open({.max_spin = absl::Seconds(10)})),
        worker_(server_, 0, 1, model_, /*busy=*/true) {
    const RequestPlan plan = *channel_.Plan(FixedSignature().inputs);
    for (size_t i = 0; i < kBound; ++i) {
      bound_[i] = *channel_.Bind(plan);
      bound_[i].set_tag(i);
      all_[i] = &bound_[i];
    }
  }

  // The ways to wait. Each gives whether it went well.
  bool Call() {
    absl::StatusOr<Request> request = channel_.NewRequest();
    if (!request.ok()) return false;
    request->input<float>(0)[0] = 21;
    const absl::StatusOr<Response> response = channel_.Call(*std::move(request));
    return response.ok() && response->output<float>(size_t{0})[0] == 42;
  }
  bool Poll() {
    absl::StatusOr<Request> request = channel_.NewRequest();
    if (!request.ok()) return false;
    request->input<float>(0)[0] = 21;
    if (!channel_.Submit(*std::move(request)).ok()) return false;
    std::optional<Outcome> outcome;
    while (!outcome) outcome = channel_.Poll();
    return outcome->response.ok() && outcome->response->output<float>(size_t{0})[0] == 42;
  }
  // A batch of bound requests, taken with one look.
  bool Batch() {
    for (BoundRequest* one : all_) one->input<float>(0)[0] = 21;
    const absl::StatusOr<size_t> submitted = channel_.SubmitBatch(all_);
    if (!submitted.ok() || *submitted != kBound) return false;
    for (size_t taken = 0; taken < kBound;) {
      const size_t more = channel_.Poll(std::span(outcomes_));
      for (size_t i = 0; i < more; ++i) {
        if (!outcomes_[i].response.ok()) return false;
        if (bound_[outcomes_[i].tag].output<float>(size_t{0})[0] != 42) return false;
      }
      taken += more;
    }
    return true;
  }

 private:
  static constexpr size_t kBound = 4;
  FakeServer server_;
  FunctionModel model_;
  Channel channel_;
  std::array<BoundRequest, kBound> bound_;
  std::array<BoundRequest*, kBound> all_;
  std::array<Outcome, kBound> outcomes_;
  WorkerThread worker_;
};

// The same of two streams that never end.
class StreamPath {
 public:
  StreamPath()
      : server_(StreamMethods()),
        channel_(server_.Open({.max_spin = absl::Seconds(10)})),
        counts_(OpenCount(channel_, {{"n", int64_t{1} << 60}}, {.window = 8})),
        sums_(OpenItems(channel_, kSum)),
        item_(*sums_.PlanItem(
            std::vector<TensorSpec>{{.name = "x", .dtype = DType::kInt64, .shape = {}}})),
        worker_(server_, 0, 1, model_, /*busy=*/true) {
    // Without an item the model waits, and nothing else goes on.
    if (!Write()) std::abort();
  }

  bool Read() {
    for (;;) {
      const absl::StatusOr<Stream::ReadResult> read = counts_.TryRead();
      if (!read.ok()) return false;
      if (read->found == Stream::Found::kResponse) {
        return read->response.output<int64_t>(size_t{0})[0] == next_++ && WriteAgain();
      }
      if (!WriteAgain()) return false;
    }
  }

 private:
  bool Write() {
    absl::StatusOr<Request> item = sums_.Loan(item_);
    if (!item.ok()) return false;
    item->input<int64_t>(0)[0] = 1;
    ++sent_;
    return sums_.Write(*std::move(item), absl::Seconds(10)).ok();
  }
  // Sends the next item when the last one has been answered.
  bool WriteAgain() {
    const absl::StatusOr<Stream::ReadResult> read = sums_.TryRead();
    if (!read.ok()) return false;
    if (read->found != Stream::Found::kResponse) return true;
    return read->response.output<int64_t>(size_t{0})[0] == sent_ && Write();
  }

  FakeServer server_;
  StreamModel model_;
  Channel channel_;
  Stream counts_;
  Stream sums_;
  RequestPlan item_;
  int64_t next_ = 0;
  int64_t sent_ = 0;
  WorkerThread worker_;
};

// The same of a worker that puts the requests of four channels into one call.
class GatheredPath {
 public:
  GatheredPath() {
    const TensorSpec x{.name = "x", .dtype = DType::kFloat32, .shape = {16}};
    for (size_t i = 0; i < kChannels; ++i) {
      channels_.push_back(server_.Open({.max_spin = absl::Seconds(10)}));
      bound_.push_back(*channels_[i].Bind(*channels_[i].Plan({&x, 1})));
    }
    worker_.emplace(server_, model_, loader::BatchingPolicy{.max_batch = 16 * kChannels});
    thread_ = std::thread([this] {
      for (;;) worker_->Turn();
    });
  }
  bool Poll() {
    for (size_t i = 0; i < kChannels; ++i) {
      bound_[i].input<float>(0)[0] = 21;
      if (!channels_[i].Submit(bound_[i]).ok()) return false;
    }
    for (size_t i = 0; i < kChannels; ++i) {
      std::optional<Outcome> outcome;
      while (!outcome) outcome = channels_[i].Poll();
      if (!outcome->response.ok() || bound_[i].output<float>(size_t{0})[0] != 42) return false;
    }
    return true;
  }

 private:
  static constexpr size_t kChannels = 4;
  FakeServer server_;
  FunctionModel model_{Double};
  std::vector<Channel> channels_;
  std::vector<BoundRequest> bound_;
  std::optional<BatchingWorker> worker_;
  std::thread thread_;
};

// The same with inputs and results in device memory.
class DeviceHotPath {
 public:
  DeviceHotPath() {
    FrontOptions options;
    options.import_device = true;
    session_ = server_.Connect(options);
    server_.status_page().generation.store(1);
    server_.OfferArena(*arena_->Export());
    channel_.emplace(
        *internal::ChannelCore::OpenChannel(session_, {.device_result_bytes = kBytes / 2,
                                                       .device_input_bytes = kBytes / 2,
                                                       .max_spin = absl::Seconds(10)}));
    const std::vector<TensorSpec> inputs = FixedSignature().inputs;
    plan_ = *channel_->Plan(inputs, {.inputs_on_device = true, .results_on_device = true});
    worker_.emplace(
        server_, 0, 1, model_, /*busy=*/true,
        runtime::ChannelDevice{
            .device = device_.get(), .slices_address = arena_->address(), .slices_bytes = kBytes});
  }
  bool Poll() {
    absl::StatusOr<Request> request = channel_->Loan(plan_);
    if (!request.ok() || request->input_generation() != 1) return false;
    request->input<float>(0)[0] = 21;
    if (!channel_->Submit(*std::move(request)).ok()) return false;
    std::optional<Outcome> outcome;
    while (!outcome) outcome = channel_->Poll();
    return outcome->response.ok() && outcome->response->output<float>(size_t{0})[0] == 42;
  }

 private:
  static constexpr uint64_t kBytes = 1 << 20;
  FakeServer server_{FixedSignature()};
  FunctionModel model_{Double, FixedSignature()};
  std::unique_ptr<ipc::Device> device_ = ipc::CreateHostDevice(kBytes);
  std::unique_ptr<ipc::DeviceArena> arena_ = *device_->CreateArena(kBytes, 1);
  std::shared_ptr<internal::Session> session_;
  std::optional<Channel> channel_;
  RequestPlan plan_;
  std::optional<WorkerThread> worker_;
};

// ---- Counting system calls ----------------------------------------------------------------------

// From here on every system call of every thread of this process is refused
// with SIGSYS and counted, but for those that a test needs to report and end.
void OnSyscall(int, siginfo_t*, void*) { syscalls.fetch_add(1, std::memory_order_relaxed); }

bool TrapSyscalls() {
  struct sigaction action {};
  action.sa_sigaction = &OnSyscall;
  action.sa_flags = SA_SIGINFO | SA_NODEFER;
  if (::sigaction(SIGSYS, &action, nullptr) != 0) return false;
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return false;
  const auto allow = [](uint32_t number) {
    return std::array<sock_filter, 2>{sock_filter BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
                                      sock_filter BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
  };
  std::vector<sock_filter> filter = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr))};
  for (const uint32_t number :
       {uint32_t{SYS_write}, uint32_t{SYS_exit_group}, uint32_t{SYS_rt_sigreturn},
        uint32_t{SYS_getrusage}, uint32_t{SYS_restart_syscall}}) {
    for (const sock_filter& step : allow(number)) filter.push_back(step);
  }
  filter.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP));
  sock_fprog program{.len = static_cast<unsigned short>(filter.size()), .filter = filter.data()};
  return ::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) == 0;
}

// Threads that take no signals would be killed by a trapped call, and the process with them: one
// that has not begun yet, and the front's own, which must not make one. How often each of them has
// slept; nullopt where one does not sleep now.
std::optional<std::map<std::string, std::string>> SleepsOfThreadsWithoutSignals() {
  std::map<std::string, std::string> sleeps;
  std::error_code error;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task", error)) {
    std::ifstream status(task.path() / "status");
    std::map<std::string, std::string> fields;
    for (std::string line; std::getline(status, line);) {
      const size_t colon = line.find(":\t");
      if (colon != std::string::npos) fields[line.substr(0, colon)] = line.substr(colon + 2);
    }
    const uint64_t blocked = std::stoull("0" + fields["SigBlk"], nullptr, 16);
    if ((blocked & (uint64_t{1} << (SIGSYS - 1))) == 0) continue;
    if (fields["State"].rfind("S", 0) != 0) return std::nullopt;
    sleeps[task.path().filename()] = fields["voluntary_ctxt_switches"];
  }
  return sleeps;
}

// Until they have nothing to do: they sleep, and did between two looks.
void AwaitQuietThreads() {
  for (;;) {
    const auto before = SleepsOfThreadsWithoutSignals();
    ::sched_yield();
    if (before && before == SleepsOfThreadsWithoutSignals()) return;
  }
}

// ---- In a child, whose threads can all be trapped at once ---------------------------------------

enum Exit : int { kDone = 0, kFailedRequest = 1, kNoSeccomp = 2, kNoTrap = 3 };

struct Report {
  Costs total;
  // The batch of requests that cost least: a stray fault or a spin that ran out
  // because somebody else had the CPU is not the request's.
  Costs best;
};

template <typename Path>
Report InChild(bool (Path::*request)()) {
  int fds[2];
  EXPECT_EQ(::pipe2(fds, O_CLOEXEC), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    auto* hot = new Path();  // leaked: there is no way to end threads after the trap
    for (int i = 0; i < 2'000; ++i) {
      if (!(hot->*request)()) ::_exit(kFailedRequest);
    }
    AwaitQuietThreads();
    if (!TrapSyscalls()) ::_exit(kNoSeccomp);
    // The trap works: this one is counted.
    ::syscall(SYS_getppid);
    if (syscalls.exchange(0) == 0) ::_exit(kNoTrap);
    for (int i = 0; i < 100; ++i) {
      if (!(hot->*request)()) ::_exit(kFailedRequest);
    }
    Report report;
    report.best.allocations = report.best.faults = report.best.syscalls = ~uint64_t{0} >> 2;
    const Costs start = Now();
    for (int batch = 0; batch < kRequests / kBatch; ++batch) {
      const Costs before = Now();
      for (int i = 0; i < kBatch; ++i) {
        if (!(hot->*request)()) ::_exit(kFailedRequest);
      }
      const Costs costs = Since(before);
      if (costs.faults + costs.syscalls < report.best.faults + report.best.syscalls) {
        report.best = costs;
      }
    }
    report.total = Since(start);
    static_cast<void>(::write(fds[1], &report, sizeof(report)));
    ::_exit(kDone);
  }
  ::close(fds[1]);
  Report report;
  const ssize_t got = ::read(fds[0], &report, sizeof(report));
  ::close(fds[0]);
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_TRUE(WIFEXITED(status)) << "killed by signal " << WTERMSIG(status);
  EXPECT_EQ(WEXITSTATUS(status), kDone);
  EXPECT_EQ(got, static_cast<ssize_t>(sizeof(report)));
  return report;
}

// A front that polls never sleeps, so that not one system call is excused.
TEST(HotPath, PolledRequestsCostNothing) {  // R13
  const Report report = InChild(&HotPath::Poll);
  EXPECT_EQ(report.total.allocations, 0u);
  EXPECT_EQ(report.total.syscalls, 0u);
  EXPECT_EQ(report.best.faults, 0u);
}

TEST(HotPath, BatchesOfBoundRequestsCostNothing) {  // R13
  const Report report = InChild(&HotPath::Batch);
  EXPECT_EQ(report.total.allocations, 0u);
  EXPECT_EQ(report.total.syscalls, 0u);
  EXPECT_EQ(report.best.faults, 0u);
}

TEST(HotPath, RequestsThatAreGatheredCostNothing) {  // R13
  const Report report = InChild(&GatheredPath::Poll);
  EXPECT_EQ(report.total.allocations, 0u);
  EXPECT_EQ(report.total.syscalls, 0u);
  EXPECT_EQ(report.best.faults, 0u);
}

TEST(HotPath, TensorsOnTheDeviceCostNothing) {  // R13
  const Report report = InChild(&DeviceHotPath::Poll);
  EXPECT_EQ(report.total.allocations, 0u);
  EXPECT_EQ(report.total.syscalls, 0u);
  EXPECT_EQ(report.best.faults, 0u);
}

// A call that waits too long sleeps, and then the futex is called for. Where
// both sides have a CPU, there are batches in which none does.
TEST(HotPath, CallsCostNothingWhileBothSidesRun) {  // R13
  const Report report = InChild(&HotPath::Call);
  EXPECT_EQ(report.total.allocations, 0u);
  cpu_set_t cpus;
  ASSERT_EQ(::sched_getaffinity(0, sizeof(cpus), &cpus), 0);
  if (CPU_COUNT(&cpus) > 1) {
    EXPECT_EQ(report.best.syscalls, 0u);
  }
  EXPECT_EQ(report.best.faults, 0u);
}

// Responses and items of streams, which are polled for.
TEST(HotPath, StreamsCostNothingWhileTheyGoOn) {  // R13
  const Report report = InChild(&StreamPath::Read);
  EXPECT_EQ(report.total.allocations, 0u);
  EXPECT_EQ(report.best.syscalls, 0u);
  EXPECT_EQ(report.best.faults, 0u);
}

// The counters count.
TEST(HotPath, AllocationsAreCounted) {
  const Costs before = Now();
  // Volatile, so that the compiler cannot leave it out.
  std::vector<int>* volatile vector = new std::vector<int>(100);
  delete vector;
  EXPECT_EQ(Since(before).allocations, 2u);
}

}  // namespace
}  // namespace baton::test
