// The fault matrix (see fault_matrix.h): one test a cell, and one that wants to see them all and
// prints the table. Holds A17, A19, A21, A27, A30-A32, R1, R2 and R11 in every state of a reload.
#include "tests/crash/fault_matrix.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <string>

#include "absl/strings/str_join.h"

#include "tests/crash/fault_cell.h"
#include "tests/crash/fault_matrix_table.h"

namespace baton::testing {
namespace {

class CellTest : public ::testing::Test {
 public:
  explicit CellTest(const Cell& cell) : cell_(cell) {}

  void TestBody() override {
#ifndef BATON_CRASH_POINTS
    GTEST_SKIP() << "built without BATON_CRASH_POINTS";
#else
    const FaultMatrixTable table;
    const CellPlan plan = PlanOf(cell_);
    std::string word;
    for (const FaultPoints& points : plan.runs) {
      absl::StatusOr<std::string> came = FaultCell(cell_, plan, points).Run();
      EXPECT_TRUE(came.ok()) << points.fail_at << points.crash_at << points.stop_at << "\n"
                             << came.status().message();
      word = came.ok() && word != "FAILED" ? "ok " + *came : "FAILED";
    }
    table.Record(cell_, word);
#endif
  }

 private:
  const Cell cell_;
};

// After all of them.
class TableTest : public ::testing::Test {
 public:
  void TestBody() override {
#ifndef BATON_CRASH_POINTS
    GTEST_SKIP() << "built without BATON_CRASH_POINTS";
#else
    const FaultMatrixTable table;
    std::printf("%s\nThe table is in %s\n", table.Text().c_str(), table.WriteText().c_str());
    EXPECT_TRUE(table.Missing().empty())
        << "not run by who runs this: " << absl::StrJoin(table.Missing(), ", ");
#endif
  }
};

void RegisterTests() {
  for (const Cell& cell : AllCells()) {
    if (!PlanOf(cell).impossible.empty()) continue;
    ::testing::RegisterTest("FaultMatrix", CellName(cell).c_str(), nullptr, nullptr, __FILE__,
                            __LINE__, [cell]() -> CellTest* { return new CellTest(cell); });
  }
  ::testing::RegisterTest("FaultMatrixTable", "HasEveryCell", nullptr, nullptr, __FILE__, __LINE__,
                          []() -> TableTest* { return new TableTest(); });
}

}  // namespace
}  // namespace baton::testing

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  baton::testing::RegisterTests();
  return RUN_ALL_TESTS();
}
