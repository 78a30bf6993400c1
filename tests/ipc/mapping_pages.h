// What the kernel says of the pages that a mapping is on.
#ifndef BATON_TESTS_IPC_MAPPING_PAGES_H_
#define BATON_TESTS_IPC_MAPPING_PAGES_H_

#include <sys/types.h>

#include <cstdint>
#include <fstream>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "baton/page_kind.h"

namespace baton::testing {

// A mapping as /proc/<pid>/smaps has it.
struct MappingPages {
  uint64_t start = 0;
  uint64_t mapped_bytes = 0;
  std::string name = {};
  uint64_t kernel_page_bytes = 0;
  uint64_t huge_mapped_bytes = 0;  // by transparent huge pages
  PageKind kind(uint64_t huge_page_bytes) const {
    if (kernel_page_bytes == huge_page_bytes) return PageKind::kHugetlb;
    return huge_mapped_bytes > 0 ? PageKind::kTransparentHuge : PageKind::kNormal;
  }
};

inline std::vector<MappingPages> AllMappingPages(const std::string& process = "self") {
  std::vector<MappingPages> all;
  std::ifstream smaps("/proc/" + process + "/smaps");
  for (std::string line; std::getline(smaps, line);) {
    std::istringstream words(line);
    std::string first;
    uint64_t kib = 0;
    words >> first;
    if (first.find('-') != std::string::npos) {
      std::string word;
      all.push_back({.start = std::stoull(first, nullptr, 16)});
      while (words >> word) all.back().name = word == "(deleted)" ? all.back().name : word;
    } else if (words >> kib && !all.empty()) {
      if (first == "Size:") all.back().mapped_bytes = kib << 10;
      if (first == "KernelPageSize:") all.back().kernel_page_bytes = kib << 10;
      if (first == "ShmemPmdMapped:") all.back().huge_mapped_bytes = kib << 10;
    }
  }
  return all;
}

// nullopt: nothing is mapped there.
inline std::optional<MappingPages> PagesAt(const void* address) {
  for (const MappingPages& mapping : AllMappingPages()) {
    if (mapping.start == reinterpret_cast<uint64_t>(address)) return mapping;
  }
  return std::nullopt;
}

// The pages that the machine sets aside: of /proc/meminfo, "HugePages_Free".
inline uint64_t MeminfoValue(const std::string& name) {
  std::ifstream meminfo("/proc/meminfo");
  for (std::string line; std::getline(meminfo, line);) {
    if (line.starts_with(name + ":")) return std::stoull(line.substr(name.size() + 1));
  }
  return 0;
}

}  // namespace baton::testing

#endif  // BATON_TESTS_IPC_MAPPING_PAGES_H_
