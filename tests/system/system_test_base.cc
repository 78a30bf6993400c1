#include "tests/system/system_test_base.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

#include "tests/system/device_under_test.h"

namespace baton::testing {

namespace fs = std::filesystem;

SystemTest::SystemTest() {
  options_.run_directory = temp_.path() + "/run";
  ::mkdir(options_.run_directory.c_str(), 0700);
}

absl::Status SystemTest::TryServe(const std::vector<std::string>& options,
                                  const std::string& config) {
  options_.directory = ProbeModel(temp_, options, config);
  if (fs::exists(secrets_)) options_.secrets_directory = secrets_;
  return StartServer({.import_device = true});
}

absl::Status SystemTest::StartServer(const FrontOptions& front_options) {
  absl::StatusOr<std::unique_ptr<TestServer>> server = TestServer::Start(options_);
  if (!server.ok()) return server.status();
  server_ = *std::move(server);
  absl::StatusOr<std::unique_ptr<Front>> front = server_->Attach(front_options);
  if (!front.ok()) return front.status();
  front_ = *std::move(front);
  return absl::OkStatus();
}

void SystemTest::Serve(const std::vector<std::string>& options, const std::string& config) {
  const absl::Status status = TryServe(options, config);
  ASSERT_TRUE(status.ok()) << status;
}

void SystemTest::SetSecret(const std::string& key, const std::string& value) {
  const std::string folder = absl::StrCat(secrets_, "/app");
  fs::create_directories(folder);
  std::map<std::string, std::string> entries;
  std::ifstream before(folder + "/app");
  for (std::string line; std::getline(before, line);) {
    const size_t equals = line.find('=');
    if (equals != std::string::npos) entries[line.substr(0, equals)] = line.substr(equals + 1);
  }
  entries[key] = value;
  std::ofstream after(folder + "/app.new");
  for (const auto& [name, text] : entries) {
    if (!text.empty()) after << name << '=' << text << '\n';
  }
  after.close();
  fs::rename(folder + "/app.new", folder + "/app");
}

bool SystemTest::WaitForGeneration(uint64_t generation) {
  return WaitFor([&] { return Generation() >= generation && front_->state() == "SERVING"; });
}

bool SystemTest::WaitForReceipts(size_t count) {
  return WaitFor([&] { return server_->Receipts().size() >= count; });
}

absl::StatusOr<EnvAnswer> AskEnv(Channel& channel, absl::Duration timeout) {
  return AskVariable(channel, "", timeout);
}

absl::StatusOr<EnvAnswer> AskVariable(Channel& channel, const std::string& variable,
                                      absl::Duration timeout) {
  const std::string data = variable.empty() ? "whatever" : variable;
  absl::StatusOr<Request> request =
      channel.NewRequest({{"data", DType::kUInt8, {static_cast<int64_t>(data.size())}}});
  if (!request.ok()) return request.status();
  std::copy(data.begin(), data.end(), request->input<uint8_t>(0).begin());
  absl::StatusOr<Response> response = channel.Call(*std::move(request), {.timeout = timeout});
  if (!response.ok()) return response.status();
  EnvAnswer answer{.generation = response->generation()};
  for (const uint8_t c : response->output<uint8_t>("value")) {
    answer.value.push_back(static_cast<char>(c));
  }
  answer.present =
      !response->output<bool>("present").empty() && response->output<bool>("present")[0];
  answer.pid = response->output<int64_t>("pid").empty() ? 0 : response->output<int64_t>("pid")[0];
  return answer;
}

Load::Load(Front& front, std::string variable) : variable_(std::move(variable)) {
  absl::StatusOr<Channel> channel = front.OpenChannel({.ring_entries = 16});
  if (!channel.ok()) {
    errors_.push_back(channel.status());
    return;
  }
  thread_ = std::thread([this, opened = *std::move(channel)]() mutable { Run(std::move(opened)); });
}

Load::~Load() { Stop(); }

void Load::Stop() {
  stop_.store(true);
  if (thread_.joinable()) thread_.join();
}

bool Load::WaitForAnswers(uint64_t more) {
  const uint64_t goal = answered() + more;
  return WaitFor([&] { return answered() >= goal; });
}

void Load::Run(Channel channel) {
  while (!stop_.load()) {
    absl::StatusOr<EnvAnswer> answer = AskVariable(channel, variable_);
    if (!answer.ok()) {
      errors_.push_back(answer.status());
      if (errors_.size() > 100) return;
      continue;
    }
    answered_.fetch_add(1);
    if (changes_.empty() || changes_.back().generation != answer->generation ||
        changes_.back().value != answer->value || changes_.back().pid != answer->pid) {
      changes_.push_back(*std::move(answer));
    }
  }
}

DeviceObserver::DeviceObserver(pid_t supervisor, std::vector<pid_t> others, absl::Duration pause)
    : supervisor_(supervisor), others_(std::move(others)), pause_(pause), thread_([this] {
        while (!stop_.load()) {
          Sample();
          if (pause_ > absl::ZeroDuration()) absl::SleepFor(pause_);
        }
      }) {}

void DeviceObserver::Stop() {
  stop_.store(true);
  if (thread_.joinable()) thread_.join();
}

namespace {

// Bytes that the arena behind `path` holds; 0 when it is no arena, or another one than `inode`.
uint64_t ArenaBytes(const std::string& path, ino_t* inode) {
  struct stat info;
  if (::stat(path.c_str(), &info) != 0 || (*inode != 0 && info.st_ino != *inode)) return 0;
  *inode = info.st_ino;
  return static_cast<uint64_t>(info.st_blocks) * 512;
}

struct SeenArena {
  std::string path;
  uint64_t bytes = 0;
};

// Arenas are memfds named baton-device-g<generation>; an inode is counted once.
void LookForArenas(const std::string& folder, std::map<ino_t, SeenArena>& arenas) {
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    std::error_code unreadable;
    const std::string target = fs::read_symlink(entry->path(), unreadable);
    if (unreadable || !absl::StrContains(target, "baton-device")) continue;
    ino_t inode = 0;
    const uint64_t bytes = ArenaBytes(entry->path(), &inode);
    if (bytes > 0) arenas[inode] = {.path = entry->path(), .bytes = bytes};
  }
}

}  // namespace

// A look at all processes takes time, in which one arena may go and the next come. What counts as
// held together is therefore what still holds bytes when it is looked at again after everything
// was seen once.
void DeviceObserver::Sample() {
  if (SimGpu* const gpu = SimulatedGpu()) {
    const std::vector<SimGpu::Allocation> allocations = gpu->Allocations();
    uint64_t together = 0;
    for (const SimGpu::Allocation& allocation : allocations) together += allocation.bytes;
    peak_bytes_ = std::max(peak_bytes_, together);
    peak_arenas_ = std::max(peak_arenas_, allocations.size());
    samples_.fetch_add(1);
    return;
  }
  std::map<ino_t, SeenArena> arenas;
  std::vector<std::string> processes = {absl::StrCat("/proc/", supervisor_)};
  std::ifstream children(absl::StrCat("/proc/", supervisor_, "/task/", supervisor_, "/children"));
  for (pid_t pid; children >> pid;) processes.push_back(absl::StrCat("/proc/", pid));
  for (const pid_t pid : others_) processes.push_back(absl::StrCat("/proc/", pid));
  for (const std::string& process : processes) {
    LookForArenas(process + "/fd", arenas);
    LookForArenas(process + "/map_files", arenas);
  }
  uint64_t bytes = 0;
  size_t count = 0;
  for (const auto& [inode, arena] : arenas) {
    ino_t same = inode;
    const uint64_t still = std::min(arena.bytes, ArenaBytes(arena.path, &same));
    bytes += still;
    count += still > 0 ? 1 : 0;
  }
  peak_bytes_ = std::max(peak_bytes_, bytes);
  peak_arenas_ = std::max(peak_arenas_, count);
  samples_.fetch_add(1);
}

}  // namespace baton::testing
