#include <array>

#include "tools/gpu_check/measurement.h"

namespace baton::gpu_check {
namespace {

constexpr std::array kMeasurements = {
    Measurement{"machine", "what the GPU and the machine are", absl::Seconds(60), MeasureMachine},
    Measurement{"nvml", "whether NVML shows this pid namespace's processes; what its calls cost",
                absl::Seconds(60), MeasureNvml},
    Measurement{"sampler", "whether device memory that comes and goes is seen from outside",
                absl::Seconds(60), MeasureSampler},
    Measurement{"context", "a context's device memory and time, and its teardown",
                absl::Seconds(90), MeasureContext},
    Measurement{"ipc_cost", "legacy IPC: export, open and close, and what an import says of itself",
                absl::Seconds(120), MeasureIpcCost},
    Measurement{"ipc_refusals", "legacy IPC: what cannot be exported or opened", absl::Seconds(60),
                MeasureIpcRefusals},
    Measurement{"killed_exporter", "the time from SIGKILL until memory is back", absl::Seconds(180),
                MeasureKilledExporter},
    Measurement{"death_under_mapping", "an exporter dies while its memory is mapped elsewhere",
                absl::Seconds(180), MeasureDeathUnderMapping},
    Measurement{"vmm_cost", "VMM with descriptors: create, export, import, unmap",
                absl::Seconds(120), MeasureVmmCost},
    Measurement{"vmm_lifetime", "VMM with descriptors: what keeps memory after its exporter died",
                absl::Seconds(180), MeasureVmmLifetime},
    Measurement{"read_only_import", "whether a read-only import refuses to be written",
                absl::Seconds(120), MeasureReadOnlyImport},
    Measurement{"uploads", "host to device: pinned, pageable, page cache; the cost of pinning",
                absl::Seconds(180), MeasureUploads},
    Measurement{"upload_ring", "host to device by the ring of pinned slots", absl::Seconds(120),
                MeasureUploadRing},
    Measurement{"registered_segment", "device to shared memory that was registered",
                absl::Seconds(60), MeasureRegisteredSegment},
    Measurement{"trial_allocation", "what it costs to try whether memory is free",
                absl::Seconds(120), MeasureTrialAllocation},
    Measurement{"round_trip", "a server on the GPU: results on the host and on the device",
                absl::Seconds(180), MeasureRoundTrip},
    Measurement{"reload", "a server on the GPU: gap and peak device bytes of reloads",
                absl::Seconds(300), MeasureReload},
};

}  // namespace

std::span<const Measurement> Measurements() { return kMeasurements; }

const Measurement* FindMeasurement(std::string_view name) {
  for (const Measurement& measurement : kMeasurements) {
    if (measurement.name == name) return &measurement;
  }
  return nullptr;
}

}  // namespace baton::gpu_check
