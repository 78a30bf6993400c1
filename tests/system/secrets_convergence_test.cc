// A secret that changes while a reload is in any of its states: what answers in the end has the
// newest, with no reload more than that takes, and no request fails meanwhile (A15, A17, A18).
//
// The supervisor stops itself at the entry of a state, where everybody can see the state and
// nothing of it is done (ipc/crash_point.h); the secret changes; the supervisor goes on.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <string>
#include <tuple>
#include <vector>

#include "absl/strings/str_cat.h"

#include "tests/system/secrets_test_base.h"

namespace baton::testing {
namespace {

struct Step {
  const char* state;
  int pass;  // the first generation passes SERVING, too
};
constexpr Step kSteps[] = {{"STAGING", 1},   {"HOLDING", 1},   {"DRAINING", 1},
                           {"CLOSING", 1},   {"EXITING", 1},   {"CONFIRMING", 1},
                           {"ADMITTING", 1}, {"REMAPPING", 1}, {"SERVING", 2}};

// What the change makes of the secret, which went from "first" to "second" to start the reload.
enum class Change { kNewer, kBackToFirst, kRemoved, kThreeMore };
constexpr Change kChanges[] = {Change::kNewer, Change::kBackToFirst, Change::kRemoved,
                               Change::kThreeMore};
const char* Name(Change change) {
  switch (change) {
    case Change::kNewer:
      return "Newer";
    case Change::kBackToFirst:
      return "BackToFirst";
    case Change::kRemoved:
      return "Removed";
    case Change::kThreeMore:
      return "ThreeMore";
  }
  return "";
}

class SecretsConvergenceBase : public SecretsSystemTest {
 protected:
  void Token(const std::string& value) { WriteSecret("TOKEN", value); }
};

class SecretsConvergenceTest : public SecretsConvergenceBase,
                               public ::testing::WithParamInterface<std::tuple<Step, Change>> {
 protected:
  // Makes the change; what is to come of it, "" where nothing is set.
  std::string Make(Change change) {
    switch (change) {
      case Change::kNewer:
        Token("third");
        return "third";
      case Change::kBackToFirst:
        Token("first");
        return "first";
      case Change::kRemoved:
        EXPECT_EQ(::unlink((secrets_ + "/TOKEN").c_str()), 0);
        return "";
      case Change::kThreeMore:
        for (const char* value : {"third", "second", "fifth"}) Token(value);
        return "fifth";
    }
    return "";
  }
};

INSTANTIATE_TEST_SUITE_P(At, SecretsConvergenceTest,
                         ::testing::Combine(::testing::ValuesIn(kSteps),
                                            ::testing::ValuesIn(kChanges)),
                         [](const auto& info) {
                           return absl::StrCat(std::get<0>(info.param).state, "_",
                                               Name(std::get<1>(info.param)));
                         });

TEST_P(SecretsConvergenceTest, A15_WhatAnswersInTheEndHasTheNewest) {
#ifndef BATON_CRASH_POINTS
  GTEST_SKIP() << "built without BATON_CRASH_POINTS";
#else
  const auto [step, change] = GetParam();
  Token("first");
  ServeSecrets({{"BATON_STOP_AT", absl::StrCat("supervisor.", step.state, ":", step.pass)}},
               {"variable: TOKEN", "weights_bytes: 1048576"});
  Load load(*front_, "TOKEN");
  ASSERT_TRUE(load.WaitForAnswers(20));
  Token("second");
  ASSERT_TRUE(WaitFor([&] { return IsStopped(server_->pid()); }));
  ASSERT_EQ(front_->state(), step.state);
  const std::string newest = Make(change);
  ASSERT_EQ(::kill(server_->pid(), SIGCONT), 0);

  // One reload for the change that began it, one for what changed meanwhile.
  ASSERT_TRUE(WaitForGeneration(3));
  EXPECT_EQ(Ask("TOKEN").value_or(""), newest);
  EXPECT_EQ(answered_by(), 3u);
  EXPECT_EQ(GenerationOfNextChange(), 4u) << "a reload that nobody asked for";
  EXPECT_EQ(Ask("TOKEN").value_or(""), newest);
  ASSERT_TRUE(load.WaitForAnswers(2));  // the second was asked for after the last reload
  load.Stop();

  EXPECT_TRUE(load.errors().empty()) << load.errors().front();
  const std::vector<std::string> values = {"first", "second", newest, newest};
  uint64_t before = 0;
  for (const EnvAnswer& answer : load.changes()) {
    EXPECT_GT(answer.generation, before) << "generations went back, or one has two values";
    before = answer.generation;
    ASSERT_LE(answer.generation, values.size());
    EXPECT_EQ(answer.value, values[answer.generation - 1]) << answer.generation;
  }
  EXPECT_EQ(before, 4u);
  ASSERT_TRUE(WaitForReceipts(3));
  for (const std::string& receipt : server_->Receipts()) {
    EXPECT_NE(receipt.find("\"outcome\":\"swapped\""), std::string::npos) << receipt;
    EXPECT_NE(receipt.find("\"verdict\":\"freed\""), std::string::npos) << receipt;
  }
#endif
}

// The same where the secret that began the reload brings no model up: the newest one does, by
// whatever way the failures lead there.
struct BadInBetween {
  const char* state;
  const char* fault;
};
class BadInBetweenTest : public SecretsConvergenceBase,
                         public ::testing::WithParamInterface<BadInBetween> {};

INSTANTIATE_TEST_SUITE_P(At, BadInBetweenTest,
                         ::testing::Values(BadInBetween{"STAGING", "load: fail"},
                                           BadInBetween{"STAGING", "load: crash"},
                                           BadInBetween{"STAGING", "upload: fail"},
                                           BadInBetween{"HOLDING", "upload: fail"},
                                           BadInBetween{"DRAINING", "upload: fail"},
                                           BadInBetween{"CLOSING", "upload: crash"},
                                           BadInBetween{"EXITING", "upload: fail"},
                                           BadInBetween{"CONFIRMING", "upload: crash"},
                                           BadInBetween{"ADMITTING", "upload: fail"}),
                         [](const auto& info) {
                           std::string name = absl::StrCat(info.param.state, "_", info.param.fault);
                           name.erase(name.find(':'), 1);
                           std::replace(name.begin(), name.end(), ' ', '_');
                           return name;
                         });

TEST_P(BadInBetweenTest, A15_A19_TheNewestComesUpAfterABadOne) {
#ifndef BATON_CRASH_POINTS
  GTEST_SKIP() << "built without BATON_CRASH_POINTS";
#else
  Token("first");
  ServeSecrets(
      {{"BATON_STOP_AT", absl::StrCat("supervisor.", GetParam().state)}},
      {"variable: TOKEN", "weights_bytes: 1048576", GetParam().fault, "only_if: TOKEN=second"});
  Load load(*front_, "TOKEN");
  ASSERT_TRUE(load.WaitForAnswers(20));
  Token("second");
  ASSERT_TRUE(WaitFor([&] { return IsStopped(server_->pid()); }));
  ASSERT_EQ(front_->state(), GetParam().state);
  Token("third");
  ASSERT_EQ(::kill(server_->pid(), SIGCONT), 0);
  ASSERT_TRUE(WaitFor([&] { return Ask("TOKEN") == "third"; }));
  const uint64_t converged = answered_by();
  EXPECT_EQ(GenerationOfNextChange(), converged + 1) << "a reload that nobody asked for";
  load.Stop();

  EXPECT_TRUE(load.errors().empty()) << load.errors().front();
  uint64_t before = 0;
  for (const EnvAnswer& answer : load.changes()) {
    EXPECT_GT(answer.generation, before) << "generations went back, or one has two values";
    before = answer.generation;
    // What came up in between had the last good one.
    EXPECT_EQ(answer.value, answer.generation < converged ? "first" : "third");
  }
#endif
}

}  // namespace
}  // namespace baton::testing
