#include "tests/system/python_system_test.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <utility>

#include "absl/strings/str_cat.h"

namespace baton::testing {

namespace fs = std::filesystem;

void PythonSystemTestBase::ServePython(const std::string& model, const std::string& config) {
  options_.directory = temp_.path() + "/model";
  fs::copy(absl::StrCat(std::getenv("BATON_SOURCE_DIR"), "/tests/loader/python/models/", model),
           options_.directory, fs::copy_options::recursive);
  if (!config.empty()) std::ofstream(options_.directory + "/config.yaml") << config;
  if (fs::exists(secrets_)) options_.secrets_directory = secrets_;
  const absl::Status started = StartServer();
  ASSERT_TRUE(started.ok()) << started;
  absl::StatusOr<Channel> channel = front_->OpenChannel();
  ASSERT_TRUE(channel.ok()) << channel.status();
  channel_.emplace(*std::move(channel));
}

TensorSpec PythonSystemTestBase::TextSpec(const std::string& name, std::string_view text) {
  return {.name = name, .dtype = DType::kUInt8, .shape = {static_cast<int64_t>(text.size())}};
}

void PythonSystemTestBase::Fill(Request& request, const std::string& name, std::string_view text) {
  std::copy(text.begin(), text.end(), request.input<uint8_t>(name).begin());
}

std::string PythonSystemTestBase::TextOf(const Response& response) {
  const auto output = response.output<uint8_t>("output");
  return {output.begin(), output.end()};
}

}  // namespace baton::testing
