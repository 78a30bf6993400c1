// What the tests of the whole system share: a server on a probe model, a thread that keeps it busy,
// and an outside observer of device memory.
#ifndef BATON_TESTS_SYSTEM_SYSTEM_TEST_BASE_H_
#define BATON_TESTS_SYSTEM_SYSTEM_TEST_BASE_H_

#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"

#include "baton/front.h"
#include "tests/system/test_server.h"

namespace baton::testing {

class SystemTest : public ::testing::Test {
 protected:
  SystemTest();

  // Serves a probe model; `config` are further lines of config.yaml.
  void Serve(const std::vector<std::string>& options, const std::string& config = "");
  absl::Status TryServe(const std::vector<std::string>& options, const std::string& config = "");
  // Serves options_, whatever they say, and attaches front_.
  absl::Status StartServer(const FrontOptions& front_options = {});
  // Replaces one secret, the way an editor does.
  void SetSecret(const std::string& key, const std::string& value);

  uint64_t Generation() const { return front_ == nullptr ? 0 : front_->generation(); }
  bool WaitForGeneration(uint64_t generation);
  // Waits for that many receipts.
  bool WaitForReceipts(size_t count);

  TempDirectory temp_;
  const std::string secrets_ = temp_.path() + "/secrets";
  TestServerOptions options_;
  std::unique_ptr<TestServer> server_;
  std::unique_ptr<Front> front_;
};

// What the probe "env" said.
struct EnvAnswer {
  uint64_t generation = 0;
  std::string value = {};
  bool present = false;
  int64_t pid = 0;
};
absl::StatusOr<EnvAnswer> AskEnv(Channel& channel, absl::Duration timeout = absl::Minutes(1));
// The same of the probe "getenv", about any variable of its environment.
absl::StatusOr<EnvAnswer> AskVariable(Channel& channel, const std::string& variable,
                                      absl::Duration timeout = absl::Minutes(1));

// Calls the model from a thread of its own until it is stopped, and keeps what was answered.
class Load {
 public:
  // Asks the probe "env"; `variable`: the probe "getenv" for this one.
  explicit Load(Front& front, std::string variable = "");
  ~Load();
  // Stops after the call under way.
  void Stop();
  uint64_t answered() const { return answered_.load(); }
  bool WaitForAnswers(uint64_t more);
  // After Stop: in the order of the answers, repeated ones once.
  const std::vector<EnvAnswer>& changes() const { return changes_; }
  const std::vector<absl::Status>& errors() const { return errors_; }

 private:
  void Run(Channel channel);
  const std::string variable_;
  std::atomic<bool> stop_{false};
  std::atomic<uint64_t> answered_{0};
  std::vector<EnvAnswer> changes_;
  std::vector<absl::Status> errors_;
  std::thread thread_;
};

// Looks at every process's descriptors and mappings from outside, as often as it can, and notes the
// most device memory (arenas' pages, as the kernel counts them) and the most arenas that held any
// at one time.
class DeviceObserver {
 public:
  // Watches the children of `supervisor` and itself, and the processes in `others`; between two
  // looks it waits for `pause`.
  explicit DeviceObserver(pid_t supervisor, std::vector<pid_t> others = {},
                          absl::Duration pause = absl::ZeroDuration());
  ~DeviceObserver() { Stop(); }
  void Stop();
  uint64_t peak_bytes() const { return peak_bytes_; }
  size_t peak_arenas() const { return peak_arenas_; }
  uint64_t samples() const { return samples_; }

 private:
  void Sample();
  const pid_t supervisor_;
  const std::vector<pid_t> others_;
  const absl::Duration pause_;
  std::atomic<bool> stop_{false};
  uint64_t peak_bytes_ = 0;
  size_t peak_arenas_ = 0;
  std::atomic<uint64_t> samples_{0};
  std::thread thread_;
};

}  // namespace baton::testing

#endif  // BATON_TESTS_SYSTEM_SYSTEM_TEST_BASE_H_
