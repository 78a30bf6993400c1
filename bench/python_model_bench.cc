// What a model that is written in Python adds to a call, in one run.
//
//   Null/cxx, Null/python   a round trip of 64 bytes with a model that does
//                           nothing, in place, from the same front; `added_ns`:
//                           what its median is more than that of Null/cxx
//   Text/python             a text of 64 bytes in, the same text out
//   Identity/python/<bytes> a view of so many bytes in, so many out through
//                           baton.empty_output, of which one is written: nothing
//                           is copied
//   FirstChunk/cxx, /python from opening a stream to its first chunk
//   Chunk/cxx, /python      from one chunk to the next, with a reader who waits
//
// All of it in turns, a slice each. Front and workers are pinned.
#include <benchmark/benchmark.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "baton/front.h"
#include "bench/experiment.h"
#include "bench/machine_name.h"
#include "bench/null_server.h"
#include "bench/round_trip.h"
#include "bench/shown_rows.h"

namespace baton::bench {
namespace {

constexpr int kFrontCpu = 0;
constexpr int kWorkerCpu = 1;

// A stream of `count` chunks, opened and read by hand.
class StreamReader {
 public:
  explicit StreamReader(Channel channel) : channel_(std::move(channel)) {
    const absl::StatusOr<uint32_t> method = channel_.FindMethod("generate");
    status_ = method.status();
    if (!method.ok()) return;
    const TensorSpec count{.name = "count", .dtype = DType::kInt64, .shape = {}};
    absl::StatusOr<RequestPlan> plan = channel_.Plan({&count, 1}, {.method = *method});
    status_ = plan.status();
    if (plan.ok()) plan_ = *plan;
  }
  const absl::Status& status() const { return status_; }

  bool Open(int64_t count) {
    absl::StatusOr<Request> request = channel_.Loan(plan_);
    if (!request.ok()) return false;
    request->input<int64_t>(0)[0] = count;
    absl::StatusOr<Stream> stream = channel_.OpenStream(*std::move(request));
    if (!stream.ok()) return false;
    stream_ = *std::move(stream);
    return true;
  }
  bool ReadOne(Stream::Found expected = Stream::Found::kResponse) {
    const absl::StatusOr<Stream::ReadResult> read = stream_.Read(absl::Seconds(30));
    return read.ok() && read->found == expected;
  }
  void Close() { stream_ = Stream(); }

 private:
  Channel channel_;
  RequestPlan plan_;
  Stream stream_;
  absl::Status status_;
};

class FirstChunkSubject final : public Subject {
 public:
  explicit FirstChunkSubject(Channel channel) : reader_(std::move(channel)) {}
  const absl::Status& status() const { return reader_.status(); }
  bool Once() override { return reader_.Open(1) && reader_.ReadOne(); }
  bool After() override { return reader_.ReadOne(Stream::Found::kEnd); }

 private:
  StreamReader reader_;
};

class ChunkSubject final : public Subject {
 public:
  explicit ChunkSubject(Channel channel) : reader_(std::move(channel)) {}
  const absl::Status& status() const { return reader_.status(); }
  bool Begin() override { return reader_.Open(int64_t{1} << 40); }
  void End() override { reader_.Close(); }
  bool Once() override { return reader_.ReadOne(); }

 private:
  StreamReader reader_;
};

template <typename Made, typename... Args>
absl::Status Add(Experiment& experiment, const std::string& name, Front& front,
                 const ChannelOptions& options, Args&&... args) {
  absl::StatusOr<Channel> channel = front.OpenChannel(options);
  if (!channel.ok()) return channel.status();
  auto subject = std::make_unique<Made>(*std::move(channel), std::forward<Args>(args)...);
  if (!subject->status().ok()) return subject->status();
  experiment.Add(name, std::move(subject));
  return absl::OkStatus();
}

// The rows that both models have.
absl::Status AddCommon(Experiment& experiment, const std::string& model, Front& front) {
  absl::Status status =
      Add<RoundTripSubject>(experiment, "Null/" + model, front, BusyChannel(64), 64);
  if (!status.ok()) return status;
  status = Add<FirstChunkSubject>(experiment, "FirstChunk/" + model, front, BusyChannel(64));
  if (!status.ok()) return status;
  return Add<ChunkSubject>(experiment, "Chunk/" + model, front, BusyChannel(64));
}

absl::Status AddPython(Experiment& experiment, Front& front) {
  absl::Status status = AddCommon(experiment, "python", front);
  for (uint32_t method = 0; status.ok() && method < front.methods().size(); ++method) {
    const std::string& name = front.methods()[method].name;
    const PlanOptions options{.method = method};
    if (name == "text") {
      status =
          Add<RoundTripSubject>(experiment, "Text/python", front, BusyChannel(64), 64, options);
    }
    if (name != "identity") continue;
    for (const int64_t bytes : {int64_t{64}, int64_t{1} << 20, int64_t{64} << 20}) {
      if (!status.ok()) break;
      status = Add<RoundTripSubject>(experiment, "Identity/python/" + std::to_string(bytes), front,
                                     BusyChannel(bytes, bytes), bytes, options);
    }
  }
  return status;
}

int Main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  benchmark::AddCustomContext("machine", MachineName());
  const auto give_up = [](const absl::Status& why) { return GiveUp("python_model_bench", why); };
  if (absl::Status cpus = NeedTwoCpus(); !cpus.ok()) return give_up(cpus);
  absl::StatusOr<std::unique_ptr<NullServer>> cxx = NullServer::Launch(kWorkerCpu);
  if (!cxx.ok()) return give_up(cxx.status());
  absl::StatusOr<std::unique_ptr<NullServer>> python = NullServer::LaunchPython(kWorkerCpu);
  if (!python.ok()) return give_up(python.status());
  Experiment experiment;
  absl::Status status = AddCommon(experiment, "cxx", (*cxx)->front());
  if (status.ok()) status = AddPython(experiment, (*python)->front());
  if (!status.ok()) return give_up(status);
  BecomeTheFront(kFrontCpu);
  return ShowRows({"Null/cxx", "Null/python", "Text/python", "Identity/python/64",
                   "Identity/python/1048576", "Identity/python/67108864", "FirstChunk/cxx",
                   "FirstChunk/python", "Chunk/cxx", "Chunk/python"},
                  [&experiment](benchmark::State& state, const std::string& row) {
                    experiment.Report(state, row);
                    const std::string beside = row.substr(0, row.find('/')) + "/cxx";
                    const std::string floor =
                        beside == "Text/cxx" || beside == "Identity/cxx" ? "Null/cxx" : beside;
                    if (row == floor) return;
                    state.counters["added_ns"] =
                        experiment.MedianNs(row) - experiment.MedianNs(floor);
                  });
}

}  // namespace
}  // namespace baton::bench

int main(int argc, char** argv) { return baton::bench::Main(argc, argv); }
