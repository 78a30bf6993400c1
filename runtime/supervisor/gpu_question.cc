#include "runtime/supervisor/gpu_question.h"

#include <algorithm>
#include <utility>

#include "ipc/cuda/gpu_messages.h"

namespace baton::runtime {

namespace schema = ipc::schema;
using State = schema::GpuQuestion::Importer::State;

namespace {

void WriteProcess(const ipc::ProcessIdentity& process, schema::GpuQuestion::Process::Builder to) {
  to.setPid(process.pid);
  to.setStartTime(process.start_time);
}

ipc::ProcessIdentity ReadProcess(schema::GpuQuestion::Process::Reader from) {
  return {.pid = from.getPid(), .start_time = from.getStartTime()};
}

}  // namespace

void WriteGpuQuestion(const GpuQuestion& question, schema::GpuQuestion::Builder to) {
  to.setDevice(ipc::cuda::UuidData(question.device));
  WriteProcess(question.owner, to.initOwner());
  to.setSuccessorPid(question.successor);
  to.setNeededBytes(question.needed_bytes);
  std::vector<Importer> told = question.importers;
  if (told.size() > kMaxImportersTold) {
    std::stable_sort(told.begin(), told.end(),
                     [](const Importer& a, const Importer& b) { return a.state < b.state; });
    told.resize(kMaxImportersTold);
    told.push_back({.process = {}, .state = Importer::State::kOpen});
  }
  auto importers = to.initImporters(static_cast<unsigned>(told.size()));
  for (unsigned i = 0; i < importers.size(); ++i) {
    WriteProcess(told[i].process, importers[i].initProcess());
    importers[i].setState(told[i].state == Importer::State::kClosed ? State::CLOSED
                          : told[i].state == Importer::State::kLeft ? State::LEFT
                                                                    : State::OPEN);
  }
  if (question.baseline) ipc::cuda::WriteSurvey(*question.baseline, to.initBaseline());
}

absl::StatusOr<GpuQuestion> ReadGpuQuestion(schema::GpuQuestion::Reader from) {
  GpuQuestion question;
  absl::StatusOr<ipc::cuda::Uuid> device = ipc::cuda::ReadUuid(from.getDevice());
  if (!device.ok()) return device.status();
  question.device = *device;
  question.owner = ReadProcess(from.getOwner());
  question.successor = from.getSuccessorPid();
  question.needed_bytes = from.getNeededBytes();
  for (const auto importer : from.getImporters()) {
    Importer one{.process = ReadProcess(importer.getProcess()), .state = Importer::State::kOpen};
    if (importer.getState() == State::CLOSED) one.state = Importer::State::kClosed;
    if (importer.getState() == State::LEFT) one.state = Importer::State::kLeft;
    question.importers.push_back(one);
  }
  if (from.hasBaseline()) question.baseline = ipc::cuda::ReadSurvey(from.getBaseline());
  return question;
}

}  // namespace baton::runtime
