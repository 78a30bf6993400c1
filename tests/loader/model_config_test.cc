#include "loader/model_config.h"

#include <filesystem>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "tests/loader/temp_dir.h"

namespace baton::loader {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

class ModelConfigTest : public ::testing::Test {
 protected:
  ModelConfigTest() {
    for (const char* file : {"model.so", "model.onnx", "model.safetensors"}) dir_.Write(file, "x");
  }

  absl::StatusOr<ModelConfig> Load(const std::string& yaml) {
    dir_.Write("config.yaml", yaml);
    return LoadModelConfig(dir_.path());
  }

  // The message of the error that `yaml` gives.
  std::string Error(const std::string& yaml) {
    const auto config = Load(yaml);
    EXPECT_FALSE(config.ok()) << yaml;
    return std::string(config.status().message());
  }

  TempDir dir_;
};

TEST_F(ModelConfigTest, ReadsEveryKey) {
  dir_.Write("lib/net.so", "x");
  const auto config = Load(R"(
name: my-net.v2
loader: native
device: cuda:3
device_huge_pages: true
file: lib/net.so
signature:
  inputs:
    - {name: image, dtype: float32, shape: ["?", 64]}
    - {name: flag, dtype: bool, shape: []}
  outputs:
    - {name: scores, dtype: bfloat16, shape: [-1, 10]}
limits: {max_request_bytes: 64MiB, device_capacity: 4096, device_results: 1MiB,
         device_inputs: 64KiB}
worker: {cpu: 5, cpus: [3, 5], numa_node: 1, max_spin: 2ms}
batching: {max_batch: 64, max_delay_us: 250}
reload:
  strategy: auto
  on_unconfirmed: override
  watch: true
  load_timeout: 1m30s
  drain_timeout: 250ms
  close_timeout: 2s
  cleanup_timeout: 3s
  confirm_timeout: 4s
  helper_timeout: 5s
native:
  options: {mode: "echo", ms: 20}
)");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->reload.strategy, ReloadStrategy::kAuto);
  EXPECT_EQ(config->reload.on_unconfirmed, OnUnconfirmed::kOverride);
  EXPECT_TRUE(config->reload.watch);
  EXPECT_EQ(config->name, "my-net.v2");
  EXPECT_EQ(config->directory, dir_.path());
  EXPECT_EQ(config->loader, "native");
  EXPECT_EQ(config->device, "cuda:3");
  EXPECT_EQ(config->file, dir_.File("lib/net.so"));
  ASSERT_TRUE(config->signature.has_value());
  const Signature wanted = {
      .inputs = {{"image", DType::kFloat32, {kDynamicDim, 64}}, {"flag", DType::kBool, {}}},
      .outputs = {{"scores", DType::kBFloat16, {kDynamicDim, 10}}}};
  EXPECT_EQ(*config->signature, wanted);
  EXPECT_EQ(config->max_request_bytes, uint64_t{64} << 20);
  EXPECT_EQ(config->device_capacity_bytes, 4096u);
  EXPECT_EQ(config->device_results_bytes, 1u << 20);
  EXPECT_EQ(config->device_inputs_bytes, 64u << 10);
  EXPECT_THAT(config->worker_cpu, ElementsAre(5));
  EXPECT_THAT(config->worker_cpus, ElementsAre(3, 5));
  EXPECT_EQ(config->worker_numa_node, 1);
  EXPECT_EQ(config->worker_max_spin, absl::Milliseconds(2));
  EXPECT_TRUE(config->device_huge_pages);
  EXPECT_EQ(config->batching.max_batch, 64u);
  EXPECT_EQ(config->batching.max_delay_us, 250);
  EXPECT_EQ(config->reload.load_timeout, absl::Seconds(90));
  EXPECT_EQ(config->reload.drain_timeout, absl::Milliseconds(250));
  EXPECT_EQ(config->reload.close_timeout, absl::Seconds(2));
  EXPECT_EQ(config->reload.cleanup_timeout, absl::Seconds(3));
  EXPECT_EQ(config->reload.confirm_timeout, absl::Seconds(4));
  EXPECT_EQ(config->reload.helper_timeout, absl::Seconds(5));
  EXPECT_THAT(config->options, ElementsAre(Pair("options.mode", "echo"), Pair("options.ms", "20")));
}

TEST_F(ModelConfigTest, DefaultsComeFromTheFolderAndTheLoader) {
  const auto config = Load("loader: dense\n");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->name, std::filesystem::path(dir_.path()).filename().string());
  EXPECT_EQ(config->device, "host");
  EXPECT_EQ(config->file, dir_.File("model.safetensors"));
  EXPECT_FALSE(config->signature.has_value());
  EXPECT_EQ(config->reload.load_timeout, absl::Minutes(10));
}

// A10
TEST_F(ModelConfigTest, FoldersMayHaveSpacesAndQuotes) {
  dir_.Write("it's \"a\" model/model.so", "x");
  dir_.Write("it's \"a\" model/config.yaml", "loader: native\n");
  const auto config = LoadModelConfig(dir_.File("it's \"a\" model/"));
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->name, "it_s__a__model");
  EXPECT_EQ(config->file, dir_.File("it's \"a\" model/model.so"));
}

TEST_F(ModelConfigTest, FlattensListsOfLoaderOptions) {
  const auto config = Load(R"(
loader: dense
dense:
  layers:
    - {weight: fc1.weight, bias: fc1.bias, activation: relu}
    - {weight: fc2.weight}
  activations: [relu, softmax]
)");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_THAT(
      config->options,
      ElementsAre(Pair("activations.0", "relu"), Pair("activations.1", "softmax"),
                  Pair("layers.0.activation", "relu"), Pair("layers.0.bias", "fc1.bias"),
                  Pair("layers.0.weight", "fc1.weight"), Pair("layers.1.weight", "fc2.weight")));
}

TEST_F(ModelConfigTest, UnknownKeysNameTheLineAndWhatWasMeant) {
  EXPECT_THAT(Error("loader: dense\n\nsignatur: 3\n"),
              AllOf(HasSubstr(dir_.File("config.yaml") + ":3: signatur"),
                    HasSubstr("did you mean 'signature'?")));
  EXPECT_THAT(Error("loader: dense\nreload:\n  drain_timout: 3s\n"),
              AllOf(HasSubstr("config.yaml:3: reload.drain_timout"),
                    HasSubstr("did you mean 'drain_timeout'?")));
  EXPECT_THAT(Error("loader: dense\nzzzzz: 3\n"),
              AllOf(HasSubstr(":2: zzzzz"), HasSubstr("known are name, loader")));
  EXPECT_THAT(Error("loader: onnx\nonnx: {spn: true}\n"),
              AllOf(HasSubstr(":2: onnx.spn"), HasSubstr("did you mean 'spin'?")));
  EXPECT_THAT(Error("loader: dense\nlimits: {device: 1}\n"), HasSubstr("limits.device: unknown"));
}

TEST_F(ModelConfigTest, WrongTypesSayWhatIsExpected) {
  EXPECT_THAT(
      Error("loader: dense\nlimits: {max_request_bytes: lots}\n"),
      AllOf(HasSubstr(":2: limits.max_request_bytes"), HasSubstr("64KiB"), HasSubstr("'lots'")));
  EXPECT_THAT(Error("loader: dense\nlimits: 7\n"), HasSubstr("expected a map"));
  EXPECT_THAT(Error("loader: dense\nreload: {drain_timeout: 10}\n"), HasSubstr("250ms"));
  EXPECT_THAT(Error("loader: dense\nreload: {strategy: both}\n"),
              HasSubstr("one of exclusive, overlap, auto"));
  EXPECT_THAT(Error("loader: dense\nreload: {on_unconfirmed: go}\n"),
              HasSubstr("one of hold, override"));
  EXPECT_THAT(Error("loader: dense\nreload: {watch: often}\n"), HasSubstr("true or false"));
  EXPECT_THAT(Error("loader: [dense]\n"), HasSubstr("found a list"));
  EXPECT_THAT(Error("loader: onnx\nonnx: {intra_op_threads: two}\n"), HasSubstr("a whole number"));
  EXPECT_THAT(Error("loader: onnx\nonnx: {spin: maybe}\n"), HasSubstr("true or false"));
  EXPECT_THAT(Error("loader: dense\nname: \"a/b\"\n"), HasSubstr(":2: name"));
  EXPECT_THAT(Error("loader: dense\nfile:\n"), HasSubstr("found nothing"));
}

TEST_F(ModelConfigTest, CpusAreNumbersOfCpus) {
  EXPECT_THAT(Error("loader: dense\nworker: {cpu: -1}\n"),
              AllOf(HasSubstr(":2: worker.cpu"), HasSubstr("0 to 1023")));
  EXPECT_THAT(Error("loader: dense\nworker: {cpu: 1024}\n"), HasSubstr("0 to 1023"));
  EXPECT_THAT(Error("loader: dense\nworker: {cpu: all}\n"), HasSubstr("a whole number"));
  EXPECT_THAT(Error("loader: dense\nworker: {cpus: 1}\n"), HasSubstr("worker.cpus"));
  EXPECT_THAT(Error("loader: dense\nworker: {cpus: []}\n"), HasSubstr("names no CPU"));
  EXPECT_THAT(Error("loader: dense\nworker: {cpus: [1, 2, 1]}\n"),
              HasSubstr("CPU 1 is named twice"));
  EXPECT_THAT(Error("loader: dense\nworker: {cpu: 3, cpus: [1, 2]}\n"),
              HasSubstr("'cpu' is 3, which 'cpus' leaves out"));
  EXPECT_THAT(Error("loader: dense\nworker: {core: 1}\n"), HasSubstr("known are cpu, cpus"));
}

TEST_F(ModelConfigTest, ANumaNodeIsANumber) {
  for (const char* bad : {"-1", "1024"}) {
    EXPECT_THAT(Error("loader: dense\nworker: {numa_node: " + std::string(bad) + "}\n"),
                AllOf(HasSubstr(":2: worker.numa_node"), HasSubstr("0 to 1023")));
  }
  EXPECT_THAT(Error("loader: dense\nworker: {max_spin: 50}\n"), HasSubstr("worker.max_spin"));
  EXPECT_THAT(Error("loader: dense\nworker: {numa_node: all}\n"), HasSubstr("a whole number"));
  EXPECT_THAT(Error("loader: dense\ndevice_huge_pages: 2MiB\n"), HasSubstr("true or false"));
}

TEST_F(ModelConfigTest, BatchingHasLimitsAndDefaults) {
  const auto config = Load("loader: dense\n");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_FALSE(config->batching.on());
  EXPECT_EQ(config->batching.max_delay_us, 0);
  EXPECT_THAT(Error("loader: dense\nbatching: {max_batch: 0}\n"),
              AllOf(HasSubstr(":2: batching.max_batch"), HasSubstr("1 to 65536")));
  EXPECT_THAT(Error("loader: dense\nbatching: {max_batch: 65537}\n"), HasSubstr("1 to 65536"));
  EXPECT_THAT(Error("loader: dense\nbatching: {max_batch: 2, max_delay_us: -1}\n"),
              AllOf(HasSubstr("batching.max_delay_us"), HasSubstr("0 to 100000")));
  EXPECT_THAT(Error("loader: dense\nbatching: {max_batch: 2, max_delay_us: 100001}\n"),
              HasSubstr("0 to 100000"));
  EXPECT_THAT(Error("loader: dense\nbatching: {max_batch: 2, max_delay_us: 1ms}\n"),
              HasSubstr("a whole number"));
  EXPECT_THAT(Error("loader: dense\nbatching: {max_delay_us: 5}\n"),
              AllOf(HasSubstr("batching"), HasSubstr("'max_batch' of more than 1")));
  EXPECT_THAT(Error("loader: dense\nbatching: {max_rows: 2}\n"),
              HasSubstr("known are max_batch, max_delay_us"));
  EXPECT_TRUE(Load("loader: dense\nbatching: {max_batch: 1}\n").ok());
}

TEST_F(ModelConfigTest, LimitsArePositive) {
  for (const char* size : {"0", "-1", "0MiB", "-4MiB", "99999999999999999999", "16777216TiB"}) {
    EXPECT_THAT(Error(std::string("loader: dense\nlimits: {device_capacity: ") + size + "}\n"),
                HasSubstr("limits.device_capacity"))
        << size;
  }
  for (const char* time : {"0s", "-1s", "inf", "25h", "s", "1 fortnight"}) {
    EXPECT_THAT(Error(std::string("loader: dense\nreload: {load_timeout: ") + time + "}\n"),
                HasSubstr("reload.load_timeout"))
        << time;
  }
}

TEST_F(ModelConfigTest, UnknownLoaderListsTheKnownOnes) {
  EXPECT_THAT(Error("loader: tensorflow\n"),
              AllOf(HasSubstr(":1: loader"), HasSubstr("native, onnx, dense")));
  EXPECT_THAT(Error("name: x\n"), AllOf(HasSubstr("'loader' is missing"), HasSubstr("native")));
  EXPECT_THAT(Error(""), HasSubstr("config.yaml"));
}

TEST_F(ModelConfigTest, OptionsOfAnotherLoaderAreRefused) {
  EXPECT_THAT(Error("loader: dense\nonnx: {spin: true}\n"),
              AllOf(HasSubstr(":2: onnx"), HasSubstr("the loader is 'dense'")));
}

TEST_F(ModelConfigTest, KeysGivenTwiceAreRefused) {
  EXPECT_THAT(Error("loader: dense\nloader: onnx\n"),
              AllOf(HasSubstr(":2: loader"), HasSubstr("twice")));
}

TEST_F(ModelConfigTest, MissingFilesNameTheLine) {
  const auto config = Load("loader: dense\nfile: no.safetensors\n");
  EXPECT_EQ(config.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(config.status().message()),
              AllOf(HasSubstr("config.yaml:2"), HasSubstr(dir_.File("no.safetensors"))));
  EXPECT_EQ(LoadModelConfig(dir_.File("nowhere")).status().code(), absl::StatusCode::kNotFound);
}

TEST_F(ModelConfigTest, SignaturesAreChecked) {
  const auto signature = [&](const std::string& tensors) {
    return Error("loader: dense\nsignature:\n  inputs: []\n  outputs: [" + tensors + "]\n");
  };
  EXPECT_THAT(signature(""), HasSubstr("'outputs' names no tensor"));
  EXPECT_THAT(signature("{dtype: int8, shape: []}"),
              AllOf(HasSubstr(":4: signature.outputs[0]"), HasSubstr("'name' is missing")));
  EXPECT_THAT(signature("{name: x, shape: []}"), HasSubstr("'dtype' is missing"));
  EXPECT_THAT(signature("{name: x, dtype: int8}"), HasSubstr("'shape' is missing"));
  EXPECT_THAT(signature("{name: x, dtype: float, shape: []}"),
              AllOf(HasSubstr("signature.outputs[0].dtype"), HasSubstr("float32")));
  EXPECT_THAT(signature("{name: x, dtype: int8, shape: [-2]}"), HasSubstr("shape[0]"));
  EXPECT_THAT(signature("{name: x, dtype: int8, shape: [1,1,1,1,1,1,1,1,1]}"),
              HasSubstr("more than 8 dimensions"));
  EXPECT_THAT(signature("{name: x, dtype: int64, shape: [4294967296, 4294967296]}"),
              HasSubstr("overflows"));
  EXPECT_THAT(signature("{name: x, dtype: int8, shape: []}, {name: x, dtype: int8, shape: []}"),
              HasSubstr("another tensor"));
}

TEST_F(ModelConfigTest, NotYamlNamesTheLine) {
  EXPECT_THAT(Error("loader: dense\nname: [1,\n"), HasSubstr("not YAML"));
  EXPECT_THAT(Error("loader: dense\n---\nloader: onnx\n"), HasSubstr("2 YAML documents"));
  EXPECT_THAT(Error(std::string(300'000, ' ')), HasSubstr("at most"));
  EXPECT_THAT(Error("a: " + std::string(100'000, '[')), HasSubstr("not YAML"));
}

// Nothing that stands in a config may crash the worker.
TEST_F(ModelConfigTest, AnyCutOrChangedByteIsAStatus) {
  const std::string yaml =
      "loader: dense\nsignature: {inputs: [{name: a, dtype: int8, shape: [\"?\", 2]}], outputs: "
      "[{name: b, dtype: int8, shape: []}]}\nreload: {load_timeout: 5s}\n"
      "dense: {activations: [relu]}\n";
  ASSERT_TRUE(Load(yaml).ok()) << Load(yaml).status();
  for (size_t i = 0; i < yaml.size(); ++i) {
    (void)Load(yaml.substr(0, i));
    for (char byte : {'\0', '\xff', '{', '&', '*', '?', ':', '!', '\n', '"'}) {
      std::string changed = yaml;
      changed[i] = byte;
      (void)Load(changed);
    }
  }
}

TEST_F(ModelConfigTest, ADirectoryWithAPythonModelNeedsNoConfig) {
  const TempDir dir;
  EXPECT_EQ(LoadModelConfig(dir.path()).status().code(), absl::StatusCode::kNotFound);
  dir.Write("1/model.py", "");
  auto config = LoadModelConfig(dir.path());
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->loader, "python");
  EXPECT_EQ(config->file, dir.File("1/model.py"));
  const absl::StatusOr<std::string> text = ReadModelConfigText(dir.path());
  ASSERT_TRUE(text.ok()) << text.status();
  EXPECT_EQ(config->text, *text);
  dir.Write("model.py", "");
  EXPECT_EQ(LoadModelConfig(dir.path())->file, dir.File("model.py"));
  dir.Write("config.yaml", "name: mine\npython: {executable: /opt/bin/python3}\n");
  config = LoadModelConfig(dir.path());
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->loader, "python");
  EXPECT_EQ(config->options.at("executable"), "/opt/bin/python3");
}

TEST_F(ModelConfigTest, ForeignKeysAreForPythonOnly) {
  const TempDir dir;
  const std::string foreign = "model:\n  id: x\nbuild_info: {}\nnum_threads: 16\n";
  dir.Write("model.py", "");
  dir.Write("model.so", "");
  auto config = LoadModelConfig(dir.path(), foreign + "python: {construct: staging}\n");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->options.at("num_threads"), "16");
  EXPECT_EQ(config->options.at("construct"), "staging");
  for (const char* wrong : {"num_threads: 0\n", "num_threads: 1025\n"}) {
    EXPECT_THAT(std::string(LoadModelConfig(dir.path(), wrong).status().message()),
                HasSubstr("config.yaml:1: num_threads: expected 1 to 1024"));
  }
  EXPECT_THAT(std::string(LoadModelConfig(dir.path(), "modell: 1\n").status().message()),
              HasSubstr("did you mean 'model'"));
  EXPECT_THAT(
      std::string(LoadModelConfig(dir.path(), foreign + "loader: native\n").status().message()),
      AllOf(HasSubstr(": model: a key of the loader 'python'"),
            HasSubstr("the loader is 'native'")));
  std::filesystem::remove(dir.File("model.py"));
  EXPECT_THAT(
      std::string(LoadModelConfig(dir.path(), foreign + "loader: native\n").status().message()),
      HasSubstr("unknown key"));
}

}  // namespace
}  // namespace baton::loader
