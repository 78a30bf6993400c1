// What a test sets on a simulated machine: `knobs`, a text file of key=value
// lines in the machine's folder, replaced by rename. DESIGN.md has the list.
//
// Thread safety: Knobs is a value; KnobFile may be used by any thread.
#ifndef BATON_TESTS_SIMGPU_KNOBS_H_
#define BATON_TESTS_SIMGPU_KNOBS_H_

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "ipc/cuda/driver_abi.h"
#include "tests/simgpu/books.h"

namespace baton::ipc::cuda::sim {

class Knobs {
 public:
  Knobs() = default;
  static Knobs Parse(std::string_view text);

  // nullopt: not set.
  std::optional<std::string> Text(std::string_view name) const;
  // `fallback` where it is not set or no decimal number.
  uint64_t Number(std::string_view name, uint64_t fallback) const;
  bool Flag(std::string_view name, bool fallback = false) const {
    return Number(name, fallback ? 1 : 0) != 0;
  }

  // The ones that both libraries and the observer need.
  uint64_t capacity_bytes() const { return Number("capacity_bytes", uint64_t{16} << 30); }
  uint64_t context_bytes() const { return Number("context_bytes", uint64_t{256} << 20); }
  // Of device 0: another tenant's, in use by `foreign_pid`.
  uint64_t foreign_bytes() const { return Number("foreign_bytes", 0); }
  pid_t foreign_pid() const { return static_cast<pid_t>(Number("foreign_pid", 1)); }
  int device_count() const { return static_cast<int>(Number("device_count", 1)); }
  TeardownRule teardown() const;
  Uuid UuidOf(DeviceOrdinal device) const;

 private:
  std::map<std::string, std::string, std::less<>> values_;
};

// Reads the file again when it is another one. Cost: a stat.
class KnobFile {
 public:
  explicit KnobFile(std::string path) : path_(std::move(path)) {}

  // As they are now; none are set where there is no file.
  std::shared_ptr<const Knobs> Now();

 private:
  const std::string path_;
  std::mutex mutex_;
  std::shared_ptr<const Knobs> knobs_ = std::make_shared<const Knobs>();
  ino_t inode_ = 0;
  int64_t written_ns_ = -1;
};

}  // namespace baton::ipc::cuda::sim

#endif  // BATON_TESTS_SIMGPU_KNOBS_H_
