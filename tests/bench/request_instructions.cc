// What check_instructions counts: requests of 64 bytes, the front's part and the worker's, on one
// thread, so that nobody ever spins, sleeps or is woken.
//
// The serving loop runs here as in a worker. Its model, in the middle of each request, is the
// front: it takes the answer of the request before and submits the one after. Two are in flight,
// each side finds what it looks for at its first look, and every request takes the same steps.
//
// Under callgrind, which starts with its counters off, each part is counted kRequests times, after
// as many that are not, and dumped as "<row>.<part>": `front`, `worker`, and `nothing`, what
// switching on and off costs. Anywhere else it serves the same requests and counts nothing.
#include <valgrind/callgrind.h>

#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "runtime/worker/command_queue.h"
#include "runtime/worker/serving_loop.h"
#include "tests/runtime/front/fake_server.h"

namespace baton::test {
namespace {

constexpr int kRequests = 2'000;

Signature NullSignature() {
  return {.inputs = {{.name = "x", .dtype = DType::kUInt8, .shape = {64}}},
          .outputs = {{.name = "y", .dtype = DType::kUInt8, .shape = {8}}}};
}

void Check(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "request_instructions: %s\n", what);
  std::exit(1);
}

// A way of calling: what a service does for one request.
class Way {
 public:
  virtual ~Way() = default;
  virtual void Submit() = 0;
  virtual void TakeAnswer() = 0;
};

// Loan, submit; poll, read, release.
class Loaned final : public Way {
 public:
  explicit Loaned(Channel& channel)
      : channel_(channel), plan_(*channel.Plan(NullSignature().inputs)) {}
  void Submit() override {
    absl::StatusOr<Request> request = channel_.Loan(plan_);
    Check(request.ok(), "no loan");
    Check(channel_.Submit(*std::move(request)).ok(), "not submitted");
  }
  void TakeAnswer() override {
    const std::optional<Outcome> outcome = channel_.Poll();
    Check(outcome && outcome->response.ok(), "no answer");
    Check(outcome->response->output<uint8_t>(size_t{0})[0] == 1, "a wrong answer");
  }

 private:
  Channel& channel_;
  const RequestPlan plan_;
};

// The same of two bound requests in turn.
class Bound final : public Way {
 public:
  explicit Bound(Channel& channel) : channel_(channel) {
    const RequestPlan plan = *channel.Plan(NullSignature().inputs);
    for (size_t i = 0; i < bound_.size(); ++i) {
      bound_[i] = *channel.Bind(plan);
      bound_[i].set_tag(i);
    }
  }
  void Submit() override {
    Check(channel_.Submit(bound_[next_]).ok(), "not submitted");
    next_ ^= 1;
  }
  void TakeAnswer() override {
    const std::optional<Outcome> outcome = channel_.Poll();
    Check(outcome && outcome->response.ok(), "no answer");
    Check(bound_[outcome->tag].output<uint8_t>(size_t{0})[0] == 1, "a wrong answer");
  }

 private:
  Channel& channel_;
  std::array<BoundRequest, 2> bound_;
  size_t next_ = 0;
};

// What is counted now, for how many requests still. Switches callgrind's counters.
class Counter {
 public:
  enum class Part { kNone, kFront, kWorker, kNothing };

  void Begin(Part part) {
    part_ = part;
    CALLGRIND_ZERO_STATS;
  }
  // Around a part, on and off.
  void Switch(Part part) const {
    if (part == part_) CALLGRIND_TOGGLE_COLLECT;
  }
  void End(const std::string& name) {
    part_ = Part::kNone;
    CALLGRIND_DUMP_STATS_AT(name.c_str());
  }

 private:
  Part part_ = Part::kNone;
};

// The model, and in the middle of its calls the front.
class CountedModel final : public loader::Model {
 public:
  using Part = Counter::Part;
  CountedModel(Way& way, std::string row, runtime::CommandQueue& commands)
      : way_(way), row_(std::move(row)), commands_(commands) {}

  const Signature& signature() const override { return signature_; }
  uint64_t device_bytes() const override { return 0; }
  absl::Status Upload(const loader::DeviceRegion&) override { return absl::OkStatus(); }
  absl::Status Run(std::span<const TensorView>, loader::OutputSink& outputs) override {
    counter_.Switch(Part::kWorker);
    if (++calls_ % kRequests == 0) NextPart();
    if (!ended_) BeTheFront();
    counter_.Switch(Part::kWorker);
    const int64_t shape[] = {8};
    const absl::StatusOr<std::span<std::byte>> output = outputs.Allocate(0, shape);
    if (!output.ok()) return output.status();
    (*output)[0] = std::byte{1};
    return absl::OkStatus();
  }

 private:
  void BeTheFront() {
    counter_.Switch(Part::kNothing);
    counter_.Switch(Part::kNothing);
    counter_.Switch(Part::kFront);
    if (calls_ > 1) way_.TakeAnswer();
    way_.Submit();
    counter_.Switch(Part::kFront);
  }
  // After each kRequests calls; the counters are off.
  void NextPart() {
    if (counted_ > 0) counter_.End(row_ + "." + kParts[counted_ - 1].name);
    if (counted_ == kParts.size()) {
      ended_ = true;
      commands_.Push({.kind = runtime::Command::Kind::kExit});
      return;
    }
    counter_.Begin(kParts[counted_++].part);
  }

  struct NamedPart {
    Part part;
    const char* name;
  };
  static constexpr std::array<NamedPart, 3> kParts = {
      {{Part::kNothing, "nothing"}, {Part::kFront, "front"}, {Part::kWorker, "worker"}}};
  const Signature signature_ = NullSignature();
  Way& way_;
  const std::string row_;
  runtime::CommandQueue& commands_;
  Counter counter_;
  int calls_ = 0;
  size_t counted_ = 0;  // parts begun
  bool ended_ = false;
};

class NoReplies final : public runtime::ServingReplies {
 public:
  void Held(uint64_t) override {}
  void ChannelRemoved(uint64_t, uint64_t) override {}
  void ChannelRefused(uint64_t, uint64_t, const absl::Status&) override {
    Check(false, "the loop has refused the channel");
  }
};

template <typename AWay>
void Count(const std::string& row) {
  FakeServer server(NullSignature());
  Channel channel = server.Open();
  AWay way(channel);
  const std::unique_ptr<runtime::CommandQueue> commands = *runtime::CommandQueue::Create();
  runtime::Command add{.kind = runtime::Command::Kind::kAddChannel};
  add.server = *runtime::ChannelServer::Map(0, server.Descriptors(0));
  commands->Push(std::move(add));
  commands->Push({.kind = runtime::Command::Kind::kAdmit});
  commands->Push({.kind = runtime::Command::Kind::kServe});
  way.Submit();
  NoReplies replies;
  runtime::ServingLoop loop({.generation = 1, .doorbell_fd = server.doorbell()},
                            server.worker_page(), *commands, replies);
  CountedModel model(way, row, *commands);
  Check(loop.WaitForAdmission().has_value(), "not admitted");
  loop.Run(model);
}

}  // namespace
}  // namespace baton::test

int main() {
  baton::test::Count<baton::test::Loaned>("loaned_64");
  baton::test::Count<baton::test::Bound>("bound_64");
  return 0;
}
