#include <signal.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "baton/model_abi.h"
#include "loader/file_reader.h"
#include "loader/native/native_library.h"
#include "tests/loader/allocation_counter.h"
#include "tests/loader/buffer_sink.h"
#include "tests/loader/test_run.h"

namespace baton::loader {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class NativeModelTest : public ::testing::Test {
 protected:
  absl::StatusOr<std::unique_ptr<Model>> Stage(const std::string& options) {
    return StageFromYaml(dir_, "loader: native\nname: probe\nfile: \"" + TestModel("probe_model") +
                                   "\"\nnative: {options: {" + options + "}}\n");
  }

  // Staged and uploaded.
  std::unique_ptr<Model> Start(const std::string& options) {
    auto model = Stage(options);
    EXPECT_TRUE(model.ok()) << model.status();
    if (!model.ok()) return nullptr;
    const absl::Status uploaded = (*model)->Upload(device_.Region((*model)->device_bytes()));
    EXPECT_TRUE(uploaded.ok()) << uploaded;
    return *std::move(model);
  }

  std::string LibraryError(const std::string& file) {
    const auto model = StageFromYaml(dir_, "loader: native\nfile: \"" + file + "\"\n");
    EXPECT_FALSE(model.ok());
    EXPECT_THAT(std::string(model.status().message()), HasSubstr(file));
    return std::string(model.status().message());
  }

  TempDir dir_;
  HeapDevice device_;
};

TEST_F(NativeModelTest, EchoesItsInput) {
  const auto model = Start("behaviour: echo");
  ASSERT_NE(model, nullptr);
  EXPECT_EQ(ToString(model->signature().inputs[0]), "data: uint8[?]");
  BufferSink sink(model->signature(), 1024);
  const TestTensor<uint8_t> input({1, 2, 3});
  const TensorView views[] = {input.view()};
  ASSERT_TRUE(model->Run(views, sink).ok());
  EXPECT_THAT(sink.As<uint8_t>(0), ::testing::ElementsAre(1, 2, 3));
}

// R13
TEST_F(NativeModelTest, R13RunAllocatesNothing) {
  const auto model = Start("behaviour: 'null'");
  ASSERT_NE(model, nullptr);
  BufferSink sink(model->signature(), 1024);
  const TestTensor<uint8_t> input(std::vector<uint8_t>(64));
  const TensorView views[] = {input.view()};
  ASSERT_TRUE(model->Run(views, sink).ok());
  const uint64_t before = AllocationsOfThisThread();
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(model->Run(views, sink).ok());
  EXPECT_EQ(AllocationsOfThisThread(), before);
}

// A12: what the environment holds at construction is what the model sees.
TEST_F(NativeModelTest, A12SecretsAreThereWhenTheModelIsMade) {
  ::setenv("PROBE_SECRET", "one", 1);
  const auto model = Start("behaviour: env, variable: PROBE_SECRET");
  ::unsetenv("PROBE_SECRET");
  ASSERT_NE(model, nullptr);
  BufferSink sink(model->signature(), 1024);
  const TestTensor<uint8_t> input({0});
  const TensorView views[] = {input.view()};
  ASSERT_TRUE(model->Run(views, sink).ok());
  EXPECT_THAT(sink.As<char>(0), ::testing::ElementsAre('o', 'n', 'e'));
  EXPECT_EQ(sink.As<uint8_t>(1)[0], 1);
  EXPECT_EQ(sink.As<int64_t>(2)[0], ::getpid());
}

// A response that is too small says so with the sink's own status, and all
// outputs were asked for.
TEST_F(NativeModelTest, SmallResponseIsResourceExhausted) {
  ::setenv("PROBE_SECRET", "long enough", 1);
  const auto model = Start("behaviour: env, variable: PROBE_SECRET");
  ASSERT_NE(model, nullptr);
  BufferSink sink(model->signature(), 8);
  const TestTensor<uint8_t> input({0});
  const TensorView views[] = {input.view()};
  const absl::Status run = model->Run(views, sink);
  EXPECT_EQ(run.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(run.message(), "too small");
  EXPECT_EQ(sink.bytes(0), 11u);
  EXPECT_EQ(sink.bytes(2), 8u);
}

TEST_F(NativeModelTest, WeightsLiveOnTheDevice) {
  const auto model = Start("behaviour: weights, weights_bytes: 3000001");
  ASSERT_NE(model, nullptr);
  EXPECT_EQ(model->device_bytes(), 3000001u);
  BufferSink sink(model->signature(), 1024);
  const TestTensor<uint8_t> input({0});
  const TensorView views[] = {input.view()};
  ASSERT_TRUE(model->Run(views, sink).ok());
  EXPECT_EQ(sink.As<uint64_t>(0)[0], 3000001u);
}

// Two models of one process keep apart what they are.
TEST_F(NativeModelTest, TwoModelsKeepApart) {
  const auto weights = Start("behaviour: weights, weights_bytes: 5");
  HeapDevice second;
  const auto affine = StageFromYaml(dir_, "loader: native\nfile: \"" +
                                              std::string(std::getenv("BATON_BINARY_DIR")) +
                                              "/models/affine/model.so\"\n");
  ASSERT_TRUE(affine.ok()) << affine.status();
  EXPECT_EQ(ToString((*affine)->signature().outputs[1]), "shift: float32[]");
  EXPECT_EQ(ToString(weights->signature().outputs[0]), "sum: uint64[1]");
  const auto again = Start("behaviour: echo");
  EXPECT_EQ(ToString(again->signature().outputs[0]), "data: uint8[?]");
}

// The template under tools/examples, as its model directory is built.
TEST_F(NativeModelTest, TemplateShowsItsSecretInItsResults) {
  const auto config =
      LoadModelConfig(std::string(std::getenv("BATON_BINARY_DIR")) + "/models/affine");
  ASSERT_TRUE(config.ok()) << config.status();
  ::setenv("AFFINE_SHIFT", "not a number, and secret", 1);
  const absl::Status bad = StageModel(*config).status();
  EXPECT_EQ(bad.message(), "model 'affine': secret AFFINE_SHIFT is not a number");
  ::setenv("AFFINE_SHIFT", "0.5", 1);
  const auto model = StageModel(*config);
  ::unsetenv("AFFINE_SHIFT");
  ASSERT_TRUE(model.ok()) << model.status();
  ASSERT_TRUE((*model)->Upload(device_.Region((*model)->device_bytes())).ok());
  BufferSink sink((*model)->signature(), 1024);
  const TestTensor<float> input({0, 2});
  const TensorView views[] = {input.view()};
  ASSERT_TRUE((*model)->Run(views, sink).ok());
  EXPECT_THAT(sink.As<float>(0), ::testing::ElementsAre(0.5f, 5.5f));
  EXPECT_THAT(sink.As<float>(1), ::testing::ElementsAre(0.5f));
}

TEST_F(NativeModelTest, ExceptionsBecomeStatuses) {
  const absl::Status load = Stage("load: fail").status();
  EXPECT_EQ(load.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(load.message()), HasSubstr("model 'probe': load fails as asked"));
  const absl::Status option = Stage("behaviour: dance").status();
  EXPECT_EQ(option.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(option.message()), HasSubstr("'dance'"));
  auto model = Stage("upload: fail");
  ASSERT_TRUE(model.ok()) << model.status();
  const absl::Status upload = (*model)->Upload(device_.Region(128));
  EXPECT_THAT(std::string(upload.message()), HasSubstr("upload fails as asked"));
  EXPECT_FALSE(Stage("load: dance").ok());
}

// A23: an exception in cleanup() blocks nothing, and it ran once.
TEST_F(NativeModelTest, A23CleanupThatThrowsIsSurvived) {
  const auto model = Start("cleanup: throw, cleanup_file: \"" + dir_.File("cleaned") + "\"");
  ASSERT_NE(model, nullptr);
  model->Cleanup();
  EXPECT_EQ(*ReadWholeFile(dir_.File("cleaned"), 100), std::to_string(::getpid()) + "\n");
}

TEST_F(NativeModelTest, FaultsCanDependOnTheEnvironment) {
  ::setenv("PROBE_MODE", "good", 1);
  EXPECT_TRUE(Stage("load: fail, only_if: PROBE_MODE=bad").ok());
  ::setenv("PROBE_MODE", "bad", 1);
  EXPECT_FALSE(Stage("load: fail, only_if: PROBE_MODE=bad").ok());
}

// The probe's crash is a real one, also under sanitizers: tests of the runtime rest on it.
TEST_F(NativeModelTest, ProbeDiesOfItsTrigger) {
  const auto model = Start("behaviour: crash");
  ASSERT_NE(model, nullptr);
  BufferSink sink(model->signature(), 1024);
  const TestTensor<int32_t> fine({665});
  const TensorView fine_views[] = {fine.view()};
  ASSERT_TRUE(model->Run(fine_views, sink).ok());
  EXPECT_EQ(sink.As<int32_t>(0)[0], 665);
  const TestTensor<int32_t> trigger({666});
  const TensorView views[] = {trigger.view()};
  EXPECT_EXIT((void)model->Run(views, sink), ::testing::KilledBySignal(SIGSEGV), "");
}

TEST_F(NativeModelTest, BadLibrariesNameTheFileAndWhatToDo) {
  EXPECT_THAT(LibraryError(dir_.Write("text.so", "not a library")),
              HasSubstr("cannot be opened as a shared library"));
  EXPECT_THAT(LibraryError(TestModel("no_symbol")),
              AllOf(HasSubstr("baton_model_api"), HasSubstr("BATON_REGISTER_MODEL")));
  EXPECT_THAT(LibraryError(TestModel("undefined_symbol")), HasSubstr("baton_test_nobody_has_this"));
  EXPECT_THAT(LibraryError(TestModel("other_version")),
              AllOf(HasSubstr("made for model ABI 2.0"), HasSubstr("this Baton has 1.1")));
  EXPECT_EQ(OpenNativeLibrary(dir_.File("none.so")).status().code(), absl::StatusCode::kNotFound);
}

TEST_F(NativeModelTest, SignatureOfTheConfigHasToAgree) {
  const auto stage = [&](const std::string& name) {
    return StageFromYaml(dir_, "loader: native\nfile: \"" + TestModel("probe_model") +
                                   "\"\nnative: {options: {behaviour: echo}}\nsignature:\n"
                                   "  inputs: [{name: data, dtype: uint8, shape: ['?']}]\n"
                                   "  outputs: [{name: " +
                                   name + ", dtype: uint8, shape: [-1]}]\n");
  };
  EXPECT_TRUE(stage("data").ok()) << stage("data").status();
  EXPECT_THAT(std::string(stage("other").status().message()),
              AllOf(HasSubstr("other: uint8[?]"), HasSubstr("data: uint8[?]")));
}

TEST_F(NativeModelTest, CallsOutOfOrderAreRefused) {
  auto model = Stage("behaviour: weights, weights_bytes: 100");
  ASSERT_TRUE(model.ok()) << model.status();
  BufferSink sink((*model)->signature(), 1024);
  const TestTensor<uint8_t> input({0});
  const TensorView views[] = {input.view()};
  EXPECT_EQ((*model)->Run(views, sink).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_FALSE((*model)->Upload(device_.Region(99)).ok());
  EXPECT_FALSE((*model)->Upload({}).ok());
  ASSERT_TRUE((*model)->Upload(device_.Region(100)).ok());
  (*model)->Cleanup();
  EXPECT_EQ((*model)->Run(views, sink).code(), absl::StatusCode::kFailedPrecondition);
}

// ---- Methods and streams -----------------------------------------------------------------------

// Items that are there before they are asked for; after them, an end or an error.
class FixedItems final : public ItemSource {
 public:
  FixedItems(std::vector<int64_t> values, absl::Status end)
      : values_(std::move(values)), end_(std::move(end)) {}
  absl::StatusOr<std::optional<std::span<const TensorView>>> Next() override {
    if (next_ == values_.size()) {
      if (!end_.ok()) return end_;
      return std::optional<std::span<const TensorView>>();
    }
    view_ = {.name = "x",
             .dtype = DType::kInt64,
             .shape = {},
             .bytes = std::as_bytes(std::span(values_).subspan(next_++, 1))};
    return std::optional(std::span<const TensorView>(&view_, 1));
  }

 private:
  const std::vector<int64_t> values_;
  const absl::Status end_;
  size_t next_ = 0;
  TensorView view_;
};

class NativeStreamTest : public NativeModelTest {
 protected:
  NativeStreamTest() {
    auto model =
        StageFromYaml(dir_, "loader: native\nname: streams\nfile: \"" + TestModel("stream_model") +
                                "\"\nnative: {options: {max_streams: '3'}}\n");
    EXPECT_TRUE(model.ok()) << model.status();
    model_ = *std::move(model);
    EXPECT_TRUE(model_->Upload(device_.Region(0)).ok());
  }
  // count, with optional inputs left out.
  std::unique_ptr<ModelStream> Count(const TestTensor<int64_t>& n,
                                     const TestTensor<int64_t>* fail) {
    std::vector<TensorView> inputs(3);
    inputs[0] = n.view();
    if (fail != nullptr) inputs[1] = fail->view();
    auto stream = model_->StartStream(1, call_, inputs, none_);
    EXPECT_TRUE(stream.ok()) << stream.status();
    return *std::move(stream);
  }
  int64_t Cancelled() {
    BufferSink sink(model_->methods()[0].signature, 64);
    EXPECT_TRUE(model_->RunMethod(0, call_, {}, sink).ok());
    return sink.As<int64_t>(0)[0];
  }

  std::unique_ptr<Model> model_;
  CallContext call_;
  FixedItems none_{{}, absl::OkStatus()};
};

TEST_F(NativeStreamTest, TellsItsMethods) {
  const std::span<const Method> methods = model_->methods();
  ASSERT_EQ(methods.size(), 3u);
  EXPECT_EQ(methods[0].name, "state");
  EXPECT_FALSE(methods[0].streams());
  EXPECT_EQ(methods[0].signature, model_->signature());
  EXPECT_EQ(methods[1].doc, "Counts.");
  EXPECT_TRUE(methods[1].streams_outputs && !methods[1].streams_inputs);
  EXPECT_EQ(methods[1].signature.inputs[1], (TensorSpec{.name = "fail",
                                                        .dtype = DType::kInt64,
                                                        .shape = {},
                                                        .content = Content::kScalar,
                                                        .optional = true,
                                                        .type_text = "int",
                                                        .default_text = "-1"}));
  EXPECT_TRUE(methods[2].streams_outputs && methods[2].streams_inputs);
  EXPECT_TRUE(methods[2].signature.inputs[0].streamed);
  EXPECT_EQ(model_->max_streams(), 3u);
  EXPECT_TRUE(Start("behaviour: echo")->methods().empty());
}

TEST_F(NativeStreamTest, GivesItsResponsesThenItsEnd) {
  const TestTensor<int64_t> n({3}, {});
  const auto stream = Count(n, nullptr);
  BufferSink sink(model_->methods()[1].signature, 64);
  for (int64_t i = 0; i < 3; ++i) {
    BufferSink small(model_->methods()[1].signature, 4);
    EXPECT_TRUE(absl::IsResourceExhausted(stream->Next(small).status()));
    EXPECT_TRUE(*stream->Next(sink));  // the same response
    EXPECT_EQ(sink.As<int64_t>(0)[0], i);
  }
  EXPECT_FALSE(*stream->Next(sink));
}

TEST_F(NativeStreamTest, AnExceptionIsItsEnd) {
  const TestTensor<int64_t> n({3}, {});
  const TestTensor<int64_t> fail({1}, {});
  const auto stream = Count(n, &fail);
  BufferSink sink(model_->methods()[1].signature, 64);
  EXPECT_TRUE(*stream->Next(sink));
  EXPECT_THAT(std::string(stream->Next(sink).status().message()),
              AllOf(HasSubstr("streams"), HasSubstr("no number 1")));
}

TEST_F(NativeStreamTest, KnowsWhenItIsDestroyedBeforeItsEnd) {
  const TestTensor<int64_t> n({1}, {});
  BufferSink sink(model_->methods()[1].signature, 64);
  {
    const auto ended = Count(n, nullptr);
    EXPECT_TRUE(*ended->Next(sink));
    EXPECT_FALSE(*ended->Next(sink));
    const auto cancelled = Count(n, nullptr);
    EXPECT_TRUE(*cancelled->Next(sink));
    EXPECT_EQ(Cancelled(), 0);
  }
  EXPECT_EQ(Cancelled(), 1);
}

TEST_F(NativeStreamTest, TakesItems) {
  FixedItems items({1, 2, 3}, absl::OkStatus());
  const auto stream = *model_->StartStream(2, call_, {}, items);
  BufferSink sink(model_->methods()[2].signature, 64);
  for (const int64_t sum : {1, 3, 6}) {
    EXPECT_TRUE(*stream->Next(sink));
    EXPECT_EQ(sink.As<int64_t>(0)[0], sum);
  }
  EXPECT_FALSE(*stream->Next(sink));
}

TEST_F(NativeStreamTest, ACallersEndReachesTheModelAndComesBack) {
  FixedItems items({1}, absl::CancelledError("the caller has gone"));
  const auto stream = *model_->StartStream(2, call_, {}, items);
  BufferSink sink(model_->methods()[2].signature, 64);
  EXPECT_TRUE(*stream->Next(sink));
  EXPECT_TRUE(absl::IsCancelled(stream->Next(sink).status()));
}

TEST_F(NativeStreamTest, RefusesWhatIsNotThere) {
  BufferSink sink(model_->methods()[0].signature, 64);
  EXPECT_TRUE(absl::IsFailedPrecondition(model_->RunMethod(3, call_, {}, sink)));
  EXPECT_TRUE(absl::IsFailedPrecondition(model_->StartStream(0, call_, {}, none_).status()));
  EXPECT_TRUE(absl::IsFailedPrecondition(model_->StartStream(3, call_, {}, none_).status()));
}

// A library that was built before there were methods.
TEST(ModelApiTest, AnOlderTableHasNoMethods) {
  BatonModelApi api = {};
  api.struct_size = sizeof(api);
  EXPECT_FALSE(HasMethods(api));
  api.methods = [](void*, const BatonMethod**, uint32_t*, BatonError*) { return 0; };
  api.max_streams = [](void*) { return 1u; };
  api.run_method = [](void*, uint32_t, const BatonTensor*, uint32_t, const BatonOutputs*,
                      BatonError*) { return 0; };
  api.start_stream = [](void*, uint32_t, const BatonTensor*, uint32_t, const BatonItems*, void**,
                        BatonError*) { return 0; };
  api.next = [](void*, const BatonOutputs*, int32_t*, BatonError*) { return 0; };
  api.end_stream = [](void*) {};
  EXPECT_TRUE(HasMethods(api));
  api.struct_size = offsetof(BatonModelApi, methods);
  EXPECT_FALSE(HasMethods(api));
}

TEST(ModelApiTest, MethodsAreChecked) {
  BatonMethod method = {};
  const auto error = [&](uint32_t count) {
    return std::string(ReadMethods("lib.so", &method, count).status().message());
  };
  EXPECT_EQ(error(0), "");
  EXPECT_THAT(error(1), HasSubstr("not there"));
  method.struct_size = sizeof(method);
  EXPECT_EQ(error(1), "");
  EXPECT_THAT(error(257), HasSubstr("more than 256"));
  method.input_count = 1;
  EXPECT_THAT(error(1), HasSubstr("not there"));
  BatonParameter input = {};
  input.struct_size = sizeof(input);
  input.spec = {.name = "x", .shape = nullptr, .rank = 0, .dtype = 9};
  method.inputs = &input;
  EXPECT_EQ(error(1), "");
  input.content = 99;
  EXPECT_THAT(error(1), HasSubstr("content 99"));
  input.content = 0;
  input.spec.dtype = 99;
  EXPECT_THAT(error(1), HasSubstr("dtype 99"));
}

TEST(ModelApiTest, TablesThatDoNotFitAreRefused) {
  BatonModelApi api = {};
  const auto error = [&] { return std::string(CheckModelApi("lib.so", &api).message()); };
  EXPECT_THAT(std::string(CheckModelApi("lib.so", nullptr).message()), HasSubstr("refuses"));
  EXPECT_THAT(error(), HasSubstr("model ABI 0.0"));
  api.abi_version = BATON_MODEL_ABI_VERSION + 7;  // a later minor version is fine
  EXPECT_THAT(error(), HasSubstr("has 0 bytes"));
  api.struct_size = sizeof(api);
  EXPECT_THAT(error(), HasSubstr("empty entry"));
}

TEST(ModelApiTest, SignaturesAreChecked) {
  const int64_t shape[] = {-1, 3};
  const int64_t bad_shape[] = {-2};
  BatonTensorSpec output = {.name = "y", .shape = shape, .rank = 2, .dtype = 12};
  BatonSignature signature = {};
  const auto error = [&] {
    return std::string(ReadSignature("lib.so", &signature).status().message());
  };
  EXPECT_THAT(error(), HasSubstr("no signature"));
  signature.struct_size = sizeof(signature);
  EXPECT_THAT(error(), HasSubstr("no output"));
  signature.output_count = 1;
  EXPECT_THAT(error(), HasSubstr("is not there"));
  signature.outputs = &output;
  EXPECT_EQ(error(), "");
  output.dtype = 14;
  EXPECT_THAT(error(), AllOf(HasSubstr("output 0"), HasSubstr("dtype 14")));
  output.dtype = 256 + 12;  // not cut down to 8 bits
  EXPECT_THAT(error(), HasSubstr("dtype 268"));
  output = {.name = "y", .shape = bad_shape, .rank = 1, .dtype = 12};
  EXPECT_THAT(error(), HasSubstr("dimension of -2"));
  output = {.name = "y", .shape = shape, .rank = 9, .dtype = 12};
  EXPECT_THAT(error(), HasSubstr("8 dimensions"));
  output = {.name = "", .shape = shape, .rank = 1, .dtype = 12};
  EXPECT_THAT(error(), HasSubstr("needs a name"));
  signature.output_count = 65;
  EXPECT_THAT(error(), HasSubstr("more than 64"));
}

}  // namespace
}  // namespace baton::loader
