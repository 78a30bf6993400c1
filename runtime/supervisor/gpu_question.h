// What the supervisor knows of an arena on a GPU whose worker was reaped: what
// its confirmation helper has to be told to find out whether it is gone.
//
// Thread safety: values.
#ifndef BATON_RUNTIME_SUPERVISOR_GPU_QUESTION_H_
#define BATON_RUNTIME_SUPERVISOR_GPU_QUESTION_H_

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"

#include "ipc/cuda/gpu_survey.h"
#include "ipc/process.h"
#include "ipc/schema/control.capnp.h"

namespace baton::runtime {

// A process that was sent a generation's arena.
struct Importer {
  // In this order: of two sessions of one process the lower one counts.
  enum class State {
    kOpen,    // it has not closed its import, or was cut off
    kLeft,    // it has hung up, and has not said that it had closed
    kClosed,  // it has said that it has
  };
  ipc::ProcessIdentity process;  // pid 0: of a pid namespace that cannot be seen from here
  State state = State::kOpen;

  friend bool operator==(const Importer&, const Importer&) = default;
};

struct GpuQuestion {
  ipc::cuda::Uuid device{};
  ipc::ProcessIdentity owner = {};
  pid_t successor = 0;        // 0: none
  uint64_t needed_bytes = 0;  // what the successor is going to allocate, rounded up
  std::vector<Importer> importers = {};
  std::optional<ipc::cuda::GpuSurvey> baseline = {};  // taken while the owner lived
};

// More importers than go into a packet are cut off, those that are closed first
// of all; then there is one more, open and of no pid: somebody is not told.
inline constexpr size_t kMaxImportersTold = 512;

void WriteGpuQuestion(const GpuQuestion& question, ipc::schema::GpuQuestion::Builder to);
absl::StatusOr<GpuQuestion> ReadGpuQuestion(ipc::schema::GpuQuestion::Reader from);

}  // namespace baton::runtime

#endif  // BATON_RUNTIME_SUPERVISOR_GPU_QUESTION_H_
