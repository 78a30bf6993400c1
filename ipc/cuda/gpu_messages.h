// Between a GpuSurvey and its Cap'n Proto type.
//
// Plain functions, any thread.
#ifndef BATON_IPC_CUDA_GPU_MESSAGES_H_
#define BATON_IPC_CUDA_GPU_MESSAGES_H_

#include <cstddef>

#include "absl/status/statusor.h"
#include "capnp/blob.h"

#include "ipc/cuda/driver_abi.h"
#include "ipc/cuda/gpu_survey.h"
#include "ipc/schema/control.capnp.h"

namespace baton::ipc::cuda {

// A longer process list does not go into a packet, and counts as not known: half
// of one would miss somebody.
inline constexpr size_t kMaxSurveyProcesses = 512;

void WriteSurvey(const GpuSurvey& survey, schema::GpuSurvey::Builder to);
GpuSurvey ReadSurvey(schema::GpuSurvey::Reader from);

inline capnp::Data::Reader UuidData(const Uuid& uuid) { return {uuid.bytes, sizeof(uuid.bytes)}; }
// INVALID_ARGUMENT unless it has 16 bytes.
absl::StatusOr<Uuid> ReadUuid(capnp::Data::Reader from);

}  // namespace baton::ipc::cuda

#endif  // BATON_IPC_CUDA_GPU_MESSAGES_H_
