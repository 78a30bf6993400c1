#include "tests/crash/fault_matrix_table.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "absl/strings/str_cat.h"

#include "ipc/process.h"
#include "tests/system/device_under_test.h"

namespace baton::testing {

namespace fs = std::filesystem;

namespace {

std::string BuildFolder() {
  const char* build = std::getenv("BATON_BINARY_DIR");
  return build == nullptr ? "." : build;
}

// Of whoever started this process.
std::string RunName() {
  const auto parent = ipc::ProcessIdentity::Of(::getppid());
  return parent.ok() ? absl::StrCat(parent->pid, " ", parent->start_time) : "unknown";
}

std::string Padded(const std::string& text, size_t width) {
  return text + std::string(width - std::min(width, text.size()), ' ');
}

std::string RowName(Target target, Fault fault) {
  return absl::StrCat(TargetName(target), " x ", FaultName(fault));
}

}  // namespace

FaultMatrixTable::FaultMatrixTable()
    : base_(BuildFolder() + (SimulatedGpu() == nullptr ? "/fault_matrix" : "/fault_matrix_simgpu")),
      run_(RunName()) {}

void FaultMatrixTable::Record(const Cell& cell, const std::string& word) const {
  std::error_code ignored;
  fs::create_directories(base_, ignored);
  std::ofstream(absl::StrCat(base_, "/", CellName(cell))) << run_ << '\n' << word << '\n';
}

std::string FaultMatrixTable::WordOf(const Cell& cell) const {
  std::ifstream in(absl::StrCat(base_, "/", CellName(cell)));
  std::string run;
  std::string word;
  return std::getline(in, run) && run == run_ && std::getline(in, word) ? word : "";
}

std::vector<std::string> FaultMatrixTable::Missing() const {
  std::vector<std::string> missing;
  for (const Cell& cell : AllCells()) {
    if (PlanOf(cell).impossible.empty() && WordOf(cell).empty()) missing.push_back(CellName(cell));
  }
  return missing;
}

std::string FaultMatrixTable::Text() const {
  std::vector<std::vector<std::string>> rows = {{""}};
  for (const ipc::ServerState state : AllStates()) {
    rows.front().emplace_back(std::string(ipc::ServerStateName(state)));
  }
  std::string notes;
  for (const Cell& cell : AllCells()) {
    if (cell.state == AllStates().front()) rows.push_back({RowName(cell.target, cell.fault)});
    const std::string why = PlanOf(cell).impossible;
    const std::string word = why.empty() ? WordOf(cell) : "n/a";
    rows.back().push_back(word.empty() ? "not run" : word);
    if (!why.empty()) {
      absl::StrAppend(&notes, RowName(cell.target, cell.fault), " x ",
                      std::string(ipc::ServerStateName(cell.state)), ": ", why, "\n");
    }
  }
  std::string text;
  for (const std::vector<std::string>& row : rows) {
    for (size_t column = 0; column < row.size(); ++column) {
      size_t width = 0;
      for (const auto& other : rows) width = std::max(width, other[column].size());
      absl::StrAppend(&text, column == 0 ? "" : " | ", Padded(row[column], width));
    }
    text.append("\n");
  }
  return absl::StrCat("Fault matrix: who x what, and in which state of the server\n\n", text,
                      "\nCells that cannot happen (n/a):\n", notes);
}

std::string FaultMatrixTable::WriteText() const {
  const std::string file = base_ + ".txt";
  std::ofstream(file) << Text();
  return file;
}

}  // namespace baton::testing
