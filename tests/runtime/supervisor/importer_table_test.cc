// Who was sent an arena, and what has become of it.
#include "runtime/supervisor/importer_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

namespace baton::runtime {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;
using State = Importer::State;

constexpr uint64_t kGeneration = 7;

class ImporterTableTest : public ::testing::Test {
 protected:
  const ipc::ProcessIdentity self_ = *ipc::ProcessIdentity::Of(::getpid());
  const ipc::ProcessIdentity parent_ = *ipc::ProcessIdentity::Of(::getppid());
  const ipc::ProcessIdentity gone_{.pid = ::getpid(), .start_time = self_.start_time + 1};
  const ipc::ProcessIdentity unseen_{};
  ImporterTable table_;
};

TEST_F(ImporterTableTest, WhatASessionSaysIsItsState) {
  EXPECT_THAT(table_.Of(kGeneration), IsEmpty());
  table_.Offered(kGeneration, 1, self_);
  EXPECT_THAT(table_.Of(kGeneration), ElementsAre(Importer{self_, State::kOpen}));
  table_.Closed(kGeneration + 1, 1);
  table_.Closed(kGeneration, 2);
  EXPECT_THAT(table_.Of(kGeneration), ElementsAre(Importer{self_, State::kOpen}));
  table_.Closed(kGeneration, 1);
  EXPECT_THAT(table_.Of(kGeneration), ElementsAre(Importer{self_, State::kClosed}));
  table_.Forget(kGeneration);
  EXPECT_THAT(table_.Of(kGeneration), IsEmpty());
}

TEST_F(ImporterTableTest, ASessionThatEndsStaysKnown) {
  table_.Offered(kGeneration, 1, self_);
  table_.Offered(kGeneration, 2, parent_);
  table_.Offered(kGeneration, 3, unseen_);
  table_.Closed(kGeneration, 3);
  table_.Ended(1, /*cut_off=*/false);
  table_.Ended(2, /*cut_off=*/true);
  table_.Ended(3, /*cut_off=*/false);
  EXPECT_THAT(table_.Of(kGeneration),
              UnorderedElementsAre(Importer{self_, State::kLeft}, Importer{parent_, State::kOpen},
                                   Importer{unseen_, State::kClosed}));
}

TEST_F(ImporterTableTest, OfOneProcessTheSessionCountsThatHasItMost) {
  table_.Offered(kGeneration, 1, self_);
  table_.Offered(kGeneration, 2, self_);
  table_.Closed(kGeneration, 1);
  EXPECT_THAT(table_.Of(kGeneration), ElementsAre(Importer{self_, State::kOpen}));
  table_.Ended(1, false);
  EXPECT_THAT(table_.Of(kGeneration), ElementsAre(Importer{self_, State::kOpen}));
  table_.Closed(kGeneration, 2);
  EXPECT_THAT(table_.Of(kGeneration), ElementsAre(Importer{self_, State::kClosed}));
  for (uint64_t session = 3; session < 100; ++session) {
    table_.Offered(kGeneration, session, self_);
    table_.Ended(session, false);
  }
  EXPECT_THAT(table_.Of(kGeneration), ElementsAre(Importer{self_, State::kLeft}));
}

TEST_F(ImporterTableTest, ThoseThatAreLongGoneAreForgotten) {
  table_.Offered(kGeneration, 1, gone_);
  table_.Ended(1, false);
  // Not before somebody comes: the driver may be about to take its mappings down.
  EXPECT_THAT(table_.Of(kGeneration), ElementsAre(Importer{gone_, State::kLeft}));
  table_.Offered(kGeneration, 2, self_);
  EXPECT_THAT(table_.Of(kGeneration), ElementsAre(Importer{self_, State::kOpen}));
}

}  // namespace
}  // namespace baton::runtime
