// bench: its counts are the server's counts, whatever happens to the server meanwhile.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <string>

#include "tests/tools/shmctl/json_reader.h"
#include "tests/tools/shmctl/shmctl_process.h"

namespace baton::testing {
namespace {

using ::testing::HasSubstr;

class BenchTest : public ShmctlTest {
 protected:
  JsonReader Status() { return JsonReader(Run({"status", "probe", "--json"}).out)["servers"][0]; }
  double Completed() { return Status()["requestsCompleted"].Number(); }
  // Until the server has completed more than it has now.
  bool WaitForMore() {
    const double before = Completed();
    return WaitFor([&] { return Completed() > before; });
  }
  static double AnsweredByAll(const JsonReader& report) {
    double sum = 0;
    for (size_t i = 0; i < report["generations"].size(); ++i) {
      sum += report["generations"][i]["requests"].Number();
    }
    return sum;
  }
};

TEST_F(BenchTest, CountsWhatTheServerCounts) {
  ShmctlProcess server = Serve({"behaviour: echo"});
  const double before = Completed();
  const ShmctlResult result =
      Run({"bench", "probe", "--seconds", "0.3", "--concurrency", "3", "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const JsonReader report(result.out);
  EXPECT_EQ(report.Keys(),
            (std::set<std::string>{"server", "seconds", "concurrency", "requests", "succeeded",
                                   "failed", "ratePerSecond", "latencyUs", "generations", "errors",
                                   "inputBytes", "outputBytes"}));
  EXPECT_EQ(report["latencyUs"].Keys(),
            (std::set<std::string>{"min", "mean", "p50", "p90", "p99", "p999", "max"}));
  const double succeeded = report["succeeded"].Number();
  EXPECT_GE(succeeded, 3);  // at least one a thread
  EXPECT_EQ(report["requests"].Number(), succeeded);
  EXPECT_EQ(report["failed"].Number(), 0);
  EXPECT_EQ(report["errors"].size(), 0u);
  EXPECT_EQ(AnsweredByAll(report), succeeded);
  EXPECT_EQ(report["concurrency"].Number(), 3);
  EXPECT_EQ(report["inputBytes"].Number(), 1);   // the free dimension is 1
  EXPECT_EQ(report["outputBytes"].Number(), 1);  // an echo
  EXPECT_GE(report["seconds"].Number(), 0.3);
  EXPECT_NEAR(report["ratePerSecond"].Number(), succeeded / report["seconds"].Number(), 1);
  double last = 0;
  for (const char* key : {"min", "p50", "p90", "p99", "p999", "max"}) {
    EXPECT_GE(report["latencyUs"][key].Number(), last) << key;
    last = report["latencyUs"][key].Number();
  }
  EXPECT_GT(report["latencyUs"]["min"].Number(), 0);
  EXPECT_TRUE(WaitFor([&] { return Completed() >= before + succeeded; }));
  EXPECT_EQ(Completed(), before + succeeded);
}

TEST_F(BenchTest, TextSaysTheSame) {
  ShmctlProcess server = Serve({"behaviour: echo"});
  const ShmctlResult result = Run({"bench", "probe", "--seconds", "0.1"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr(" succeeded, 0 failed, "));
  EXPECT_THAT(result.out, HasSubstr("latency us: p50 "));
  EXPECT_THAT(result.out, HasSubstr("p99.9 "));
  EXPECT_THAT(result.out, HasSubstr("generation 1 answered "));
}

// A latency is from the request's making to its answer: at least what the model takes.
TEST_F(BenchTest, LatencyHoldsTheModelsTime) {
  ShmctlProcess server = Serve({"behaviour: slow", "ms: 20"});
  const ShmctlResult result = Run({"bench", "probe", "--seconds", "0.2", "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_GE(JsonReader(result.out)["latencyUs"]["min"].Number(), 20000);
}

TEST_F(BenchTest, GivenInputsAreSent) {
  ShmctlProcess server = Serve({"behaviour: echo"});
  const std::string input = temp_.Write("data.json", "[1, 2, 3, 4, 5]");
  const ShmctlResult result =
      Run({"bench", "probe", "--seconds", "0.05", "--input", "data=" + input, "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(JsonReader(result.out)["inputBytes"].Number(), 5);
  EXPECT_EQ(JsonReader(result.out)["outputBytes"].Number(), 5);
  const std::string wrong = temp_.Write("wrong.json", "[[1]]");
  const ShmctlResult refused = Run({"bench", "probe", "--input", "data=" + wrong, "--json"});
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_EQ(refused.out, "");
  EXPECT_THAT(refused.err, HasSubstr("data: uint8[?]"));
}

// A17 as a user sees it: a reload under load, two generations, no failure. Ended by ^C, with what
// was measured until then.
TEST_F(BenchTest, A17_AReloadUnderLoadFailsNothing) {
  ShmctlProcess server = Serve({"behaviour: echo"});
  ShmctlProcess bench =
      Begin({"bench", "probe", "--seconds", "3600", "--concurrency", "2", "--json"});
  ASSERT_TRUE(WaitForMore());
  const ShmctlResult reload = Run({"reload", "probe"});
  ASSERT_EQ(reload.exit_code, 0) << reload.err;
  ASSERT_TRUE(WaitForMore());
  ASSERT_TRUE(bench.process().Kill(SIGINT).ok());
  const ShmctlResult result = bench.Wait();
  EXPECT_EQ(result.exit_code, 0) << result.err;
  const JsonReader report(result.out);
  EXPECT_EQ(report["failed"].Number(), 0);
  ASSERT_EQ(report["generations"].size(), 2u);
  EXPECT_EQ(report["generations"][0]["generation"].Number(), 1);
  EXPECT_EQ(report["generations"][1]["generation"].Number(), 2);
  EXPECT_EQ(AnsweredByAll(report), report["succeeded"].Number());
  EXPECT_LT(report["seconds"].Number(), 3600);
}

TEST_F(BenchTest, FailuresAreCountedByCode) {
  ShmctlProcess server = Serve({"behaviour: crash"});
  const std::string bad = temp_.Write("bad.json", "[666]");
  const ShmctlResult result =
      Run({"bench", "probe", "--seconds", "0.05", "--input", "data=" + bad, "--json"});
  EXPECT_EQ(result.exit_code, 1);
  const JsonReader report(result.out);
  EXPECT_EQ(report["succeeded"].Number(), 0);
  EXPECT_EQ(report["latencyUs"]["max"].Number(), 0);
  double failed = 0;
  bool aborted = false;
  for (size_t i = 0; i < report["errors"].size(); ++i) {
    failed += report["errors"][i]["count"].Number();
    aborted = aborted || report["errors"][i]["code"].Text() == "ABORTED";
    EXPECT_NE(report["errors"][i]["example"].Text(), "");
  }
  EXPECT_TRUE(aborted) << result.out;
  EXPECT_GE(failed, 1);
  EXPECT_EQ(report["failed"].Number(), failed);
  EXPECT_EQ(report["requests"].Number(), failed);
  EXPECT_THAT(result.err, HasSubstr("requests failed"));
}

TEST_F(BenchTest, AServerThatEnds) {
  ShmctlProcess server = Serve({"behaviour: echo"});
  ShmctlProcess bench = Begin({"bench", "probe", "--seconds", "3600", "--json"});
  ASSERT_TRUE(WaitForMore());
  ASSERT_TRUE(server.process().Kill(SIGKILL).ok());
  const ShmctlResult result = bench.Wait();
  EXPECT_EQ(result.exit_code, 1);
  const JsonReader report(result.out);
  EXPECT_GT(report["succeeded"].Number(), 0);
  EXPECT_THAT(result.err, HasSubstr("ended during the load"));
}

}  // namespace
}  // namespace baton::testing
