// A model that behaves as the secret BATON_TEST_SCRIPT says, and writes what
// happens to it into the file that the secret BATON_TEST_TRACE names: one line
// each, so that a test sees it even if the worker was killed.
//
//   stage-throw, stage-hang    in the constructor
//   upload-throw
//   run-throw, run-hang        in every run, the warm-up's included
//   cleanup-throw, cleanup-hang
//
// y = x + 1; the device holds kDeviceBytes bytes of 0x5a.
#include <fcntl.h>
#include <sys/types.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

#include "baton/model.h"

extern char** environ;

namespace {

constexpr uint64_t kDeviceBytes = 5000;

std::string Env(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

void Trace(const std::string& line) {
  const int fd = ::open(Env("BATON_TEST_TRACE").c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
  if (fd < 0) return;
  const std::string text = line + "\n";
  [[maybe_unused]] const ssize_t written = ::write(fd, text.data(), text.size());
  ::close(fd);
}

void Play(const std::string& scene) {
  Trace(scene);
  const std::string script = Env("BATON_TEST_SCRIPT");
  if (script == scene + "-throw") throw std::runtime_error(scene + " went wrong");
  while (script == scene + "-hang") ::pause();
}

class ScriptedModel final : public baton::Model {
 public:
  explicit ScriptedModel(const baton::ModelContext&) {
    for (char** variable = environ; *variable != nullptr; ++variable) {
      if (std::string(*variable).starts_with("BATON_TEST_")) Trace(std::string("env ") + *variable);
    }
    for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
      std::error_code gone;  // the iterator's own
      const auto target = std::filesystem::read_symlink(entry.path(), gone);
      Trace("fd " + entry.path().filename().string() + " " + target.string());
    }
    Play("stage");
  }
  ~ScriptedModel() override { Trace("destroyed"); }

  baton::Signature signature() const override {
    return {.inputs = {{"x", baton::DType::kInt64, {1}}},
            .outputs = {{"y", baton::DType::kInt64, {1}}}};
  }
  uint64_t device_bytes() const override { return kDeviceBytes; }
  void Upload(const baton::DeviceMemory& memory) override {
    Play("upload");
    memory.Write(0, std::vector<std::byte>(kDeviceBytes, std::byte{0x5a}));
  }
  void Run(std::span<const baton::TensorView> inputs, baton::Outputs& outputs) override {
    Play("run");
    outputs.Allocate<int64_t>(0, {1})[0] = inputs[0].As<int64_t>()[0] + 1;
  }
  void Cleanup() override { Play("cleanup"); }
};

}  // namespace

BATON_REGISTER_MODEL(ScriptedModel)
