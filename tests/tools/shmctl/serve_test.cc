// Serving a model from a shell, and ending it (A30).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <string>

#include "absl/strings/match.h"

#include "tests/tools/shmctl/json_reader.h"
#include "tests/tools/shmctl/shmctl_process.h"

namespace baton::testing {
namespace {

using ::testing::HasSubstr;

class ServeTest : public ShmctlTest {};

TEST_F(ServeTest, SaysExactlyThatItIsReady) {
  ShmctlProcess server = Serve({"behaviour: echo"}, "mine");
  EXPECT_EQ(server.Out(), "ready name=mine generation=1\n");
  EXPECT_THAT(server.Err(), HasSubstr("Subprocess: Model created successfully"));
  const ShmctlResult stopped = Run({"stop", "mine"});
  EXPECT_EQ(stopped.exit_code, 0) << stopped.err;
  EXPECT_EQ(stopped.out, "stopped name=mine\n");
  const ShmctlResult ended = server.Wait();
  EXPECT_EQ(ended.exit_code, 0);
  EXPECT_EQ(ended.out, "ready name=mine generation=1\n");
}

// When stop has returned, the name is free at once.
TEST_F(ServeTest, TheNameIsFreeAfterStop) {
  for (int i = 0; i < 3; ++i) {
    ShmctlProcess server = Serve({"behaviour: echo"}, "again");
    const ShmctlResult stopped = Run({"stop", "again"});
    ASSERT_EQ(stopped.exit_code, 0) << stopped.err;
    EXPECT_EQ(Run({"ls"}).out, "");
    EXPECT_EQ(Run({"status", "again"}).exit_code, 3);
  }
}

// A30: a request in flight is answered, then the server ends with 0 and leaves no process.
TEST_F(ServeTest, A30_SignalsDrain) {
  for (const int signal : {SIGTERM, SIGINT}) {
    ShmctlProcess server = Serve({"behaviour: slow", "ms: 1000"});
    const std::string input = temp_.Write("data.json", "[1, 2, 3]");
    ShmctlProcess request = Begin({"infer", "probe", "--input", "data=" + input});
    ASSERT_TRUE(WaitFor([&] {
      const JsonReader status = JsonReader(Run({"status", "probe", "--json"}).out)["servers"][0];
      return status["requestsTaken"].Number() > status["requestsCompleted"].Number();
    }));
    ASSERT_TRUE(server.process().Kill(signal).ok());
    const ShmctlResult answer = request.Wait();
    EXPECT_EQ(answer.exit_code, 0) << answer.err;
    EXPECT_THAT(answer.out, HasSubstr("[1, 2, 3]"));
    EXPECT_EQ(server.Wait().exit_code, 0);
    EXPECT_TRUE(Workers().empty());
  }
}

TEST_F(ServeTest, WhatCannotBeServed) {
  const ShmctlResult nowhere = Run({"serve", temp_.path() + "/nowhere", "--name", "x"});
  EXPECT_EQ(nowhere.exit_code, 1);
  EXPECT_EQ(nowhere.out, "");
  EXPECT_THAT(nowhere.err, HasSubstr("nowhere"));

  const ShmctlResult fails = Run({"serve", ProbeModel(temp_, {"load: fail"}), "--name", "x"});
  EXPECT_EQ(fails.exit_code, 1);
  EXPECT_EQ(fails.out, "");
  EXPECT_THAT(fails.err, HasSubstr("load fails as asked"));

  ShmctlProcess server = Serve({"behaviour: echo"}, "taken");
  const ShmctlResult second =
      Run({"serve", ProbeModel(temp_, {"behaviour: echo"}), "--name", "taken"});
  EXPECT_EQ(second.exit_code, 1);
  EXPECT_EQ(second.out, "");
  EXPECT_THAT(second.err, HasSubstr("taken"));
  EXPECT_EQ(Run({"status", "taken"}).exit_code, 0);
}

TEST_F(ServeTest, ReloadPrintsTheReceipt) {
  ShmctlProcess server = Serve({"behaviour: echo", "weights_bytes: 100000"});
  const ShmctlResult text = Run({"reload", "probe"});
  EXPECT_EQ(text.exit_code, 0) << text.err;
  EXPECT_THAT(text.out, HasSubstr("swapped generation 1 -> 2 (command): verdict freed"));
  const ShmctlResult json = Run({"reload", "probe", "--json"});
  EXPECT_EQ(json.exit_code, 0) << json.err;
  const JsonReader receipt(json.out);
  EXPECT_EQ(receipt["outcome"].Text(), "swapped");
  EXPECT_EQ(receipt["verdict"].Text(), "freed");
  EXPECT_EQ(receipt["generation"].Number(), 2);
  EXPECT_EQ(receipt["successor"].Number(), 3);
  EXPECT_GE(receipt["deviceBytesModel"].Number(), 100000);
  EXPECT_LE(receipt["deviceBytesPeak"].Number(), 1.02 * receipt["deviceBytesModel"].Number());
}

// A reload that could not be done is a failure to scripts, and its receipt says why (A19).
TEST_F(ServeTest, ReloadThatKeepsTheOldWorkerIsAFailure) {
  ShmctlProcess server = Serve({"behaviour: echo"});
  ProbeModel(temp_, {"behaviour: echo", "load: fail"});
  const ShmctlResult kept = Run({"reload", "probe", "--json"});
  EXPECT_EQ(kept.exit_code, 1);
  const JsonReader receipt(kept.out);
  EXPECT_EQ(receipt["outcome"].Text(), "kept-old");
  EXPECT_THAT(receipt["reason"].Text(), HasSubstr("load fails as asked"));
  EXPECT_THAT(kept.err, HasSubstr("load fails as asked"));
  const JsonReader status = JsonReader(Run({"status", "probe", "--json"}).out)["servers"][0];
  EXPECT_EQ(status["state"].Text(), "SERVING");
  EXPECT_EQ(status["generation"].Number(), 1);
}

TEST_F(ServeTest, ReceiptsStayWhenTheServerIsGone) {
  ShmctlProcess server = Serve({"behaviour: echo"});
  EXPECT_EQ(Run({"receipts", "probe"}).exit_code, 0);
  for (int i = 0; i < 2; ++i) ASSERT_EQ(Run({"reload", "probe"}).exit_code, 0);
  ASSERT_EQ(Run({"stop", "probe"}).exit_code, 0);
  const JsonReader all(Run({"receipts", "probe", "--json"}).out);
  EXPECT_EQ(all["server"].Text(), "probe");
  const JsonReader receipts = all["receipts"];
  ASSERT_EQ(receipts.size(), 3u);
  EXPECT_EQ(receipts[0]["generation"].Number(), 1);
  EXPECT_EQ(receipts[1]["generation"].Number(), 2);
  EXPECT_EQ(receipts[2]["outcome"].Text(), "stopped");
  const JsonReader last =
      JsonReader(Run({"receipts", "probe", "--last", "1", "--json"}).out)["receipts"];
  ASSERT_EQ(last.size(), 1u);
  EXPECT_EQ(last[0]["outcome"].Text(), "stopped");
  EXPECT_THAT(Run({"receipts", "probe", "--last", "2"}).out,
              ::testing::StartsWith("swapped generation 2 -> 3"));

  // Half a line, as a supervisor leaves that is killed while it writes.
  std::filesystem::path file(run_directory_ + "/probe/receipts.jsonl");
  std::filesystem::resize_file(file, std::filesystem::file_size(file) - 20);
  const ShmctlResult cut = Run({"receipts", "probe", "--json"});
  EXPECT_EQ(cut.exit_code, 0);
  EXPECT_EQ(JsonReader(cut.out)["receipts"].size(), 2u);
  EXPECT_THAT(cut.err, HasSubstr("receipts.jsonl:3: no receipt"));

  // Numbers that only somebody else can have written.
  {
    std::ofstream more(file, std::ios::app);
    more << "\n{\"states\": [{\"state\": \"STAGING\", \"ns\": \"18446744073709551615\"}, "
            "{\"state\": \"HOLDING\", \"ns\": \"2\"}]}\n";
  }
  const ShmctlResult hostile = Run({"receipts", "probe", "--json"});
  EXPECT_EQ(hostile.exit_code, 0);
  EXPECT_EQ(JsonReader(hostile.out)["receipts"].size(), 2u);
  EXPECT_THAT(hostile.err, HasSubstr("receipts.jsonl:4: its times add up to more"));

  // There, but it cannot be opened or read: no file without receipts.
  std::filesystem::remove(file);
  EXPECT_EQ(Run({"receipts", "probe"}).exit_code, 0);
  std::filesystem::create_symlink(file, file);
  for (const char* verb : {"receipts", "timeline"}) {
    const ShmctlResult unreadable = Run({verb, "probe"});
    EXPECT_EQ(unreadable.exit_code, 1);
    EXPECT_THAT(unreadable.err, HasSubstr("cannot open the receipts of server 'probe'"));
  }
  std::filesystem::remove(file);
  std::filesystem::create_directory(file);
  const ShmctlResult directory = Run({"receipts", "probe"});
  EXPECT_EQ(directory.exit_code, 1);
  EXPECT_THAT(directory.err, HasSubstr("the receipts of server 'probe'"));
}

// A16: nothing that shmctl prints holds a secret's value.
TEST_F(ServeTest, A16_NoSecretIsPrinted) {
  const std::string secret = "hunter2-correct-horse";
  temp_.Write("secrets/TOKEN", secret);
  ShmctlProcess server = Serve({"behaviour: env", "variable: TOKEN"}, "probe",
                               {"--secrets", temp_.path() + "/secrets"});
  const std::string input = temp_.Write("data.json", "[0]");
  const ShmctlResult answer = Run({"infer", "probe", "--input", "data=" + input, "--json"});
  ASSERT_EQ(answer.exit_code, 0) << answer.err;
  EXPECT_TRUE(JsonReader(answer.out)["outputs"][1]["values"].size() == 1);
  EXPECT_EQ(JsonReader(answer.out)["outputs"][0]["values"].size(), secret.size());  // it has it
  ASSERT_EQ(Run({"reload", "probe"}).exit_code, 0);
  std::string printed;
  for (const std::string verb :
       {"status", "signature", "receipts", "timeline", "reload", "bench"}) {
    std::vector<std::string> args = {verb, "probe", "--json"};
    if (verb == "bench") args.insert(args.end(), {"--seconds", "0.05"});
    const ShmctlResult result = Run(args);
    EXPECT_EQ(result.exit_code, 0) << verb << ": " << result.err;
    printed += result.out + result.err;
  }
  ASSERT_EQ(Run({"stop", "probe"}).exit_code, 0);
  const ShmctlResult ended = server.Wait();
  printed += ended.out + ended.err;
  EXPECT_FALSE(absl::StrContains(printed, secret));
}

}  // namespace
}  // namespace baton::testing
