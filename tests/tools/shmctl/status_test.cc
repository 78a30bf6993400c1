// ls, status and signature: what they say, and that it follows the worker.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "tests/tools/shmctl/json_reader.h"
#include "tests/tools/shmctl/shmctl_process.h"

namespace baton::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class StatusTest : public ShmctlTest {
 protected:
  JsonReader Status(const std::string& name = "probe") {
    return JsonReader(Run({"status", name, "--json"}).out)["servers"][0];
  }
};

TEST_F(StatusTest, KeysAreStable) {
  ShmctlProcess server = Serve({"behaviour: echo"});
  EXPECT_EQ(Status().Keys(), (std::set<std::string>{"server",         "directory",
                                                    "loader",         "device",
                                                    "state",          "reason",
                                                    "generation",     "live",
                                                    "ready",          "started",
                                                    "supervisorPid",  "workerPid",
                                                    "workerRestarts", "reloads",
                                                    "channels",       "fronts",
                                                    "requestsTaken",  "requestsCompleted",
                                                    "deviceBytes",    "deviceCapacityBytes",
                                                    "expectedGapNs",  "uptimeNs",
                                                    "lastVerdict",    "secretsReload",
                                                    "strategy",       "lastGapNs",
                                                    "gapsMeasured",   "unconfirmedPolicy",
                                                    "failuresInARow", "retryInNs",
                                                    "modelWatch",     "helperPid",
                                                    "batches",        "batchRows"}));
  const JsonReader list(Run({"ls", "--json"}).out);
  ASSERT_EQ(list["servers"].size(), 1u);
  EXPECT_EQ(list["servers"][0].Keys(),
            (std::set<std::string>{"name", "pid", "folder", "controlSocket"}));
  EXPECT_EQ(list["servers"][0]["pid"].Number(), server.process().pid());
  EXPECT_EQ(list["servers"][0]["folder"].Text(), run_directory_ + "/probe");
}

TEST_F(StatusTest, TextSaysTheSame) {
  ShmctlProcess server = Serve({"behaviour: echo", "weights_bytes: 4096"});
  const std::string one = Run({"status", "probe"}).out;
  EXPECT_THAT(one, HasSubstr("state       SERVING\n"));
  EXPECT_THAT(one, HasSubstr("generation  1\n"));
  EXPECT_THAT(one, HasSubstr("ready       yes\n"));
  EXPECT_THAT(one, HasSubstr("worker      pid " + std::to_string(Workers().at(0))));
  EXPECT_THAT(one, HasSubstr("strategy    exclusive, when memory is not confirmed freed: hold\n"));
  EXPECT_THAT(one, HasSubstr("watch       secrets no, code and weights no\n"));
  EXPECT_THAT(one, HasSubstr("gap         none measured yet\n"));
  EXPECT_THAT(one, HasSubstr("failures    0 in a row\n"));
  EXPECT_THAT(Run({"status"}).out, HasSubstr("\nprobe                SERVING"));
  EXPECT_THAT(Run({"ls"}).out, StartsWith("probe "));
}

TEST_F(StatusTest, TextSaysHowReloadsGo) {
  ShmctlProcess server = Serve({"behaviour: echo"}, "probe", {},
                               "reload: {strategy: auto, on_unconfirmed: override, watch: true}\n");
  ASSERT_EQ(Run({"reload", "probe"}).exit_code, 0);
  const std::string one = Run({"status", "probe"}).out;
  EXPECT_THAT(one, HasSubstr("strategy    auto, when memory is not confirmed freed: override\n"));
  EXPECT_THAT(one, HasSubstr("code and weights yes\n"));
  EXPECT_THAT(one,
              ::testing::ContainsRegex("gap         expected [^,]+s, last [^,]+s, 1 measured"));
}

// How often it failed, and when the next try is. Without the model's library no try succeeds, that
// with the last good configuration neither: it says so for as long as anybody looks.
TEST_F(StatusTest, TextSaysWhenTheNextTryIs) {
  const std::string library = temp_.path() + "/probe.so";
  const char* const build = std::getenv("BATON_BINARY_DIR");
  ASSERT_NE(build, nullptr);
  std::filesystem::create_symlink(std::string(build) + "/tests/models/probe_model.so", library);
  temp_.Write("model/config.yaml", "name: probe\nloader: native\nfile: " + library +
                                       "\nnative:\n  options:\n    behaviour: echo\n");
  ShmctlProcess server = Begin({"serve", temp_.path() + "/model", "--name", "probe"});
  ASSERT_TRUE(WaitUntilReady(server)) << server.Err();
  std::filesystem::remove(library);
  ASSERT_EQ(::kill(Workers().at(0), SIGKILL), 0);
  std::string one;
  EXPECT_TRUE(WaitFor([&] {
    one = Run({"status", "probe"}).out;
    return one.find("in a row, next try in ") != std::string::npos;
  })) << one;
}

TEST_F(StatusTest, AllServersAreShownByName) {
  ShmctlProcess second = Serve({"behaviour: echo"}, "b");
  ShmctlProcess first = Serve({"behaviour: echo"}, "a");
  const JsonReader all = JsonReader(Run({"status", "--json"}).out)["servers"];
  ASSERT_EQ(all.size(), 2u);
  EXPECT_EQ(all[0]["server"].Text(), "a");
  EXPECT_EQ(all[1]["server"].Text(), "b");
  for (const std::string verb : {"status", "infer", "signature", "reload", "stop", "bench"}) {
    const ShmctlResult unknown = Run({verb, "c"});
    EXPECT_EQ(unknown.exit_code, 3) << verb;
    EXPECT_THAT(unknown.err, HasSubstr("these do: a, b")) << verb;
  }
}

// A29: liveness, readiness and startup follow the worker that is there now. The model's folder says
// whether the next worker comes up, so that every state lasts until the test has seen it.
TEST_F(StatusTest, A29_FollowsTheWorker) {
  const std::string model = ProbeModel(temp_, {"behaviour: echo", "load: hang"});
  ShmctlProcess server = Begin({"serve", model, "--name", "probe"});
  ASSERT_TRUE(WaitFor([&] { return !Workers().empty(); }));
  JsonReader status = Status();  // waits until the server listens
  EXPECT_TRUE(status["live"].True());
  EXPECT_FALSE(status["ready"].True());
  EXPECT_FALSE(status["started"].True());
  const ShmctlResult early = Run({"signature", "probe"});
  EXPECT_EQ(early.exit_code, 1);
  EXPECT_THAT(early.err, HasSubstr("has not loaded its model yet"));
  EXPECT_EQ(server.Out(), "");
  ASSERT_EQ(Run({"stop", "probe"}).exit_code, 0);

  server = Serve({"behaviour: echo"});
  status = Status();
  EXPECT_TRUE(status["live"].True());
  EXPECT_TRUE(status["ready"].True());
  EXPECT_TRUE(status["started"].True());
  ASSERT_THAT(Workers(), ElementsAre(static_cast<pid_t>(status["workerPid"].Number())));

  // Its successor does not come up: alive and started, but not ready.
  ProbeModel(temp_, {"behaviour: echo", "load: hang"});
  ASSERT_EQ(::kill(Workers().at(0), SIGKILL), 0);
  ASSERT_TRUE(WaitFor([&] { return !Status()["ready"].True(); }));
  status = Status();
  EXPECT_TRUE(status["live"].True());
  EXPECT_TRUE(status["started"].True());

  // And one that does, once the one that hangs is out of the way.
  ProbeModel(temp_, {"behaviour: echo"});
  for (const pid_t worker : Workers()) ::kill(worker, SIGKILL);
  ASSERT_TRUE(WaitFor([&] { return Status()["ready"].True(); }));
  status = Status();
  EXPECT_GT(status["generation"].Number(), 1);
  EXPECT_GE(status["workerRestarts"].Number(), 1);
}

// A server that does not answer costs a bounded wait, and does not hide the others.
TEST_F(StatusTest, AServerThatIsStuck) {
  ShmctlProcess stuck = Serve({"behaviour: echo"}, "stuck");
  ShmctlProcess well = Serve({"behaviour: echo"}, "well");
  ASSERT_TRUE(stuck.process().Kill(SIGSTOP).ok());
  const ShmctlResult one = Run({"status", "stuck", "--timeout", "0.1", "--json"});
  EXPECT_EQ(one.exit_code, 1);
  EXPECT_EQ(one.out, "");
  EXPECT_THAT(one.err, HasSubstr("server 'stuck'"));
  for (const std::string verb : {"signature", "reload", "stop"}) {
    EXPECT_EQ(Run({verb, "stuck", "--timeout", "0.1"}).exit_code, 1) << verb;
  }
  EXPECT_EQ(Run({"ls"}).exit_code, 0);
  const ShmctlResult all = Run({"status", "--json", "--timeout", "5"});
  EXPECT_EQ(all.exit_code, 1);
  const JsonReader servers = JsonReader(all.out)["servers"];
  ASSERT_EQ(servers.size(), 2u);
  EXPECT_EQ(servers[0]["state"].Text(), "UNREACHABLE");
  EXPECT_FALSE(servers[0]["live"].True());
  EXPECT_EQ(servers[0]["supervisorPid"].Number(), stuck.process().pid());
  EXPECT_EQ(servers[1]["state"].Text(), "SERVING");
  ASSERT_TRUE(stuck.process().Kill(SIGCONT).ok());
  EXPECT_EQ(Run({"status", "stuck"}).exit_code, 0);
}

TEST_F(StatusTest, Signature) {
  ShmctlProcess server = Serve({"behaviour: env", "variable: HOME"});
  EXPECT_EQ(Run({"signature", "probe"}).out,
            "inputs\n  data: uint8[?]\noutputs\n  value: uint8[?]\n  present: bool[1]\n"
            "  pid: int64[1]\n");
  EXPECT_EQ(Run({"signature", "probe", "--json"}).out,
            R"({"server":"probe","generation":"1",)"
            R"("inputs":[{"name":"data","dtype":"uint8","shape":[-1]}],)"
            R"("outputs":[{"name":"value","dtype":"uint8","shape":[-1]},)"
            R"({"name":"present","dtype":"bool","shape":[1]},)"
            R"({"name":"pid","dtype":"int64","shape":[1]}],)"
            R"("methods":[{"name":"predict","kind":"unary","doc":"",)"
            R"("inputs":[{"name":"data","dtype":"uint8","shape":[-1],"content":"tensor",)"
            R"("optional":false,"streamed":false,"type":"","default":""}],)"
            R"("outputs":[{"name":"value","dtype":"uint8","shape":[-1],"content":"tensor",)"
            R"("optional":false,"streamed":false,"type":"","default":""},)"
            R"({"name":"present","dtype":"bool","shape":[1],"content":"tensor",)"
            R"("optional":false,"streamed":false,"type":"","default":""},)"
            R"({"name":"pid","dtype":"int64","shape":[1],"content":"tensor",)"
            R"("optional":false,"streamed":false,"type":"","default":""}]}]})"
            "\n");
}

}  // namespace
}  // namespace baton::testing
