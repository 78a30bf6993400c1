// What the tests of secrets over a whole server share: a server on the probe `getenv`, which tells
// every variable of its environment, and the ways in which secrets change.
#ifndef BATON_TESTS_SYSTEM_SECRETS_TEST_BASE_H_
#define BATON_TESTS_SYSTEM_SECRETS_TEST_BASE_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/system/system_test_base.h"

namespace baton::testing {

class SecretsSystemTest : public SystemTest {
 protected:
  SecretsSystemTest();
  ~SecretsSystemTest() override;

  // Serves with secrets_ as the secrets directory, there or not.
  void ServeSecrets(const std::map<std::string, std::string>& env = {},
                    const std::vector<std::string>& options = {});
  // Replaces secrets_/name in one step: there is no moment in which it is half there.
  void WriteSecret(const std::string& name, const std::string& content) const;
  // Replaces the target of secrets_/..data by a new directory of these files, as a kubelet does.
  // The keys' own links are made where they are missing.
  void SwapData(const std::map<std::string, std::string>& values);
  // Has the server look away while `change` runs: to it, all of that happens at once.
  void WhileItLooksAway(const std::function<void()>& change);

  // What the generation that answers has in its environment; nullopt: it is not set.
  std::optional<std::string> Ask(const std::string& variable);
  // Which generation answered last.
  uint64_t answered_by() const { return answered_by_; }
  // Changes the secret MARK, which no test uses otherwise, and says which generation has it. One
  // more than the one before: nothing but that has reloaded.
  uint64_t GenerationOfNextChange();
  bool LogHas(const std::string& text) const;

 private:
  std::optional<Channel> channel_;
  uint64_t answered_by_ = 0;
  int swaps_ = 0;
  int marks_ = 0;
};

}  // namespace baton::testing

#endif  // BATON_TESTS_SYSTEM_SECRETS_TEST_BASE_H_
