// shmctl doctor: whether this machine has what Baton needs.
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "capnp/message.h"

#include "ipc/process.h"
#include "tools/shmctl/command_line.h"
#include "tools/shmctl/doctor_check.h"
#include "tools/shmctl/gpu_probe.h"
#include "tools/shmctl/host_checks.h"
#include "tools/shmctl/probe_process.h"
#include "tools/shmctl/report_json.h"

namespace baton::shmctl {
namespace {

constexpr int kAnyGpu = -1;
constexpr int kMaxOrdinal = 1023;

struct DoctorOptions {
  std::string device = "host";
  TimeoutOption timeout{10.0};
  bool json = false;
  std::string probe;  // hidden: be that probe
  bool needed() const { return device != "host"; }
};

// "host" or "cuda:N"; empty: good.
std::string DeviceProblem(const std::string& device) {
  int ordinal = 0;
  std::string_view number = device;
  if (device == "host") return "";
  if (number.substr(0, 5) == "cuda:" &&
      absl::SimpleAtoi(absl::string_view(device).substr(5), &ordinal) && ordinal >= 0 &&
      ordinal <= kMaxOrdinal) {
    return "";
  }
  return "'" + device + "' is no device: write host, or cuda:0";
}

int Ordinal(const DoctorOptions& options) {
  int ordinal = kAnyGpu;
  if (options.needed()) {
    static_cast<void>(absl::SimpleAtoi(absl::string_view(options.device).substr(5), &ordinal));
  }
  return ordinal;
}

// In the child.
absl::Status BeProbe(const DoctorOptions& options) {
  // The driver's process must not outlive who asked.
  ipc::DieWithParent(::getppid()).IgnoreError();
  for (const GpuProbe& probe : GpuProbes()) {
    if (options.probe != probe.name) continue;
    probe.run(Ordinal(options), options.needed(), [](const Check& check) {
      std::fputs(EncodeCheck(check).c_str(), stdout);
      std::fflush(stdout);  // the next one may hang
    });
    return absl::OkStatus();
  }
  return UsageError("there is no probe '" + options.probe + "'");
}

bool Contains(const std::vector<Check>& checks, const char* name) {
  return std::any_of(checks.begin(), checks.end(),
                     [name](const Check& check) { return check.name == name; });
}

std::vector<Check> RunGpuProbe(const GpuProbe& probe, const DoctorOptions& options) {
  const Check::Level failure = options.needed() ? Check::Level::kFail : Check::Level::kWarn;
  const absl::StatusOr<ProbeOutput> output = RunProbe(
      {"doctor", "--device", options.device, "--probe", probe.name}, options.timeout.duration());
  std::vector<Check> checks;
  std::string problem(output.status().message());
  if (output.ok()) {
    checks = DecodeChecks(output->text);
    problem = output->problem;
    if (problem.empty() && checks.empty()) problem = "it said nothing";
  }
  if (!problem.empty()) {
    // The first one that it has not come to is where it was lost.
    const auto lost = std::find_if(probe.checks.begin(), probe.checks.end(),
                                   [&checks](const char* name) { return !Contains(checks, name); });
    checks.push_back(
        {failure, lost == probe.checks.end() ? probe.checks.back() : *lost,
         absl::StrCat(problem, " (", probe.hangs_at, ")"),
         "look for NVRM and Xid messages in dmesg; a driver that hangs may need a reboot"});
  }
  return checks;
}

std::vector<Check> CheckGpus(const DoctorOptions& options) {
  std::vector<Check> checks;
  bool has_gpu = true;
  for (const GpuProbe& probe : GpuProbes()) {
    std::vector<Check> found;
    if (has_gpu) found = RunGpuProbe(probe, options);
    if (checks.empty()) {
      has_gpu = std::any_of(found.begin(), found.end(), [](const Check& check) {
        return check.name == "gpu" && check.level == Check::Level::kOk;
      });
    }
    const std::string why_not = has_gpu ? "see " + found.back().name : "there is no GPU to be used";
    for (const char* name : probe.checks) {
      if (!Contains(found, name)) {
        found.push_back({Check::Level::kOk, name, "not tested: " + why_not, ""});
      }
    }
    checks.insert(checks.end(), found.begin(), found.end());
  }
  return checks;
}

void PrintJson(const std::vector<Check>& checks, size_t failed) {
  capnp::MallocMessageBuilder message;
  auto report = message.initRoot<ipc::schema::DoctorReport>();
  report.setFailed(static_cast<uint32_t>(failed));
  auto list = report.initChecks(static_cast<uint32_t>(checks.size()));
  for (uint32_t i = 0; i < list.size(); ++i) {
    list[i].setLevel(ToText(LevelText(checks[i].level)));
    list[i].setName(checks[i].name);
    list[i].setFound(checks[i].found);
    list[i].setRemedy(checks[i].remedy);
  }
  PrintReport(report);
}

absl::Status Examine(const std::string& run_directory, const DoctorOptions& options) {
  std::vector<Check> checks = CheckGpus(options);
  for (Check& check : CheckHost(run_directory, options.needed())) {
    checks.push_back(std::move(check));
  }
  std::vector<std::string> failed;
  for (const Check& check : checks) {
    if (check.level == Check::Level::kFail) failed.push_back(check.name);
    if (!options.json) std::fputs(CheckRow(check).c_str(), stdout);
  }
  if (options.json) PrintJson(checks, failed.size());
  if (failed.empty()) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      "device ", options.device, " cannot be served here: ", absl::StrJoin(failed, ", "),
      ". The remedies stand beside what was found"));
}

}  // namespace

void AddDoctor(CommandLine& line) {
  CLI::App& verb = line.AddVerb(
      "doctor",
      "Says whether this machine has what Baton needs, one line a check: ok, warn or FAIL, what "
      "was found, and what to do. Drivers are asked by processes of their own, so it ends also "
      "where a driver hangs. Fails when something does that --device needs.",
      "shmctl doctor --device cuda:0");
  auto options = std::make_shared<DoctorOptions>();
  verb.add_option("--device", options->device, "What is to be served: host, or cuda:N")
      ->type_name("DEVICE")
      ->check(DeviceProblem)
      ->capture_default_str();
  AddTimeout(verb, options->timeout, "How long a driver may take for an answer");
  AddJson(verb, options->json);
  verb.add_option("--probe", options->probe)->group("");  // for this program itself
  line.OnRun(verb, [&line, options] {
    return options->probe.empty() ? Examine(line.run_directory(), *options) : BeProbe(*options);
  });
}

}  // namespace baton::shmctl
