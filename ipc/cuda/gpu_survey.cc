#include "ipc/cuda/gpu_survey.h"

#include <algorithm>

#include "ipc/cuda/nvml.h"

namespace baton::ipc::cuda {

const GpuSurvey::Process* FindProcess(const GpuSurvey& survey, pid_t pid) {
  if (!survey.processes.ok()) return nullptr;
  const auto found =
      std::find_if(survey.processes->begin(), survey.processes->end(),
                   [pid](const GpuSurvey::Process& process) { return process.pid == pid; });
  return found == survey.processes->end() ? nullptr : &*found;
}

GpuSurvey UnknownSurvey(const absl::Status& why) {
  return {.memory = why, .processes = why, .mig = why};
}

GpuSurvey NvmlSource::Survey(const Uuid& device) {
  const absl::StatusOr<const Nvml*> nvml = Nvml::Get();
  if (!nvml.ok()) return UnknownSurvey(nvml.status());
  const absl::StatusOr<NvmlDevice> found = (*nvml)->Find(device);
  if (!found.ok()) return UnknownSurvey(found.status());
  GpuSurvey survey = UnknownSurvey(absl::UnknownError("not asked"));
  // Processes first: whoever ends in between is listed although its memory counts as free, and
  // that errs on the safe side.
  if (const auto processes = (*nvml)->ProcessesOf(*found); processes.ok()) {
    std::vector<GpuSurvey::Process> list;
    for (const Nvml::ProcessUse& use : *processes) list.push_back({use.pid, use.bytes});
    survey.processes = std::move(list);
  } else {
    survey.processes = processes.status();
  }
  if (const auto memory = (*nvml)->MemoryOf(*found); memory.ok()) {
    survey.memory = GpuSurvey::Memory{memory->total_bytes, memory->free_bytes};
  } else {
    survey.memory = memory.status();
  }
  survey.mig = (*nvml)->MigEnabled(*found);
  return survey;
}

}  // namespace baton::ipc::cuda
