#include "tests/runtime/supervisor/supervisor_fixture.h"

#include <sys/stat.h>

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace baton::testing {

SupervisorFixture::SupervisorFixture()
    : run_directory_(temp_.path() + "/run"),
      secrets_(temp_.path() + "/secrets"),
      mark_(temp_.path()) {
  ::mkdir(run_directory_.c_str(), 0700);
}

SupervisorFixture::~SupervisorFixture() {
  if (HasFailure() && server_) ADD_FAILURE() << "the server's log:\n" << server_->Log();
  server_.reset();
  EXPECT_TRUE(WaitFor([&] { return MarkedProcesses(mark_).empty(); }));
}

void SupervisorFixture::WriteSecret(const std::string& value) { WriteSecretKey("TOKEN", value); }

void SupervisorFixture::WriteSecretKey(const std::string& key, const std::string& value) {
  temp_.Write("secrets/" + key, value);
}

void SupervisorFixture::WriteModel(const std::vector<std::string>& options,
                                   const std::string& config) {
  model_ = ProbeModel(temp_, options, config);
}

absl::Status SupervisorFixture::TryStart(std::vector<std::string> extra_args,
                                         std::map<std::string, std::string> env) {
  if (model_.empty()) WriteModel({"behaviour: env", "variable: TOKEN", "weights_bytes: 1048576"});
  TestServerOptions options{.directory = model_,
                            .name = "test",
                            .run_directory = run_directory_,
                            .secrets_directory = secrets_,
                            .extra_args = std::move(extra_args),
                            .env = std::move(env)};
  options.env["BATON_TEST_MARK"] = mark_;
  auto server = TestServer::Start(options);
  if (!server.ok()) return server.status();
  server_ = *std::move(server);
  return absl::OkStatus();
}

void SupervisorFixture::Start(std::vector<std::string> extra_args,
                              std::map<std::string, std::string> env) {
  const absl::Status status = TryStart(std::move(extra_args), std::move(env));
  ASSERT_TRUE(status.ok()) << status;
}

ControlClient SupervisorFixture::Client() {
  auto client = ControlClient::Open(run_directory_, "test");
  EXPECT_TRUE(client.ok()) << client.status();
  return client.ok() ? *std::move(client) : ControlClient();
}

bool SupervisorFixture::WaitForGeneration(uint64_t generation) {
  auto client = Client();
  return WaitFor([&] {
    const auto status = client.Status();
    return status.generation == generation && status.state == "SERVING";
  });
}

bool SupervisorFixture::WaitForReceipts(size_t count) {
  return WaitFor([&] { return server_->Receipts().size() >= count; });
}

bool SupervisorFixture::LogHas(const std::string& text) const {
  return absl::StrContains(server_->Log(), text);
}

std::string SupervisorFixture::AskForSecret() {
  auto front = server_->Attach();
  if (!front.ok()) return front.status().ToString();
  auto channel =
      (*front)->OpenChannel({.request_arena_bytes = 65536, .response_arena_bytes = 262144});
  if (!channel.ok()) return channel.status().ToString();
  auto request = channel->NewRequest({{"data", DType::kUInt8, {1}}});
  if (!request.ok()) return request.status().ToString();
  auto response = channel->Call(*std::move(request));
  if (!response.ok()) return response.status().ToString();
  if (!response->output<bool>("present")[0]) return "(none)";
  const auto value = response->output<uint8_t>("value");
  return {value.begin(), value.end()};
}

}  // namespace baton::testing
