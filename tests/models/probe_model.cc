// A native model for tests. Options, all under native.options of config.yaml:
//
//   behaviour      inputs -> outputs; what it does (default: null)
//     null         data: uint8[?] -> ok: uint8[8]        nothing, without an allocation
//     echo         data: uint8[?] -> data: uint8[?]      copies
//     env          data: uint8[?] -> value: uint8[?], present: bool[1], pid: int64[1]
//                  the environment variable `variable`, as it was at construction
//     getenv       data: uint8[?] -> as env               the environment variable that `data`
//     names, as
//                  it was at construction; after a `!` in front of the name: throws the value
//     echo_env     data: uint8[?] -> data: uint8[?], value: uint8[?]      echo and env in one
//     slow         as echo, after `ms` milliseconds
//     crash        data: int32[?] -> data: int32[?]      segfaults where data[0] is 666, else
//     copies hang         as crash, but sleeps for ever weights      data: uint8[?] -> sum:
//     uint64[1]      the sum of its device memory's bytes
//   weights_bytes  device memory taken, each byte 1 (any behaviour; default 0)
//   load           fail | leak | crash | hang: what the constructor does (default: nothing);
//                  leak throws the value of the environment variable `variable`
//   load_ms        time that construction takes
//   upload         fail | crash | hang: what Upload does
//                  leave: starts a process that makes a session of its own, maps the arena and
//                  stays; daemon: the same, from a process that ends at once
//   cleanup        throw | hang: what Cleanup does
//   cleanup_file   Cleanup appends a line with its pid to this file, first of all
//   only_if        NAME=VALUE: load, upload and cleanup misbehave only where the environment has
//   this
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <map>
#include <memory>
#include <numeric>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "baton/model.h"

namespace {

using baton::DType;
using baton::kDynamicDim;
using baton::ModelContext;
using baton::Outputs;
using baton::Signature;
using baton::TensorView;

constexpr int32_t kTrigger = 666;

void SleepMs(const std::string& ms) {
  std::this_thread::sleep_for(std::chrono::milliseconds(ms.empty() ? 0 : std::stoll(ms)));
}

[[noreturn]] void SleepForEver() {
  for (;;) ::pause();
}

// With the default action: sanitizers would turn it into an exit.
[[noreturn]] void Crash() {
  ::signal(SIGSEGV, SIG_DFL);
  ::raise(SIGSEGV);
  std::abort();
}

// Starts a process that keeps the arena mapped, outside of this one's group and session; returns
// when it does.
void LeaveHolder() {
  int mapped[2];
  if (::pipe(mapped) != 0) return;
  if (::fork() != 0) {
    char done;
    ::close(mapped[1]);
    if (::read(mapped[0], &done, 1) != 1) throw std::runtime_error("nothing maps the arena");
    ::close(mapped[0]);
    return;
  }
  ::setsid();
  for (int fd = 3; fd < 1024; ++fd) {
    const std::string path = "/proc/self/fd/" + std::to_string(fd);
    char target[256];
    const ssize_t length = ::readlink(path.c_str(), target, sizeof(target));
    if (length <= 0 || std::string(target, static_cast<size_t>(length)).find("baton-device") ==
                           std::string::npos) {
      continue;
    }
    if (::mmap(nullptr, 4096, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED) continue;
    if (::write(mapped[1], "m", 1) == 1) SleepForEver();
  }
  ::_exit(1);
}

// What every behaviour shares: device memory, and faults outside of Run.
class Probe : public baton::Model {
 public:
  explicit Probe(const ModelContext& context)
      : options_(context), weights_bytes_(std::stoull(context.Option("weights_bytes", "0"))) {
    SleepMs(context.Option("load_ms"));
    Misbehave("load");
  }

  uint64_t device_bytes() const override { return weights_bytes_; }

  void Upload(const baton::DeviceMemory& memory) override {
    Misbehave("upload");
    const std::vector<std::byte> chunk(std::min<uint64_t>(weights_bytes_, 1 << 20), std::byte{1});
    for (uint64_t at = 0; at < weights_bytes_; at += chunk.size()) {
      memory.Write(at, std::span(chunk).first(std::min(chunk.size(), weights_bytes_ - at)));
    }
    weights_ = {reinterpret_cast<const uint8_t*>(memory.address()), weights_bytes_};
  }

  void Cleanup() override {
    const std::string file = options_.Option("cleanup_file");
    if (!file.empty()) std::ofstream(file, std::ios::app) << ::getpid() << std::endl;
    Misbehave("cleanup");
  }

 protected:
  std::span<const uint8_t> weights() const { return weights_; }

 private:
  void Misbehave(const std::string& where) const {
    const std::string what = options_.Option(where);
    if (what.empty() || !Applies()) return;
    if (what == "fail" || what == "throw") throw std::runtime_error(where + " fails as asked");
    if (what == "leak") {
      const char* value = std::getenv(options_.Option("variable").c_str());
      throw std::runtime_error(std::string("no such token: ") + (value ? value : "(none)"));
    }
    if (what == "crash") Crash();
    if (what == "hang") SleepForEver();
    if (what == "leave") return LeaveHolder();
    if (what == "daemon") {
      const pid_t child = ::fork();
      if (child == 0) {
        LeaveHolder();
        ::_exit(0);
      }
      ::waitpid(child, nullptr, 0);
      return;
    }
    throw std::invalid_argument("option '" + where + "': unknown fault '" + what + "'");
  }

  bool Applies() const {
    const std::string condition = options_.Option("only_if");
    const size_t equals = condition.find('=');
    if (equals == std::string::npos) return true;
    const char* value = std::getenv(condition.substr(0, equals).c_str());
    return value != nullptr && condition.substr(equals + 1) == value;
  }

  const ModelContext options_;
  const uint64_t weights_bytes_;
  std::span<const uint8_t> weights_;
};

class NullProbe final : public Probe {
 public:
  using Probe::Probe;
  Signature signature() const override {
    return {.inputs = {{"data", DType::kUInt8, {kDynamicDim}}},
            .outputs = {{"ok", DType::kUInt8, {8}}}};
  }
  void Run(std::span<const TensorView>, Outputs& outputs) override {
    outputs.Allocate<uint8_t>(0, {8})[0] = 1;
  }
};

// Copies its input, after a while that may be none.
class EchoProbe final : public Probe {
 public:
  explicit EchoProbe(const ModelContext& context) : Probe(context), ms_(context.Option("ms")) {}
  Signature signature() const override {
    return {.inputs = {{"data", DType::kUInt8, {kDynamicDim}}},
            .outputs = {{"data", DType::kUInt8, {kDynamicDim}}}};
  }
  void Run(std::span<const TensorView> inputs, Outputs& outputs) override {
    if (!ms_.empty()) SleepMs(ms_);
    const std::span<std::byte> to = outputs.AllocateBytes(0, inputs[0].shape);
    std::copy(inputs[0].bytes.begin(), inputs[0].bytes.end(), to.begin());
  }

 private:
  const std::string ms_;
};

class EnvProbe final : public Probe {
 public:
  explicit EnvProbe(const ModelContext& context) : Probe(context) {
    const char* value = std::getenv(context.Option("variable").c_str());
    present_ = value != nullptr;
    if (present_) value_ = value;
  }
  Signature signature() const override {
    return {.inputs = {{"data", DType::kUInt8, {kDynamicDim}}},
            .outputs = {{"value", DType::kUInt8, {kDynamicDim}},
                        {"present", DType::kBool, {1}},
                        {"pid", DType::kInt64, {1}}}};
  }
  void Run(std::span<const TensorView>, Outputs& outputs) override {
    const int64_t shape[] = {static_cast<int64_t>(value_.size())};
    const auto value = outputs.TryAllocateBytes(0, shape);
    outputs.Allocate<bool>(1, {1})[0] = present_;
    outputs.Allocate<int64_t>(2, {1})[0] = ::getpid();
    if (!value) throw baton::ModelError(BATON_RESOURCE_EXHAUSTED, "no room for the value");
    std::copy_n(reinterpret_cast<const std::byte*>(value_.data()), value_.size(), value->begin());
  }

 private:
  bool present_ = false;
  std::string value_;
};

void WriteText(Outputs& outputs, size_t index, const std::string& text) {
  const int64_t shape[] = {static_cast<int64_t>(text.size())};
  const auto to = outputs.TryAllocateBytes(index, shape);
  if (!to) throw baton::ModelError(BATON_RESOURCE_EXHAUSTED, "no room for the value");
  std::copy_n(reinterpret_cast<const std::byte*>(text.data()), text.size(), to->begin());
}

class GetenvProbe final : public Probe {
 public:
  explicit GetenvProbe(const ModelContext& context) : Probe(context) {
    for (char** entry = environ; *entry != nullptr; ++entry) {
      const std::string text(*entry);
      const size_t equals = text.find('=');
      if (equals != std::string::npos) {
        variables_.try_emplace(text.substr(0, equals), text.substr(equals + 1));
      }
    }
  }
  Signature signature() const override {
    return {.inputs = {{"data", DType::kUInt8, {kDynamicDim}}},
            .outputs = {{"value", DType::kUInt8, {kDynamicDim}},
                        {"present", DType::kBool, {1}},
                        {"pid", DType::kInt64, {1}}}};
  }
  void Run(std::span<const TensorView> inputs, Outputs& outputs) override {
    const std::span<const uint8_t> data = inputs[0].As<uint8_t>();
    std::string name(data.begin(), data.end());
    const bool leak = name.starts_with('!');
    if (leak) name.erase(0, 1);
    const auto found = variables_.find(name);
    const std::string value = found == variables_.end() ? "" : found->second;
    if (leak) throw std::runtime_error("no such token: " + value);
    outputs.Allocate<bool>(1, {1})[0] = found != variables_.end();
    outputs.Allocate<int64_t>(2, {1})[0] = ::getpid();
    WriteText(outputs, 0, value);
  }

 private:
  std::map<std::string, std::string> variables_;
};

class EchoEnvProbe final : public Probe {
 public:
  explicit EchoEnvProbe(const ModelContext& context) : Probe(context) {
    const char* value = std::getenv(context.Option("variable").c_str());
    if (value != nullptr) value_ = value;
  }
  Signature signature() const override {
    return {.inputs = {{"data", DType::kUInt8, {kDynamicDim}}},
            .outputs = {{"data", DType::kUInt8, {kDynamicDim}},
                        {"value", DType::kUInt8, {kDynamicDim}}}};
  }
  void Run(std::span<const TensorView> inputs, Outputs& outputs) override {
    const std::span<std::byte> to = outputs.AllocateBytes(0, inputs[0].shape);
    std::copy(inputs[0].bytes.begin(), inputs[0].bytes.end(), to.begin());
    WriteText(outputs, 1, value_);
  }

 private:
  std::string value_;
};

// Copies its input, but for the trigger.
class FaultProbe final : public Probe {
 public:
  FaultProbe(const ModelContext& context, bool hang) : Probe(context), hang_(hang) {}
  Signature signature() const override {
    return {.inputs = {{"data", DType::kInt32, {kDynamicDim}}},
            .outputs = {{"data", DType::kInt32, {kDynamicDim}}}};
  }
  void Run(std::span<const TensorView> inputs, Outputs& outputs) override {
    const std::span<const int32_t> data = inputs[0].As<int32_t>();
    if (!data.empty() && data[0] == kTrigger) {
      if (hang_) SleepForEver();
      Crash();
    }
    const std::span<int32_t> to = outputs.Allocate<int32_t>(0, inputs[0].shape);
    std::copy(data.begin(), data.end(), to.begin());
  }

 private:
  const bool hang_;
};

class WeightsProbe final : public Probe {
 public:
  using Probe::Probe;
  Signature signature() const override {
    return {.inputs = {{"data", DType::kUInt8, {kDynamicDim}}},
            .outputs = {{"sum", DType::kUInt64, {1}}}};
  }
  void Run(std::span<const TensorView>, Outputs& outputs) override {
    outputs.Allocate<uint64_t>(0, {1})[0] =
        std::accumulate(weights().begin(), weights().end(), uint64_t{0});
  }
};

std::unique_ptr<baton::Model> MakeProbe(const ModelContext& context) {
  const std::string behaviour = context.Option("behaviour", "null");
  if (behaviour == "null") return std::make_unique<NullProbe>(context);
  if (behaviour == "echo" || behaviour == "slow") return std::make_unique<EchoProbe>(context);
  if (behaviour == "env") return std::make_unique<EnvProbe>(context);
  if (behaviour == "getenv") return std::make_unique<GetenvProbe>(context);
  if (behaviour == "echo_env") return std::make_unique<EchoEnvProbe>(context);
  if (behaviour == "crash") return std::make_unique<FaultProbe>(context, false);
  if (behaviour == "hang") return std::make_unique<FaultProbe>(context, true);
  if (behaviour == "weights") return std::make_unique<WeightsProbe>(context);
  throw std::invalid_argument("option 'behaviour': unknown behaviour '" + behaviour + "'");
}

}  // namespace

BATON_REGISTER_MODEL_FACTORY(MakeProbe)
