#include "tools/gpu_check/table.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <string_view>

#include "absl/strings/str_cat.h"

namespace baton::gpu_check {
namespace {

std::string Quoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\t') {
      out += "\\t";
    } else if (static_cast<unsigned char>(c) < 0x20) {
      char escape[8];
      std::snprintf(escape, sizeof(escape), "\\u%04x", c);
      out += escape;
    } else {
      out += c;
    }
  }
  return out + "\"";
}

// JSON has no infinity.
std::string Number(double value) {
  if (!std::isfinite(value)) return "null";
  char text[64];
  const auto [end, error] = std::to_chars(text, text + sizeof(text), value);
  return error == std::errc() ? std::string(text, end) : "null";
}

std::string_view Bool(bool value) { return value ? "true" : "false"; }

std::string RowJson(const Row& row, bool simulated) {
  return absl::StrCat(
      "{\"name\": ", Quoted(row.name), ", \"value\": ", row.value ? Number(*row.value) : "null",
      ", \"unit\": ", Quoted(row.unit),
      ", \"target\": ", row.target ? Quoted(TargetText(*row.target)) : "null",
      ", \"outcome\": ", Quoted(OutcomeText(row.outcome)), ", \"note\": ", Quoted(row.note),
      ", \"simulated\": ", std::string(Bool(simulated)), "}");
}

// A table's cell holds no bar and no line end.
std::string Cell(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '|') out += '\\';
    out += c == '\n' ? ' ' : c;
  }
  return out;
}

std::string FigureCell(const Row& row, bool simulated) {
  if (!row.value) return "";
  return absl::StrCat(FigureText(*row.value), row.unit.empty() ? "" : " ", Cell(row.unit),
                      simulated ? " (simulated)" : "");
}

std::string RowsText(const std::vector<Row>& rows, bool simulated) {
  std::string out = "| what | figure | target | outcome | note |\n|---|---|---|---|---|\n";
  for (const Row& row : rows) {
    absl::StrAppend(&out, "| ", Cell(row.name), " | ", FigureCell(row, simulated), " | ",
                    row.target ? TargetText(*row.target) : "", " | ",
                    std::string(OutcomeText(row.outcome)), " | ", Cell(row.note), " |\n");
  }
  return out;
}

}  // namespace

bool Table::passed() const {
  return !rows.empty() &&
         std::all_of(rows.begin(), rows.end(), [](const Row& row) { return IsGood(row.outcome); });
}

std::string JsonText(const Table& table) {
  std::string out =
      absl::StrCat("{\n\"simulated\": ", std::string(Bool(table.simulated)),
                   ",\n\"passed\": ", std::string(Bool(table.passed())), ",\n\"head\": {");
  const char* separator = "";
  for (const auto& [name, text] : table.head) {
    absl::StrAppend(&out, separator, Quoted(name), ": ", Quoted(text));
    separator = ", ";
  }
  out += "},\n\"rows\": [";
  separator = "\n";
  for (const Row& row : table.rows) {
    absl::StrAppend(&out, separator, RowJson(row, table.simulated));
    separator = ",\n";
  }
  return out + "\n]\n}\n";
}

std::string MarkdownText(const Table& table) {
  std::string out = table.simulated ? "# GPU check, on a SIMULATED GPU\n\n" : "# GPU check\n\n";
  if (table.simulated) {
    out +=
        "No figure here was measured on a GPU: they say that the program works, not how fast.\n\n";
  }
  for (const auto& [name, text] : table.head) absl::StrAppend(&out, "- ", name, ": ", text, "\n");
  std::vector<Row> bad;
  std::copy_if(table.rows.begin(), table.rows.end(), std::back_inserter(bad),
               [](const Row& row) { return !IsGood(row.outcome); });
  absl::StrAppend(&out, "- result: ",
                  table.passed() ? "passed"
                  : table.rows.empty()
                      ? "nothing was looked at"
                      : absl::StrCat(bad.size(), " of ", table.rows.size(), " rows are not good"),
                  "\n\n");
  if (!bad.empty()) {
    absl::StrAppend(&out, "## Not good\n\n", RowsText(bad, table.simulated), "\n## All\n\n");
  }
  return out + RowsText(table.rows, table.simulated);
}

absl::Status WriteWhole(const std::string& path, const std::string& content) {
  const std::string temporary = absl::StrCat(path, ".", ::getpid(), ".new");
  std::ofstream file(temporary, std::ios::binary | std::ios::trunc);
  file << content;
  file.close();
  if (file.fail()) {
    ::unlink(temporary.c_str());
    return absl::UnavailableError(
        absl::StrCat("cannot write ", path, ": is its folder there and writable?"));
  }
  if (::rename(temporary.c_str(), path.c_str()) != 0) {
    const int error = errno;
    ::unlink(temporary.c_str());
    return absl::ErrnoToStatus(error, absl::StrCat("cannot write ", path));
  }
  return absl::OkStatus();
}

}  // namespace baton::gpu_check
