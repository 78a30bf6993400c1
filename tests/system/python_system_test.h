// What the tests of Python models in real servers share.
#ifndef BATON_TESTS_SYSTEM_PYTHON_SYSTEM_TEST_H_
#define BATON_TESTS_SYSTEM_PYTHON_SYSTEM_TEST_H_

#include <optional>
#include <string>
#include <string_view>

#include "baton/channel.h"
#include "tests/system/system_test_base.h"

namespace baton::testing {

class PythonSystemTestBase : public SystemTest {
 protected:
  // Serves a copy of tests/loader/python/models/`model`, whose config.yaml is `config` (none:
  // without), with secrets_ where there are any; attaches front_ and opens channel_.
  void ServePython(const std::string& model, const std::string& config = "");

  // A text as an input, and as it lies in a request.
  static TensorSpec TextSpec(const std::string& name, std::string_view text);
  static void Fill(Request& request, const std::string& name, std::string_view text);
  // The output `output` of a response.
  static std::string TextOf(const Response& response);

  std::optional<Channel> channel_;
};

}  // namespace baton::testing

#endif  // BATON_TESTS_SYSTEM_PYTHON_SYSTEM_TEST_H_
