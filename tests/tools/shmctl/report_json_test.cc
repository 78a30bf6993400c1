#include "tools/shmctl/report_json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <string>

#include "capnp/message.h"

#include "runtime/supervisor/receipts.h"

namespace baton::shmctl {
namespace {

namespace schema = ipc::schema;
using ::testing::HasSubstr;

// Scripts find every key, whether there was something to say or not.
TEST(ReportJsonTest, NoKeyIsEverMissing) {
  capnp::MallocMessageBuilder message;
  auto report = message.initRoot<schema::ReceiptsReport>();
  report.initReceipts(1);
  EXPECT_EQ(ReportJson(report),
            R"({"server":"","receipts":[{"generation":"0","successor":"0","trigger":"",)"
            R"("strategy":"","outcome":"","reason":"","verdict":"","verdictSource":"",)"
            R"("startedUnixMs":"0","states":[],"gapNs":"0","exitKind":"","exitCode":0,)"
            R"("importsClosed":0,"importsCutOff":0,"deviceBytesBefore":"0",)"
            R"("deviceBytesAfter":"0","deviceBytesPeak":"0","deviceBytesModel":"0",)"
            R"("deviceSource":"","requestsHeld":"0","requestsExpired":"0",)"
            R"("requestsFailed":"0","workerPid":0,"evidence":[],"overridden":false,)"
            R"("strategyReason":"","successorPid":0,"holders":""}]})");
  capnp::MallocMessageBuilder known;
  known.initRoot<schema::Receipt>().initEvidence(1);
  EXPECT_THAT(ReportJson(known.getRoot<schema::Receipt>()),
              HasSubstr(R"("evidence":[{"fact":"","value":"","source":""}])"));
  capnp::MallocMessageBuilder status;
  status.initRoot<schema::StatusReport>().initServers(1);
  EXPECT_EQ(ReportJson(status.getRoot<schema::StatusReport>()),
            R"({"servers":[{"server":"","directory":"","loader":"","device":"","state":"",)"
            R"("reason":"","generation":"0","live":false,"ready":false,"started":false,)"
            R"("supervisorPid":0,"workerPid":0,"workerRestarts":"0","reloads":"0","channels":0,)"
            R"("fronts":0,"requestsTaken":"0","requestsCompleted":"0","deviceBytes":"0",)"
            R"("deviceCapacityBytes":"0","expectedGapNs":"0","uptimeNs":"0","lastVerdict":"",)"
            R"("secretsReload":false,"strategy":"","lastGapNs":"0","gapsMeasured":"0",)"
            R"("unconfirmedPolicy":"","failuresInARow":"0","retryInNs":"0",)"
            R"("modelWatch":false,"helperPid":0,"batches":"0","batchRows":"0"}]})");
  capnp::MallocMessageBuilder bench;
  EXPECT_EQ(ReportJson(bench.initRoot<schema::BenchReport>()),
            R"({"server":"","seconds":0,"concurrency":0,"requests":"0","succeeded":"0",)"
            R"("failed":"0","ratePerSecond":0,"latencyUs":{"min":0,"mean":0,"p50":0,"p90":0,)"
            R"("p99":0,"p999":0,"max":0},"generations":[],"errors":[],"inputBytes":"0",)"
            R"("outputBytes":"0"})");
}

TEST(ReportJsonTest, ShapesAreNumbersAndValuesAreArrays) {
  capnp::MallocMessageBuilder message;
  auto report = message.initRoot<schema::InferReport>();
  auto outputs = report.initOutputs(5);
  auto shape = outputs[0].initShape(2);
  shape.set(0, -1);
  shape.set(1, 64);
  auto numbers = outputs[0].initValues().initNumbers(2);
  numbers.set(0, 0.5);
  numbers.set(1, std::numeric_limits<double>::quiet_NaN());
  outputs[1].initValues().initFlags(1).set(0, true);
  outputs[2].initValues().initIntegers(1).set(0, std::numeric_limits<int64_t>::min());
  outputs[3].initValues().initNaturals(1).set(0, std::numeric_limits<uint64_t>::max());
  const std::string json = ReportJson(report);
  EXPECT_NE(json.find(R"("shape":[-1,64],"values":[0.5,"NaN"])"), std::string::npos) << json;
  EXPECT_NE(json.find(R"("values":[true])"), std::string::npos) << json;
  EXPECT_NE(json.find(R"("values":["-9223372036854775808"])"), std::string::npos) << json;
  EXPECT_NE(json.find(R"("values":["18446744073709551615"])"), std::string::npos) << json;
  EXPECT_NE(json.find(R"("values":[],"file":"","omitted":false}]})"), std::string::npos) << json;
}

TEST(ReportJsonTest, TextIsEscaped) {
  capnp::MallocMessageBuilder message;
  auto list = message.initRoot<schema::ServerList>();
  list.initServers(1)[0].setFolder("a \"b\"\n");
  EXPECT_NE(ReportJson(list).find(R"("folder":"a \"b\"\n")"), std::string::npos);
}

// What the supervisor wrote is what shmctl reads.
TEST(ReportJsonTest, ReceiptsComeBack) {
  runtime::ReceiptDraft draft(3, "secrets", 1000);
  draft.Enter(ipc::ServerState::kStaging, 1000);
  draft.Close(1500);
  draft.outcome = "swapped";
  draft.verdict = "freed";
  draft.successor = 4;
  capnp::MallocMessageBuilder written;
  draft.WriteTo(written.initRoot<schema::Receipt>());
  written.getRoot<schema::Receipt>().initEvidence(1)[0].setFact("device-freed");
  const std::string line = runtime::ReceiptJson(written.getRoot<schema::Receipt>().asReader());

  capnp::MallocMessageBuilder read;
  auto receipt = read.initRoot<schema::Receipt>();
  const absl::Status status = ParseReceiptJson(line, receipt);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(receipt.getGeneration(), 3u);
  EXPECT_EQ(receipt.getSuccessor(), 4u);
  EXPECT_EQ(receipt.getStates().size(), 1u);
  EXPECT_EQ(receipt.getStates()[0].getNs(), 500u);
  EXPECT_EQ(receipt.getEvidence().size(), 1u);
  // All that was written, and the keys that nobody set beside it.
  EXPECT_EQ(ReportJson(receipt), ReportJson(written.getRoot<schema::Receipt>()));

  for (const std::string& bad : {line.substr(0, line.size() / 2), std::string(), std::string("[]"),
                                 std::string(R"({"generation": "many"})")}) {
    capnp::MallocMessageBuilder other;
    EXPECT_TRUE(absl::IsInvalidArgument(ParseReceiptJson(bad, other.initRoot<schema::Receipt>())))
        << bad;
  }
}

}  // namespace
}  // namespace baton::shmctl
