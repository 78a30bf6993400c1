#include "bench/histogram_file.h"

#include <cerrno>
#include <fstream>

#include "absl/strings/str_cat.h"

namespace baton::bench {
namespace {

std::string Quoted(const std::string& text) {
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') quoted += '\\';
    // What no machine's name has is not worth an escape.
    quoted += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
  }
  return quoted + "\"";
}

std::string OneJson(const std::string& name, const runtime::LatencyHistogram& histogram) {
  std::string json =
      absl::StrCat("{\"name\": ", Quoted(name), ", \"count\": ", histogram.count(),
                   ", \"min_ns\": ", histogram.least_ns(), ", \"max_ns\": ", histogram.most_ns(),
                   ", \"mean_ns\": ", histogram.mean_ns(), ", \"buckets\": [");
  const char* separator = "";
  histogram.VisitBuckets([&](uint64_t last_ns, uint64_t count) {
    absl::StrAppend(&json, separator, "[", last_ns, ", ", count, "]");
    separator = ", ";
  });
  return json + "]}";
}

}  // namespace

std::string HistogramsJson(
    const std::map<std::string, std::string>& context,
    const std::map<std::string, const runtime::LatencyHistogram*>& histograms) {
  std::string json = "{\"context\": {";
  const char* separator = "";
  for (const auto& [key, value] : context) {
    absl::StrAppend(&json, separator, Quoted(key), ": ", Quoted(value));
    separator = ", ";
  }
  json += "},\n \"histograms\": [";
  separator = "\n  ";
  for (const auto& [name, histogram] : histograms) {
    absl::StrAppend(&json, separator, OneJson(name, *histogram));
    separator = ",\n  ";
  }
  return json + "\n]}\n";
}

absl::Status WriteFile(const std::string& path, const std::string& text) {
  std::ofstream file(path);
  file << text;
  file.close();
  if (file.good()) return absl::OkStatus();
  return absl::ErrnoToStatus(errno, absl::StrCat("cannot write ", path));
}

}  // namespace baton::bench
