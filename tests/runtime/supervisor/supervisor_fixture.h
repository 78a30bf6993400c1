// A server of the probe model, with secrets, for tests of the supervisor.
#ifndef BATON_TESTS_RUNTIME_SUPERVISOR_SUPERVISOR_FIXTURE_H_
#define BATON_TESTS_RUNTIME_SUPERVISOR_SUPERVISOR_FIXTURE_H_

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "baton/front.h"
#include "tests/runtime/supervisor/control_client.h"
#include "tests/system/test_server.h"

namespace baton::testing {

class SupervisorFixture : public ::testing::Test {
 protected:
  SupervisorFixture();
  ~SupervisorFixture() override;

  // The secret that the `env` model reads is called TOKEN.
  void WriteSecret(const std::string& value);
  void WriteSecretKey(const std::string& key, const std::string& value);
  // Writes the model directory anew.
  void WriteModel(const std::vector<std::string>& options, const std::string& config = "");
  // Starts it; an error is the test's failure.
  void Start(std::vector<std::string> extra_args = {}, std::map<std::string, std::string> env = {});
  absl::Status TryStart(std::vector<std::string> extra_args = {},
                        std::map<std::string, std::string> env = {});

  ControlClient Client();
  ControlClient::ServerStatus Status() { return Client().Status(); }
  // Until it serves that generation and nothing is under way.
  bool WaitForGeneration(uint64_t generation);
  std::vector<ReceiptLine> Receipts() { return ParseReceipts(server_->Receipts()); }
  bool WaitForReceipts(size_t count);
  bool LogHas(const std::string& text) const;

  // What the `env` model answers: the secret as its worker sees it.
  std::string AskForSecret();

  TempDirectory temp_;
  const std::string run_directory_;
  const std::string secrets_;
  const std::string mark_;
  std::string model_;
  std::unique_ptr<TestServer> server_;
};

}  // namespace baton::testing

#endif  // BATON_TESTS_RUNTIME_SUPERVISOR_SUPERVISOR_FIXTURE_H_
