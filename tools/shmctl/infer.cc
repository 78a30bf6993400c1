// shmctl infer: one request.
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "capnp/message.h"

#include "baton/front.h"
#include "tools/shmctl/channel_sizing.h"
#include "tools/shmctl/command_line.h"
#include "tools/shmctl/input_file.h"
#include "tools/shmctl/output_files.h"
#include "tools/shmctl/report_json.h"
#include "tools/shmctl/server_client.h"
#include "tools/shmctl/tensor_values.h"

namespace baton::shmctl {
namespace {

namespace schema = ipc::schema;

constexpr uint64_t kMaxTextValues = 64;
constexpr uint64_t kMaxJsonValues = 65536;

struct Options {
  std::string name;
  std::vector<std::string> inputs;
  std::string output_directory;
  uint64_t response_bytes = 16 << 20;
  TimeoutOption timeout{30};
  bool json = false;
};

absl::StatusOr<Response> Ask(Channel& channel, const std::vector<HostTensor>& inputs,
                             absl::Duration timeout) {
  absl::StatusOr<Request> request = channel.NewRequest(SpecsOf(inputs));
  if (!request.ok()) return request.status();
  for (size_t i = 0; i < inputs.size(); ++i) {
    const std::vector<std::byte>& bytes = inputs[i].bytes;
    if (!bytes.empty()) std::memcpy(request->input_bytes(i).data(), bytes.data(), bytes.size());
  }
  return channel.Call(*std::move(request), {.timeout = timeout});
}

void PrintText(const Response& response, const std::vector<std::string>& files) {
  for (size_t i = 0; i < response.outputs().size(); ++i) {
    const TensorView& output = response.outputs()[i];
    std::string text = FormatTensor(output, files.empty() ? kMaxTextValues : 0);
    if (!files.empty()) {
      text = absl::StrCat(
          ToString(
              {std::string(output.name), output.dtype, {output.shape.begin(), output.shape.end()}}),
          " -> ", files[i]);
    }
    std::printf("%s\n", text.c_str());
  }
  std::printf("generation %llu, %.1f us in the model\n",
              static_cast<unsigned long long>(response.generation()),
              absl::ToDoubleMicroseconds(response.service_time()));
}

void PrintJson(const std::string& server, const Response& response,
               const std::vector<std::string>& files) {
  capnp::MallocMessageBuilder message;
  auto report = message.initRoot<schema::InferReport>();
  report.setServer(server);
  report.setGeneration(response.generation());
  report.setServiceNs(static_cast<uint64_t>(absl::ToInt64Nanoseconds(response.service_time())));
  auto outputs = report.initOutputs(static_cast<uint32_t>(response.outputs().size()));
  for (uint32_t i = 0; i < outputs.size(); ++i) {
    const TensorView& output = response.outputs()[i];
    outputs[i].setName(ToText(output.name));
    outputs[i].setDtype(ToText(DTypeName(output.dtype)));
    auto shape = outputs[i].initShape(static_cast<uint32_t>(output.shape.size()));
    for (uint32_t d = 0; d < shape.size(); ++d) shape.set(d, output.shape[d]);
    if (!files.empty()) {
      outputs[i].setFile(files[i]);
    } else if (ElementCount(output.shape).value_or(0) > kMaxJsonValues) {
      outputs[i].setOmitted(true);
    } else {
      WriteValues(output, outputs[i].initValues());
    }
  }
  PrintReport(report);
}

absl::Status Infer(const std::string& run_directory, const Options& options) {
  if (auto server = FindServer(run_directory, options.name); !server.ok()) return server.status();
  const absl::Duration timeout = options.timeout.duration();
  absl::StatusOr<std::unique_ptr<Front>> front =
      Front::Attach(options.name, {.run_directory = run_directory, .connect_timeout = timeout});
  if (!front.ok()) return front.status();
  absl::StatusOr<std::vector<HostTensor>> inputs =
      LoadInputs(options.inputs, (*front)->signature());
  if (!inputs.ok()) return inputs.status();
  absl::StatusOr<Channel> channel =
      (*front)->OpenChannel(SizeChannel(*inputs, (*front)->signature(), options.response_bytes));
  if (!channel.ok()) return channel.status();
  absl::StatusOr<Response> response = Ask(*channel, *inputs, timeout);
  if (!response.ok()) {
    return absl::Status(
        response.status().code(),
        absl::StrCat("the request failed: ", absl::StatusCodeToString(response.status().code()),
                     ": ", std::string(response.status().message())));
  }
  std::vector<std::string> files;
  if (!options.output_directory.empty()) {
    absl::StatusOr<std::vector<std::string>> written =
        WriteOutputs(response->outputs(), options.output_directory);
    if (!written.ok()) return written.status();
    files = *std::move(written);
  }
  if (options.json) {
    PrintJson(options.name, *response, files);
  } else {
    PrintText(*response, files);
  }
  return absl::OkStatus();
}

}  // namespace

void AddInfer(CommandLine& line) {
  CLI::App& verb = line.AddVerb("infer", "Sends one request, and prints the outputs.",
                                "shmctl infer digits --input pixels=seven.npy");
  auto options = std::make_shared<Options>();
  AddServerName(verb, options->name);
  AddInputs(verb, options->inputs,
            "An input: a .npy, .safetensors or (small) .json file. Once for each");
  verb.add_option("--output-dir", options->output_directory,
                  "Write each output to a .npy file there (bfloat16: .safetensors)")
      ->type_name("DIR");
  verb.add_option("--response-bytes", options->response_bytes,
                  "Room for outputs whose shape the model chooses")
      ->type_name("BYTES")
      ->check(CLI::Range(uint64_t{4096}, uint64_t{1} << 40))
      ->capture_default_str();
  AddTimeout(verb, options->timeout, "Bound on the request, waiting for a reload included");
  AddJson(verb, options->json);
  line.OnRun(verb, [&line, options] { return Infer(line.run_directory(), *options); });
}

}  // namespace baton::shmctl
