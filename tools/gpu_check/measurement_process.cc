#include "tools/gpu_check/measurement_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

#include "ipc/poll_fd.h"
#include "ipc/process.h"
#include "ipc/unique_fd.h"

namespace baton::gpu_check {
namespace {

constexpr absl::Duration kReapLimit = absl::Seconds(10);

Row ErrorRow(const std::string& name, const std::string& why) {
  return {.name = name, .outcome = Outcome::kError, .note = why};
}

// Takes the whole lines off `text`.
void TakeRows(std::string& text, const std::string& name, std::vector<Row>& rows) {
  for (size_t end; (end = text.find('\n')) != std::string::npos; text.erase(0, end + 1)) {
    absl::StatusOr<Row> row = ParseRowLine(std::string_view(text).substr(0, end));
    rows.push_back(row.ok() ? *std::move(row)
                            : ErrorRow(name, std::string(row.status().message())));
  }
}

// Reads until the other end is closed everywhere. False: `deadline` came first.
bool ReadRows(int fd, absl::Time deadline, const std::string& name, std::vector<Row>& rows) {
  std::string text;
  for (;;) {
    if (!ipc::PollFd(fd, POLLIN, deadline - absl::Now())) return false;
    char buffer[4096];
    const ssize_t count = ::read(fd, buffer, sizeof(buffer));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return true;
    text.append(buffer, static_cast<size_t>(count));
    TakeRows(text, name, rows);
  }
}

}  // namespace

std::vector<Row> RunInProcess(const std::string& program, const std::vector<std::string>& args,
                              const std::string& name, absl::Duration time_limit) {
  std::vector<Row> rows;
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return {ErrorRow(name, "cannot make a pipe")};
  const ipc::UniqueFd reading(ends[0]);
  ipc::UniqueFd writing(ends[1]);
  absl::StatusOr<ipc::ChildProcess> process = ipc::SpawnProcess({
      .executable = program,
      .args = args,
      .fds = {{writing.get(), kRowsFd}},
      .kill_group_at_end = true,
  });
  writing.reset();
  if (!process.ok()) return {ErrorRow(name, std::string(process.status().message()))};
  const bool done = ReadRows(reading.get(), absl::Now() + time_limit, name, rows);
  // Closing the pipe and ending are not the same moment.
  absl::StatusOr<ipc::ExitStatus> end = absl::DeadlineExceededError("");
  if (done) end = process->Reap(kReapLimit);
  if (!end.ok()) {
    process->Kill(SIGKILL).IgnoreError();
    const bool reaped = process->Reap(kReapLimit).ok();
    if (!reaped) process->Release();  // in a call that nothing interrupts: nobody waits for it
    rows.push_back(ErrorRow(
        name, absl::StrCat("not done after ", absl::FormatDuration(time_limit), ", and killed",
                           reaped ? "" : "; it did not end, so the driver hangs")));
  } else if (!end->clean()) {
    rows.push_back(ErrorRow(name, absl::StrCat("its process ", ipc::ToString(*end))));
  }
  return rows;
}

std::vector<Row> RunMeasurement(const Measurement& measurement, const Settings& settings) {
  std::vector<std::string> args = {"--measure", std::string(measurement.name),
                                   "--parent",  std::to_string(::getpid()),
                                   "--device",  std::to_string(settings.device)};
  if (settings.small) args.emplace_back("--small");
  if (settings.simulated) args.emplace_back("--simulated");
  return RunInProcess("/proc/self/exe", args, std::string(measurement.name),
                      measurement.time_limit);
}

int MeasureHere(const Measurement& measurement, const Settings& settings) {
  Report report(kRowsFd, settings.simulated);
  const absl::Status status = measurement.run(settings, report);
  if (!status.ok()) report.Error(std::string(measurement.name), status);
  return 0;  // the row has said it
}

}  // namespace baton::gpu_check
