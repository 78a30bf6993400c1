// baton-gpu-measure: finds out what a GPU's driver does and what it costs, as a
// table. See DESIGN.md; tools/gpu-check runs it.
#include <sys/utsname.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/time/clock.h"
#include "absl/time/time.h"

#include "ipc/cuda/driver.h"
#include "ipc/process.h"
#include "tools/gpu_check/measurement.h"
#include "tools/gpu_check/measurement_process.h"
#include "tools/gpu_check/peer.h"
#include "tools/gpu_check/table.h"

namespace baton::gpu_check {
namespace {

constexpr int kDone = 0;
constexpr int kNotGood = 1;
constexpr int kUsage = 2;
constexpr int kNoGpu = 3;

struct Options {
  Settings settings;
  bool list = false;
  bool probe = false;
  bool no_measurements = false;
  std::vector<std::string> only;
  std::vector<std::string> rows_files;
  std::vector<std::string> head;
  std::string json;
  std::string markdown;
  // Of processes that this program starts itself.
  std::string measure;
  pid_t parent = 0;
  pid_t peer_of = 0;
};

void Declare(CLI::App& app, Options& options) {
  app.add_flag("--list", options.list, "say what there is to measure, and end");
  app.add_flag("--probe", options.probe,
               "say whether there is a GPU, and end; exit code 3: there is none");
  app.add_option("--device", options.settings.device, "CUDA's number of the GPU")
      ->capture_default_str();
  app.add_option("--only", options.only, "measure only these, by name")->delimiter(',');
  app.add_flag("--no-measurements", options.no_measurements, "only what --rows brings");
  app.add_flag("--small", options.settings.small, "little memory, few repetitions");
  app.add_flag("--simulated", options.settings.simulated,
               "the GPU is a simulated one: figures say so, and speed is held to nothing");
  app.add_option("--rows", options.rows_files, "a file with rows of others, which come first");
  app.add_option("--head", options.head, "\"name: text\" for the head of the table");
  app.add_option("--json", options.json, "write the table to this file, as JSON");
  app.add_option("--markdown", options.markdown, "write it to this file, as Markdown");
  app.add_option("--measure", options.measure)->group("");
  app.add_option("--parent", options.parent)->group("");
  app.add_option("--peer", options.peer_of)->group("");
}

int Probe() {
  const absl::StatusOr<const ipc::cuda::Driver*> driver = ipc::cuda::Driver::Get();
  if (!driver.ok()) {
    std::fprintf(stderr, "no GPU to measure: %s\n", std::string(driver.status().message()).c_str());
    return kNoGpu;
  }
  int count = 0;
  const absl::Status status =
      (*driver)->ToStatus((**driver)->DeviceGetCount(&count), "cuDeviceGetCount");
  if (!status.ok() || count == 0) {
    std::fprintf(stderr, "no GPU to measure: the driver works, but has no device\n");
    return kNoGpu;
  }
  std::printf("%d GPU%s, CUDA %s\n", count, count == 1 ? "" : "s",
              (*driver)->VersionText().c_str());
  return kDone;
}

int List() {
  for (const Measurement& measurement : Measurements()) {
    std::printf("%-20s %s\n", std::string(measurement.name).c_str(),
                std::string(measurement.about).c_str());
  }
  return kDone;
}

void ReadRowsFile(const std::string& path, std::vector<Row>& rows) {
  std::ifstream file(path);
  if (!file) {
    rows.push_back({.name = path, .outcome = Outcome::kError, .note = "cannot read its rows"});
    return;
  }
  for (std::string line; std::getline(file, line);) {
    if (line.empty()) continue;
    absl::StatusOr<Row> row = ParseRowLine(line);
    rows.push_back(row.ok() ? *std::move(row)
                            : Row{.name = path,
                                  .outcome = Outcome::kError,
                                  .note = std::string(row.status().message())});
  }
}

void FillHead(const Options& options, Table& table) {
  table.head.emplace_back(
      "date", absl::FormatTime("%Y-%m-%d %H:%M:%S UTC", absl::Now(), absl::UTCTimeZone()));
  utsname system{};
  if (::uname(&system) == 0) {
    table.head.emplace_back(
        "system", std::string(system.sysname) + " " + system.release + " " + system.machine);
  }
  table.head.emplace_back("sizes", options.settings.small ? "small" : "full");
  for (const std::string& line : options.head) {
    const size_t colon = line.find(": ");
    if (colon == std::string::npos) {
      table.head.emplace_back("note", line);
    } else {
      table.head.emplace_back(line.substr(0, colon), line.substr(colon + 2));
    }
  }
}

// Every name that is none is said at once. False: there was one.
bool ChooseMeasurements(const Options& options, std::vector<const Measurement*>& chosen) {
  bool good = true;
  for (const std::string& name : options.only) {
    const Measurement* const measurement = FindMeasurement(name);
    if (measurement == nullptr) {
      std::fprintf(stderr, "baton-gpu-measure: there is nothing called %s to measure (--list)\n",
                   name.c_str());
      good = false;
    }
    chosen.push_back(measurement);
  }
  if (!options.only.empty() || options.no_measurements) return good;
  for (const Measurement& measurement : Measurements()) chosen.push_back(&measurement);
  return true;
}

bool Save(const std::string& path, const std::string& content) {
  if (path.empty()) return true;
  const absl::Status status = WriteWhole(path, content);
  if (!status.ok()) {
    std::fprintf(stderr, "baton-gpu-measure: %s\n", std::string(status.message()).c_str());
  }
  return status.ok();
}

int MeasureAll(const Options& options) {
  std::vector<const Measurement*> chosen;
  if (!ChooseMeasurements(options, chosen)) return kUsage;
  Table table;
  table.simulated = options.settings.simulated;
  FillHead(options, table);
  for (const std::string& path : options.rows_files) ReadRowsFile(path, table.rows);
  bool saved = true;
  const auto save = [&] {
    const bool json = Save(options.json, JsonText(table));
    saved = Save(options.markdown, MarkdownText(table)) && json;
  };
  for (const Measurement* measurement : chosen) {
    std::fprintf(stderr, "measuring %s\n", std::string(measurement->name).c_str());
    const std::vector<Row> rows = RunMeasurement(*measurement, options.settings);
    table.rows.insert(table.rows.end(), rows.begin(), rows.end());
    save();  // after each one: a machine may be taken away before the last
  }
  if (chosen.empty()) save();
  std::fputs(MarkdownText(table).c_str(), stdout);
  return table.passed() && saved ? kDone : kNotGood;
}

int Main(int argc, char** argv) {
  CLI::App app{"Measures what a GPU's driver does and costs, and checks what Baton relies on"};
  Options options;
  Declare(app, options);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kDone : kUsage;
  }
  const pid_t parent = options.peer_of != 0 ? options.peer_of : options.parent;
  if (parent != 0 && !ipc::DieWithParent(parent).ok()) return kNotGood;
  if (options.peer_of != 0) return RunPeer(options.settings.device);
  if (!options.measure.empty()) {
    const Measurement* const measurement = FindMeasurement(options.measure);
    return measurement == nullptr ? kUsage : MeasureHere(*measurement, options.settings);
  }
  if (options.list) return List();
  if (options.probe) return Probe();
  return MeasureAll(options);
}

}  // namespace
}  // namespace baton::gpu_check

int main(int argc, char** argv) { return baton::gpu_check::Main(argc, argv); }
