// shmctl bench: how fast a server answers.
#include <atomic>
#include <csignal>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "capnp/message.h"

#include "baton/front.h"
#include "tools/shmctl/channel_sizing.h"
#include "tools/shmctl/command_line.h"
#include "tools/shmctl/load_generator.h"
#include "tools/shmctl/report_json.h"
#include "tools/shmctl/server_client.h"

namespace baton::shmctl {
namespace {

namespace schema = ipc::schema;

struct Options {
  std::string name;
  std::vector<std::string> inputs;
  double seconds = 5;
  uint32_t concurrency = 1;
  uint64_t response_bytes = 1 << 20;
  TimeoutOption timeout{30};
  bool json = false;
};

std::atomic<bool> interrupted{false};

// The first signal ends the load, and what was measured is reported; the next
// one ends the program.
void EndOnSignal() {
  struct sigaction action = {};
  action.sa_handler = [](int) { interrupted = true; };
  action.sa_flags = SA_RESETHAND | SA_RESTART;
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
}

void FillReport(const Options& options, uint64_t input_bytes, const LoadResult& result,
                schema::BenchReport::Builder report) {
  const double seconds = absl::ToDoubleSeconds(result.elapsed);
  report.setServer(options.name);
  report.setSeconds(seconds);
  report.setConcurrency(options.concurrency);
  report.setRequests(result.succeeded() + result.failed);
  report.setSucceeded(result.succeeded());
  report.setFailed(result.failed);
  report.setRatePerSecond(seconds > 0 ? static_cast<double>(result.succeeded()) / seconds : 0);
  report.setInputBytes(input_bytes);
  report.setOutputBytes(result.output_bytes);
  auto latency = report.initLatencyUs();
  const auto us = [](uint64_t ns) { return static_cast<double>(ns) / 1e3; };
  latency.setMin(us(result.latency.least_ns()));
  latency.setMean(result.latency.mean_ns() / 1e3);
  latency.setP50(us(result.latency.PercentileNs(0.5)));
  latency.setP90(us(result.latency.PercentileNs(0.9)));
  latency.setP99(us(result.latency.PercentileNs(0.99)));
  latency.setP999(us(result.latency.PercentileNs(0.999)));
  latency.setMax(us(result.latency.most_ns()));
  auto generations = report.initGenerations(static_cast<uint32_t>(result.generations.size()));
  uint32_t i = 0;
  for (const auto& [generation, count] : result.generations) {
    generations[i].setGeneration(generation);
    generations[i++].setRequests(count);
  }
  auto errors = report.initErrors(static_cast<uint32_t>(result.errors.size()));
  i = 0;
  for (const auto& [code, sum] : result.errors) {
    errors[i].setCode(absl::StatusCodeToString(code));
    errors[i].setCount(sum.count);
    errors[i++].setExample(sum.example);
  }
}

void PrintText(schema::BenchReport::Reader report) {
  const schema::BenchReport::Latency::Reader latency = report.getLatencyUs();
  std::printf("%llu requests in %.2f s by %u: %llu succeeded, %llu failed, %.1f a second\n",
              static_cast<unsigned long long>(report.getRequests()), report.getSeconds(),
              report.getConcurrency(), static_cast<unsigned long long>(report.getSucceeded()),
              static_cast<unsigned long long>(report.getFailed()), report.getRatePerSecond());
  std::printf("latency us: p50 %.1f  p90 %.1f  p99 %.1f  p99.9 %.1f  max %.1f  mean %.1f\n",
              latency.getP50(), latency.getP90(), latency.getP99(), latency.getP999(),
              latency.getMax(), latency.getMean());
  for (const schema::BenchReport::GenerationCount::Reader count : report.getGenerations()) {
    std::printf("generation %llu answered %llu\n",
                static_cast<unsigned long long>(count.getGeneration()),
                static_cast<unsigned long long>(count.getRequests()));
  }
  for (const schema::BenchReport::ErrorCount::Reader error : report.getErrors()) {
    std::printf("%s %llu, the first: %s\n", error.getCode().cStr(),
                static_cast<unsigned long long>(error.getCount()), error.getExample().cStr());
  }
}

absl::Status Bench(const std::string& run_directory, const Options& options) {
  if (auto server = FindServer(run_directory, options.name); !server.ok()) return server.status();
  absl::StatusOr<std::unique_ptr<Front>> front = Front::Attach(
      options.name,
      {.run_directory = run_directory, .connect_timeout = options.timeout.duration()});
  if (!front.ok()) return front.status();
  const Signature& signature = (*front)->signature();
  absl::StatusOr<std::vector<HostTensor>> given = LoadInputs(options.inputs, signature);
  if (!given.ok()) return given.status();
  absl::StatusOr<std::vector<HostTensor>> inputs = CompleteInputs(*std::move(given), signature);
  if (!inputs.ok()) return inputs.status();

  EndOnSignal();
  absl::StatusOr<LoadResult> result =
      RunLoad(**front, {.inputs = *inputs,
                        .concurrency = options.concurrency,
                        .duration = absl::Seconds(options.seconds),
                        .request_timeout = options.timeout.duration(),
                        .channel = SizeChannel(*inputs, signature, options.response_bytes),
                        .stop = &interrupted});
  if (!result.ok()) return result.status();
  capnp::MallocMessageBuilder message;
  auto report = message.initRoot<schema::BenchReport>();
  FillReport(options, TotalBytes(*inputs), *result, report);
  if (options.json) {
    PrintReport(report);
  } else {
    PrintText(report.asReader());
  }
  if (result->server_ended) {
    return absl::UnavailableError(
        absl::StrCat("server '", options.name, "' ended during the load: look at its log"));
  }
  if (result->failed > 0) {
    return absl::InternalError(absl::StrCat(result->failed, " of ",
                                            result->succeeded() + result->failed,
                                            " requests failed: see the errors by code"));
  }
  return absl::OkStatus();
}

}  // namespace

void AddBench(CommandLine& line) {
  CLI::App& verb = line.AddVerb(
      "bench",
      "Sends requests from C threads for S seconds, each thread its next one when the last one was "
      "answered. Reports latency, rate, and errors by code; exits with 1 when a request failed.",
      "shmctl bench digits --seconds 10 --concurrency 4");
  auto options = std::make_shared<Options>();
  AddServerName(verb, options->name);
  verb.add_option("--seconds", options->seconds, "How long")
      ->type_name("S")
      ->check(CLI::Range(0.001, 1e7))
      ->capture_default_str();
  verb.add_option("--concurrency", options->concurrency, "How many threads, a channel each")
      ->type_name("C")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  AddInputs(verb, options->inputs,
            "An input: a .npy, .safetensors or .json file. Others are made up: floats "
            "random, all else 0, free dimensions 1");
  verb.add_option("--response-bytes", options->response_bytes,
                  "Room (a channel) for outputs whose shape the model chooses")
      ->type_name("BYTES")
      ->check(CLI::Range(uint64_t{4096}, uint64_t{1} << 40))
      ->capture_default_str();
  AddTimeout(verb, options->timeout, "Bound on each request, waiting for a reload included");
  AddJson(verb, options->json);
  line.OnRun(verb, [&line, options] { return Bench(line.run_directory(), *options); });
}

}  // namespace baton::shmctl
