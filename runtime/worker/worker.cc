#include "runtime/worker/worker.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "ipc/crash_point.h"
#include "ipc/device.h"
#include "ipc/numa_node.h"
#include "ipc/open_device.h"
#include "ipc/pages.h"
#include "ipc/process.h"
#include "ipc/redact.h"
#include "ipc/schema_convert.h"
#include "ipc/segment.h"
#include "loader/model.h"
#include "loader/model_config.h"
#include "runtime/worker/command_queue.h"
#include "runtime/worker/control_thread.h"
#include "runtime/worker/cpu_affinity.h"
#include "runtime/worker/redacted_model.h"
#include "runtime/worker/secret_environment.h"
#include "runtime/worker/serving_loop.h"
#include "runtime/worker/supervisor_link.h"
#include "runtime/worker/warm_up.h"
#include "runtime/worker/worker_log.h"
#include "spdlog/spdlog.h"

namespace baton::runtime {
namespace {

constexpr uint64_t kPage = 4096;

uint64_t RoundUp(uint64_t bytes, uint64_t step) { return (bytes + step - 1) / step * step; }

const char* PageKindText(PageKind kind) {
  switch (kind) {
    case PageKind::kHugetlb:
      return "reserved huge";
    case PageKind::kTransparentHuge:
      return "transparent huge";
    case PageKind::kNormal:
      break;
  }
  return "normal";
}

// Runs `call`, code of the model or of its framework, and turns what it throws
// into a status.
template <typename Call>
absl::Status Guarded(const char* what, Call&& call) {
  try {
    return call();
  } catch (const std::exception& error) {
    return absl::InternalError(absl::StrCat(what, " threw: ", error.what()));
  } catch (...) {
    return absl::InternalError(absl::StrCat(what, " threw something that is no std::exception"));
  }
}

// What `start` says, once its descriptors have been taken care of.
struct Assignment {
  uint64_t start_call = 0;
  std::string server;
  std::string directory;
  uint64_t generation = 0;
  ipc::Segment page_memory;
  ipc::UniqueFd doorbell;
  std::vector<std::string> secrets;  // the values, as this worker got them
  std::string config;                // the text of config.yaml; empty: the file's
  std::string device;                // in place of the one in config.yaml; empty: that one

  ipc::WorkerPage& page() const { return *reinterpret_cast<ipc::WorkerPage*>(page_memory.data()); }

  // What the model says may quote a secret; no log and nobody else is to have it (A16).
  absl::Status WithoutSecrets(const absl::Status& status) const {
    const std::vector<std::string_view> values(secrets.begin(), secrets.end());
    return absl::Status(status.code(), ipc::Redacted(std::string(status.message()), values));
  }
};

[[noreturn]] void End(WorkerExit code) {
  std::fflush(nullptr);
  std::_Exit(code);
}

// A signal that a terminal or a service manager sends to everybody is the
// supervisor's to act on: the worker may have to drain. A handler rather than
// SIG_IGN, which processes that the model starts would inherit.
void LeaveSignalsToSupervisor() {
  struct sigaction action = {};
  action.sa_handler = [](int) {};
  action.sa_flags = SA_RESTART;
  for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGPIPE}) ::sigaction(number, &action, nullptr);
}

// What a model's libraries print goes where the log goes: nobody reads the
// standard output that was inherited, and it may be somebody's data.
void SendOutputToLog() {
  if (::dup2(STDERR_FILENO, STDOUT_FILENO) < 0) return;  // without a log, both go nowhere
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
}

absl::Status CheckPage(const ipc::WorkerPage& page) {
  constexpr uint32_t kMajor = 16;
  // SYNC: page_ready
  const uint32_t version = page.version.load(std::memory_order_acquire);
  if (page.magic == ipc::kWorkerPageMagic && version >> kMajor == ipc::kPageVersion >> kMajor) {
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError(
      absl::StrCat("the worker page has version ", version >> kMajor, ".", version & 0xffff,
                   ", not ", ipc::kPageVersion >> kMajor,
                   ": baton-supervisor and baton-worker must be of one installation"));
}

// The next server of this name takes its being closed for the end of what this process holds of the
// device. A dying process closes its descriptors in order, so it gets a high number; the arena's
// mapping is gone before.
void HoldForLife(ipc::UniqueFd life) {
  constexpr int kHigh[] = {900, 200, 0};
  for (const int least : kHigh) {
    if (life && ::fcntl(life.get(), F_DUPFD_CLOEXEC, least) >= 0) return;
  }
  static_cast<void>(life.release());
}

absl::Status TakeStart(ipc::ControlMessage& message, Assignment* assignment) {
  assignment->start_call = message.call();
  if (message.envelope().which() != ipc::schema::Envelope::START || message.fd_count() < 3) {
    return absl::InvalidArgumentError("the first message is no `start` with three descriptors");
  }
  const auto start = message.envelope().getStart();
  assignment->server = ipc::ReadText(start.getServer());
  assignment->directory = ipc::ReadText(start.getDirectory());
  assignment->generation = start.getGeneration();
  assignment->device = ipc::ReadText(start.getDevice());
  const ipc::UniqueFd page = message.TakeFd(0);
  assignment->doorbell = message.TakeFd(1);
  const ipc::UniqueFd secrets = message.TakeFd(2);
  HoldForLife(message.TakeFd(3));

  absl::StatusOr<ipc::Segment> memory =
      ipc::Segment::Map(page.get(), ipc::kPageBytes, ipc::SegmentAccess::kReadWrite);
  if (!memory.ok()) return memory.status();
  assignment->page_memory = *std::move(memory);
  if (absl::Status page_ok = CheckPage(assignment->page()); !page_ok.ok()) return page_ok;
  return SetSecretEnvironment(secrets.get(), start.getSecretsBytes(), &assignment->secrets,
                              &assignment->config);
}

// One model between `start` and `exit`.
class Worker {
 public:
  Worker(const Assignment& assignment, SupervisorLink& link, CommandQueue& commands)
      : assignment_(assignment),
        link_(link),
        loop_({.generation = assignment.generation, .doorbell_fd = assignment.doorbell.get()},
              assignment.page(), commands, link) {}

  [[noreturn]] void Run() {
    if (absl::Status staged = Stage(); !staged.ok()) Fail(assignment_.start_call, staged);
    const std::optional<Command> admission = loop_.WaitForAdmission();
    if (admission) {
      if (absl::Status admitted = Admit(*admission); !admitted.ok())
        Fail(admission->call, admitted);
      loop_.Run(*model_);
    }
    CleanUp();
    End(kExitDone);
  }

 private:
  absl::Status Stage() {
    BATON_CRASH_POINT("worker.staging");
    if (BATON_FAIL_POINT("worker.stage")) {
      return absl::InternalError("staging fails at the point worker.stage");
    }
    absl::StatusOr<loader::ModelConfig> config =
        assignment_.config.empty()
            ? loader::LoadModelConfig(assignment_.directory)
            : loader::LoadModelConfig(assignment_.directory, assignment_.config);
    if (!config.ok()) return config.status();
    if (!assignment_.device.empty()) config->device = assignment_.device;
    config->secrets = &assignment_.secrets;
    // Before the model starts threads of its own, which inherit both.
    if (config->worker_numa_node) {
      absl::Status node = ipc::PreferNumaNode(*config->worker_numa_node, "worker.numa_node");
      if (!node.ok()) return node;
    }
    if (absl::Status cpus = UseCpus(config->worker_cpus, "worker.cpus"); !cpus.ok()) return cpus;
    serving_cpu_ = config->worker_cpu;
    loop_.UseBatching(config->batching);
    if (config->worker_max_spin) {
      const int64_t max_ns = absl::ToInt64Nanoseconds(*config->worker_max_spin);
      loop_.UseSpin(ipc::SpinBudget::ForThisThread(max_ns));
    }
    if (absl::Status cpu = CheckCpus(serving_cpu_, "worker.cpu"); !cpu.ok()) return cpu;
    device_options_ = {.name = config->device,
                       .transport = config->device_transport,
                       .huge_pages = config->device_huge_pages};
    scrub_ = config->scrub_device_memory;
    // Here, while the one before still serves: a driver takes its time to start.
    const absl::StatusOr<ipc::DeviceProfile> profile = ipc::ProbeDevice(device_options_);
    if (!profile.ok()) return OnDevice(profile.status());
    absl::Status staged = Guarded("loading the model", [&] {
      absl::StatusOr<std::unique_ptr<loader::Model>> model = loader::StageModel(*config);
      if (model.ok()) model_ = Redact(*std::move(model), assignment_.secrets);
      return model.status();
    });
    if (!staged.ok()) return staged;
    // A GPU gets an arena of a model that has no bytes of its own, too: what its context takes has
    // to be seen gone all the same.
    slices_bytes_ =
        RoundUp(config->device_results_bytes, kPage) + RoundUp(config->device_inputs_bytes, kPage);
    // A front that may write to a slice may write to all of its last page: none of the model's is
    // in it.
    if (device_options_.huge_pages && device_options_.name == "host") {
      slices_bytes_ = RoundUp(slices_bytes_, profile->granularity_bytes);
    }
    uint64_t least = slices_bytes_ + model_->device_bytes();
    if (device_options_.name != "host") least = std::max<uint64_t>(least, 1);
    arena_bytes_ = RoundUp(least, std::max(kPage, profile->granularity_bytes));
    const std::vector<Method> methods = loader::MethodsOf(*model_);
    if (absl::Status told = ipc::CheckMethods(methods); !told.ok()) return told;
    link_.Staged(assignment_.start_call, methods,
                 {.device_bytes = arena_bytes_,
                  .device_total_bytes = profile->total_bytes,
                  .device_results_bytes = slices_bytes_,
                  .max_request_bytes = config->max_request_bytes});
    BATON_CRASH_POINT("worker.staged");
    return absl::OkStatus();
  }

  absl::Status OnDevice(const absl::Status& status) const {
    return absl::Status(status.code(), absl::StrCat("device ", device_options_.name, ": ",
                                                    std::string(status.message())));
  }

  absl::Status Admit(const Command& admission) {
    BATON_CRASH_POINT("worker.admitted");
    ipc::ArenaExport exported;
    exported.generation = assignment_.generation;
    absl::Status taken = TakeDevice(admission, &exported);
    if (!taken.ok()) return OnDevice(taken);
    loader::DeviceRegion region{.device = device_.get()};
    if (arena_ != nullptr) {
      region.address = arena_->address() + slices_bytes_;
      region.bytes = arena_->bytes() - slices_bytes_;
    }
    BATON_CRASH_POINT("worker.arena_told");
    absl::Status uploaded = Guarded("uploading the model", [&] {
      if (BATON_FAIL_POINT("worker.upload")) {
        return absl::InternalError("uploading fails at the point worker.upload");
      }
      return model_->Upload(region);
    });
    device_->UploadDone();
    if (!uploaded.ok()) return uploaded;
    loop_.UseDevice({.device = device_.get(),
                     .slices_address = arena_ == nullptr ? 0 : arena_->address(),
                     .slices_bytes = slices_bytes_});
    BATON_CRASH_POINT("worker.uploaded");
    const absl::Status warm = Guarded("the model", [&] { return WarmUp(*model_); });
    if (!warm.ok()) {
      spdlog::info("the warm-up on zeros was refused, which a model may do: {}",
                   std::string(assignment_.WithoutSecrets(warm).message()));
    }
    // After the model has started its threads: this is the serving thread's alone.
    if (!serving_cpu_.empty()) {
      const absl::StatusOr<ThreadCpus> others = ThreadCpus::OfThisThread();
      if (!others.ok()) return others.status();
      loop_.UseForCallThreads(*others);
    }
    if (absl::Status cpu = UseCpus(serving_cpu_, "worker.cpu"); !cpu.ok()) return cpu;
    if (BATON_FAIL_POINT("worker.ready")) {
      return absl::InternalError("it does not get ready at the point worker.ready");
    }
    spdlog::info("Subprocess: Model created successfully");
    link_.Ready(admission.call, exported);
    return absl::OkStatus();
  }

  // Opens the device and allocates on it. The supervisor is told of the arena before the model may
  // touch it: from then on code that is not ours can hand it on, and the supervisor watches it,
  // whatever becomes of this process. On a GPU it is told before anything is taken, since nothing
  // but this process stands for what it has taken.
  absl::Status TakeDevice(const Command& admission, ipc::ArenaExport* exported) {
    if (arena_bytes_ > 0) {
      absl::StatusOr<std::optional<ipc::ArenaExport>> announced =
          ipc::AnnounceArena(device_options_, arena_bytes_, assignment_.generation);
      if (!announced.ok()) return announced.status();
      if (*announced) {
        if (absl::Status told = link_.Arena(admission.call, **announced); !told.ok()) return told;
      }
      const bool told_before = announced->has_value();
      absl::Status allocated = Allocate(admission.capacity_bytes, exported);
      if (!allocated.ok() || told_before) return allocated;
      if (absl::Status told = link_.Arena(admission.call, *exported); !told.ok()) return told;
      exported->fd.reset();
      return absl::OkStatus();
    }
    absl::StatusOr<std::unique_ptr<ipc::Device>> device =
        ipc::OpenDevice(device_options_, admission.capacity_bytes);
    if (!device.ok()) return device.status();
    device_ = *std::move(device);
    return absl::OkStatus();
  }

  absl::Status Allocate(uint64_t capacity_bytes, ipc::ArenaExport* exported) {
    absl::StatusOr<std::unique_ptr<ipc::Device>> device =
        ipc::OpenDevice(device_options_, capacity_bytes);
    if (!device.ok()) return device.status();
    device_ = *std::move(device);
    absl::StatusOr<std::unique_ptr<ipc::DeviceArena>> arena =
        device_->CreateArena(arena_bytes_, assignment_.generation);
    if (!arena.ok()) return arena.status();
    arena_ = *std::move(arena);
    if (device_options_.huge_pages && device_options_.name == "host") {
      spdlog::info("device_huge_pages: {} bytes of device memory are on {} pages", arena_bytes_,
                   PageKindText(arena_->page_kind()));
    }
    absl::StatusOr<ipc::ArenaExport> exports = arena_->Export();
    if (!exports.ok()) return exports.status();
    *exported = *std::move(exports);
    return absl::OkStatus();
  }

  // The supervisor kills a worker that does not come back from here (A23).
  void CleanUp() {
    if (model_ == nullptr) return;
    BATON_CRASH_POINT("worker.cleaning");
    const absl::Status cleaned = Guarded("cleanup", [&] {
      if (BATON_FAIL_POINT("worker.cleanup")) {
        return absl::InternalError("cleanup fails at the point worker.cleanup");
      }
      model_->Cleanup();
      return absl::OkStatus();
    });
    if (!cleaned.ok()) {
      spdlog::error("{}", std::string(assignment_.WithoutSecrets(cleaned).message()));
    }
    model_.reset();
    loop_.UseDevice({});  // what is registered is of its context
    if (scrub_ && arena_ != nullptr) {
      if (absl::Status scrubbed = arena_->Scrub(); !scrubbed.ok()) {
        spdlog::error("{}", std::string(scrubbed.message()));
      }
    }
    arena_.reset();
    device_.reset();
  }

  // The supervisor is told first: it need not wait for the model's cleanup.
  [[noreturn]] void Fail(uint64_t call, const absl::Status& reason) {
    const absl::Status why = assignment_.WithoutSecrets(reason);
    spdlog::error("{}", std::string(why.message()));
    link_.Failed(call, why);
    CleanUp();
    End(kExitFailed);
  }

  const Assignment& assignment_;
  SupervisorLink& link_;
  ServingLoop loop_;
  ipc::DeviceOptions device_options_;
  uint64_t arena_bytes_ = 0;      // 0: it takes none
  uint64_t slices_bytes_ = 0;     // at its start: channels' slices
  std::vector<int> serving_cpu_;  // none, or one
  bool scrub_ = false;
  std::unique_ptr<ipc::Device> device_;
  std::unique_ptr<ipc::DeviceArena> arena_;
  std::unique_ptr<loader::Model> model_;
};

absl::Status TieToSupervisor(const SupervisorLink& link) {
  absl::StatusOr<pid_t> supervisor = link.SupervisorPid();
  if (!supervisor.ok()) return supervisor.status();
  return ipc::DieWithParent(*supervisor);
}

}  // namespace

void RunWorker(ipc::UniqueFd control) {
  LeaveSignalsToSupervisor();
  SendOutputToLog();
  // Whatever else was inherited is not ours, and a model must not find it.
  const int first_foreign = control.get() + 1;
  ::close_range(static_cast<unsigned>(first_foreign), ~0u, 0);

  // These live as long as the process: the control thread uses them to the end.
  auto& link = *new SupervisorLink(std::move(control));
  auto& assignment = *new Assignment;
  InitWorkerLog("?", 0);
  if (absl::Status tied = TieToSupervisor(link); !tied.ok()) {
    spdlog::error("{}", std::string(tied.message()));
    End(kExitSupervisorGone);
  }
  absl::StatusOr<ipc::ControlMessage> start = link.Receive();
  if (!start.ok()) End(kExitSupervisorGone);
  // No thread but this one yet, so the environment may still be changed.
  absl::Status taken = TakeStart(*start, &assignment);
  InitWorkerLog(assignment.server, assignment.generation);
  ipc::SetCrashScope(assignment.generation);
  absl::StatusOr<std::unique_ptr<CommandQueue>> commands = CommandQueue::Create();
  if (taken.ok()) taken = commands.status();
  if (!taken.ok()) {
    spdlog::error("{}", std::string(taken.message()));
    link.Failed(assignment.start_call, taken);
    End(kExitFailed);
  }
  auto& queue = *commands->release();
  StartControlThread(link, queue);
  (new Worker(assignment, link, queue))->Run();
}

}  // namespace baton::runtime
