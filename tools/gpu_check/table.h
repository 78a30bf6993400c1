// All rows of a run, as JSON for programs and as Markdown for people.
//
// Thread safety: plain values and functions, any thread.
#ifndef BATON_TOOLS_GPU_CHECK_TABLE_H_
#define BATON_TOOLS_GPU_CHECK_TABLE_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"

#include "tools/gpu_check/row.h"

namespace baton::gpu_check {

struct Table {
  // What the run was: date, commit, ... in this order above the rows.
  std::vector<std::pair<std::string, std::string>> head;
  bool simulated = false;
  std::vector<Row> rows;

  // Something was looked at, and every row is good.
  bool passed() const;
};

// {"simulated": .., "passed": .., "head": {..}, "rows": [{"name", "value",
// "unit", "target", "outcome", "note", "simulated"}, ..]}; value and target are
// null where there is none. Ends with a line end.
std::string JsonText(const Table& table);

// A list of the head, what was not good, and all the rows. Where the GPU was
// simulated, every figure says so.
std::string MarkdownText(const Table& table);

// Replaces the file in one step: nobody sees half of it.
absl::Status WriteWhole(const std::string& path, const std::string& content);

}  // namespace baton::gpu_check

#endif  // BATON_TOOLS_GPU_CHECK_TABLE_H_
