// The rows of latency_bench, in the groups that are measured together.
#ifndef BATON_BENCH_LATENCY_ROWS_H_
#define BATON_BENCH_LATENCY_ROWS_H_

#include <string>
#include <vector>

#include "bench/cpu_pair.h"
#include "bench/null_server.h"
#include "bench/row_group.h"

namespace baton::bench {

inline constexpr char kFloorRow[] = "PingPongFloor";

struct RowCatalog {
  // kFloorRow is the first row of each group: it is measured with all of them.
  std::vector<std::vector<Row>> groups;
  // Rows that are not there, and why.
  std::vector<std::string> not_measured;
};

// Starts nothing. `servers` is where rows find a server when they are made.
RowCatalog LatencyRows(const CpuPair& cpus, const NullServers& servers);

}  // namespace baton::bench

#endif  // BATON_BENCH_LATENCY_ROWS_H_
