#include "tests/system/secrets_test_base.h"

#include <csignal>
#include <filesystem>
#include <fstream>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace baton::testing {

namespace fs = std::filesystem;

SecretsSystemTest::SecretsSystemTest() { options_.env["BATON_TEST_MARK"] = temp_.path(); }

SecretsSystemTest::~SecretsSystemTest() {
  if (HasFailure() && server_) ADD_FAILURE() << "the server's log:\n" << server_->Log();
  channel_.reset();
  front_.reset();
  server_.reset();
  EXPECT_TRUE(WaitFor([&] { return MarkedProcesses(temp_.path()).empty(); }));
}

void SecretsSystemTest::ServeSecrets(const std::map<std::string, std::string>& env,
                                     const std::vector<std::string>& options) {
  options_.secrets_directory = secrets_;
  for (const auto& [name, value] : env) options_.env[name] = value;
  std::vector<std::string> all = {"behaviour: getenv"};
  all.insert(all.end(), options.begin(), options.end());
  Serve(all);
}

void SecretsSystemTest::WriteSecret(const std::string& name, const std::string& content) const {
  const std::string written = temp_.Write("written", content);
  const fs::path to = fs::path(secrets_) / name;
  fs::create_directories(to.parent_path());
  fs::rename(written, to);
}

void SecretsSystemTest::SwapData(const std::map<std::string, std::string>& values) {
  const fs::path directory(secrets_);
  const std::string folder = absl::StrCat("..2024_", ++swaps_);
  fs::create_directories(directory / folder);
  for (const auto& [key, value] : values) {
    std::ofstream(directory / folder / key, std::ios::binary) << value;
  }
  std::error_code none;
  const fs::path before = fs::read_symlink(directory / "..data", none);
  fs::create_directory_symlink(folder, directory / "..data_tmp");
  fs::rename(directory / "..data_tmp", directory / "..data");
  for (const auto& [key, value] : values) {
    if (!fs::is_symlink(directory / key)) {
      fs::create_symlink(fs::path("..data") / key, directory / key);
    }
  }
  for (const auto& entry : fs::directory_iterator(directory)) {
    const std::string key = entry.path().filename();
    if (entry.is_symlink() && key != "..data" && !values.contains(key)) fs::remove(entry.path());
  }
  if (!before.empty()) fs::remove_all(directory / before);
}

void SecretsSystemTest::WhileItLooksAway(const std::function<void()>& change) {
  ASSERT_EQ(::kill(server_->pid(), SIGSTOP), 0);
  ASSERT_TRUE(WaitFor([&] { return IsStopped(server_->pid()); }));
  change();
  ASSERT_EQ(::kill(server_->pid(), SIGCONT), 0);
}

std::optional<std::string> SecretsSystemTest::Ask(const std::string& variable) {
  if (!channel_) {
    absl::StatusOr<Channel> opened = front_->OpenChannel({.ring_entries = 16});
    EXPECT_TRUE(opened.ok()) << opened.status();
    if (!opened.ok()) return std::nullopt;
    channel_ = *std::move(opened);
  }
  const absl::StatusOr<EnvAnswer> answer = AskVariable(*channel_, variable);
  EXPECT_TRUE(answer.ok()) << answer.status();
  if (!answer.ok()) return std::nullopt;
  EXPECT_GE(answer->generation, answered_by_);
  answered_by_ = answer->generation;
  return answer->present ? std::optional(answer->value) : std::nullopt;
}

uint64_t SecretsSystemTest::GenerationOfNextChange() {
  const std::string mark = absl::StrCat("mark-", ++marks_);
  WriteSecret("mark/mark", absl::StrCat("MARK=", mark, "\n"));
  EXPECT_TRUE(WaitFor([&] { return Ask("MARK") == mark; }));
  return answered_by_;
}

bool SecretsSystemTest::LogHas(const std::string& text) const {
  return absl::StrContains(server_->Log(), text);
}

}  // namespace baton::testing
