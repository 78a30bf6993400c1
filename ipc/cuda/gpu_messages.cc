#include "ipc/cuda/gpu_messages.h"

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

#include "ipc/schema_convert.h"

namespace baton::ipc::cuda {
namespace {

// Three of them have to fit into a packet beside the list.
constexpr size_t kMaxReasonBytes = 1024;

void WriteReason(const absl::Status& status, schema::Error::Builder to) {
  const std::string message(status.message());
  WriteStatus(absl::Status(status.code(), message.substr(0, kMaxReasonBytes)), to);
}

// Something that is not known, also where the other side gives no reason.
absl::Status ReadReason(schema::Error::Reader from) {
  const absl::Status status = ReadStatus(from);
  return status.ok() ? absl::UnknownError("no reason was given") : status;
}

void WriteProcesses(const absl::StatusOr<std::vector<GpuSurvey::Process>>& processes,
                    schema::GpuSurvey::Builder to) {
  absl::Status status = processes.status();
  if (status.ok() && processes->size() > kMaxSurveyProcesses) {
    status = absl::ResourceExhaustedError(absl::StrCat(
        "NVML lists ", processes->size(), " processes, more than ", kMaxSurveyProcesses));
  }
  to.setProcessesKnown(status.ok());
  if (!status.ok()) {
    WriteReason(status, to.initProcessesError());
    return;
  }
  auto list = to.initProcesses(static_cast<unsigned>(processes->size()));
  for (unsigned i = 0; i < list.size(); ++i) {
    const GpuSurvey::Process& process = (*processes)[i];
    list[i].setPid(process.pid);
    list[i].setBytesKnown(process.bytes.has_value());
    list[i].setBytes(process.bytes.value_or(0));
  }
}

}  // namespace

void WriteSurvey(const GpuSurvey& survey, schema::GpuSurvey::Builder to) {
  to.setMemoryKnown(survey.memory.ok());
  if (survey.memory.ok()) {
    to.setTotalBytes(survey.memory->total_bytes);
    to.setFreeBytes(survey.memory->free_bytes);
  } else {
    WriteReason(survey.memory.status(), to.initMemoryError());
  }
  WriteProcesses(survey.processes, to);
  to.setMigKnown(survey.mig.ok());
  if (survey.mig.ok()) {
    to.setMig(*survey.mig);
  } else {
    WriteReason(survey.mig.status(), to.initMigError());
  }
}

GpuSurvey ReadSurvey(schema::GpuSurvey::Reader from) {
  GpuSurvey survey{.memory = ReadReason(from.getMemoryError()),
                   .processes = ReadReason(from.getProcessesError()),
                   .mig = ReadReason(from.getMigError())};
  if (from.getMemoryKnown()) {
    survey.memory = GpuSurvey::Memory{from.getTotalBytes(), from.getFreeBytes()};
  }
  if (from.getProcessesKnown()) {
    std::vector<GpuSurvey::Process> list;
    for (const auto process : from.getProcesses()) {
      GpuSurvey::Process one{.pid = process.getPid(), .bytes = std::nullopt};
      if (process.getBytesKnown()) one.bytes = process.getBytes();
      list.push_back(one);
    }
    survey.processes = std::move(list);
  }
  if (from.getMigKnown()) survey.mig = from.getMig();
  return survey;
}

absl::StatusOr<Uuid> ReadUuid(capnp::Data::Reader from) {
  Uuid uuid{};
  if (from.size() != sizeof(uuid.bytes)) {
    return absl::InvalidArgumentError(
        absl::StrCat("a device UUID of ", from.size(), " bytes: it has 16"));
  }
  std::memcpy(uuid.bytes, from.begin(), sizeof(uuid.bytes));
  return uuid;
}

}  // namespace baton::ipc::cuda
