// Receipts and plans as people read them.
#include "tools/shmctl/receipt_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "capnp/message.h"

#include "tests/tools/shmctl/test_receipt.h"
#include "tools/shmctl/reload_plan_text.h"

namespace baton::shmctl {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using testing::TestReceipt;

TEST(ReceiptTextTest, SaysHowEachFactIsKnown) {
  TestReceipt receipt("swapped",
                      {{"STAGING", 300'000}, {"HOLDING", 66}, {"CONFIRMING", 30'000'000}});
  auto to = *receipt;
  to.setGapNs(30'000'066'000);
  to.setStrategyReason("does not fit twice: 4096 bytes beside the 4096 in use of 6000");
  to.setVerdict("pinned-by 4711");
  to.setVerdictSource("F_SEAL_WRITE + st_blocks");
  to.setOverridden(true);
  to.setHolders("pid 4711 (tensor-viewer) maps the arena");
  to.setExitKind("signalled");
  to.setExitCode(9);
  to.setWorkerPid(100);
  to.setSuccessorPid(101);
  to.setImportsClosed(2);
  to.setImportsCutOff(1);
  to.setDeviceBytesBefore(4096);
  to.setDeviceBytesAfter(4096);
  to.setDeviceBytesPeak(8192);
  to.setDeviceBytesModel(4096);
  to.setDeviceSource("st_blocks of the arena's memfd");
  to.setRequestsHeld(3);
  auto evidence = to.initEvidence(2);
  evidence[0].setFact("worker-exited");
  evidence[0].setValue("killed by signal 9");
  evidence[0].setSource("pidfd and waitid");
  evidence[1].setFact("device-freed");
  EXPECT_EQ(ReceiptText(receipt.reader(), {.width = 80}),
            R"(swapped generation 1 -> 2 (command): verdict pinned-by 4711, gap 30.0 s,
overridden
  started    2026-05-01 12:00:01.250
  strategy   exclusive: does not fit twice: 4096 bytes beside the 4096 in use of
             6000
  states     STAGING 300 ms, HOLDING 66.0 us, CONFIRMING 30.0 s
  worker     pid 100 was killed by signal 9; successor pid 101
  verdict    pinned-by 4711, known by F_SEAL_WRITE + st_blocks
  overridden the successor was admitted although the memory was not confirmed
             freed
  holders    pid 4711 (tensor-viewer) maps the arena
  device     peak 8192 B with a model of 4096 B; 4096 B before, 4096 B after,
             known by st_blocks of the arena's memfd
  imports    2 closed, 1 cut off
  requests   3 held, 0 expired, 0 failed
  evidence   worker-exited: killed by signal 9, known by pidfd and waitid
             device-freed
)");
}

TEST(ReceiptTextTest, WhatNobodySaidIsNotShown) {
  TestReceipt receipt("kept-old", {{"STAGING", 1}});
  (*receipt).setReason("load fails\nas asked");
  const std::string text = ReceiptText(receipt.reader(), {.width = 80});
  EXPECT_THAT(text, HasSubstr("kept-old generation 1 -> 1 (command): verdict freed\n"
                              "  reason     load fails\n"
                              "             as asked\n"));
  for (const char* absent : {"holders", "evidence", "overridden", "worker", "known by", "gap"}) {
    EXPECT_THAT(text, Not(HasSubstr(absent)));
  }
}

TEST(ReloadPlanTextTest, SaysOnWhatGrounds) {
  capnp::MallocMessageBuilder message;
  auto plan = message.initRoot<ipc::schema::ReloadPlan>();
  plan.setStrategy("exclusive");
  plan.setStrategyReason("does not fit twice: 4096 bytes beside the 4096 in use of 6000");
  plan.setState("SERVING");
  plan.setGeneration(7);
  plan.setFootprintBytes(4096);
  plan.setFootprintSource("generation 7 now: st_blocks of the arena's memfd");
  plan.setDeviceBytesInUse(4096);
  plan.setDeviceCapacityBytes(6000);
  plan.setGapSource("no gap was measured yet");
  plan.setRequestsWaiting(2);
  plan.setFronts(1);
  plan.setChannels(3);
  plan.setImporters(1);
  auto deadlines = plan.initDeadlines(2);
  deadlines[0].setName("load_timeout");
  deadlines[0].setNs(600'000'000'000);
  deadlines[1].setName("drain_timeout");
  deadlines[1].setNs(30'000'000'000);
  EXPECT_EQ(ReloadPlanText("digits", plan, 80),
            R"(would reload  generation 7 of digits, which is SERVING
strategy      exclusive: does not fit twice: 4096 bytes beside the 4096 in use
              of 6000
footprint     4096 B a generation (generation 7 now: st_blocks of the arena's
              memfd)
device        4096 B in use of 6000 B, 1904 B free
expected gap  not known: no gap was measured yet
secrets       not changed
waiting       2 requests
fronts        1, channels 3, importers 1
deadlines     load_timeout 10m00s, drain_timeout 30.0 s
obstacles     none
This was a dry run: nothing was done.
)");

  plan.setExpectedGapNs(2'900'000);
  plan.setGapSource("mean of the last gaps");
  plan.setSecretsChanged(true);
  auto obstacles = plan.initObstacles(2);
  obstacles.set(0, "the server is stopping");
  obstacles.set(1, "config.yaml has no name");
  const std::string text = ReloadPlanText("digits", plan, 80);
  EXPECT_THAT(text, HasSubstr("expected gap  2.90 ms: mean of the last gaps\n"));
  EXPECT_THAT(text, HasSubstr("secrets       changed"));
  EXPECT_THAT(text, HasSubstr("obstacles     the server is stopping\n"
                              "              config.yaml has no name\n"));
}

}  // namespace
}  // namespace baton::shmctl
