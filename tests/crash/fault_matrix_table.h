// What came of each cell of the fault matrix, across the processes that ran them, and the table of
// it.
#ifndef BATON_TESTS_CRASH_FAULT_MATRIX_TABLE_H_
#define BATON_TESTS_CRASH_FAULT_MATRIX_TABLE_H_

#include <map>
#include <string>
#include <vector>

#include "tests/crash/fault_matrix.h"

namespace baton::testing {

// Results are files under the build folder. They count for one run: that of the process (ctest, or
// a shell) that has started the one which wrote them and the one which reads them.
class FaultMatrixTable {
 public:
  FaultMatrixTable();
  void Record(const Cell& cell, const std::string& word) const;

  // Cells that can happen and of which this run knows nothing.
  std::vector<std::string> Missing() const;
  // The table, and below it why some cells cannot happen.
  std::string Text() const;
  // Where tools/test looks for it.
  std::string WriteText() const;

 private:
  std::string WordOf(const Cell& cell) const;
  const std::string base_;  // of what it keeps: a folder of this name, and a .txt
  const std::string run_;
};

}  // namespace baton::testing

#endif  // BATON_TESTS_CRASH_FAULT_MATRIX_TABLE_H_
