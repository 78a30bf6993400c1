#include "runtime/supervisor/confirmation.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "capnp/message.h"

#include "ipc/crash_point.h"
#include "ipc/cuda/gpu_messages.h"
#include "ipc/device.h"
#include "runtime/supervisor/gpu_look.h"
#include "runtime/supervisor/gpu_question.h"

namespace baton::runtime {

namespace schema = ipc::schema;
using Kind = schema::Verdict::Kind;

namespace {

// More names than anybody reads; and an answer has to fit into one packet.
constexpr size_t kMaxHolders = 64;

struct Look {
  Kind kind = Kind::UNKNOWN;
  std::vector<pid_t> holders;
  std::string source;
  std::string detail;
};

Look LookAtHost(ipc::ControlMessage& message) {
  const auto question = message.envelope().getConfirm();
  ipc::ArenaExport arena{.fd = message.TakeFd(0),
                         .token = {},
                         .bytes = question.getBytes(),
                         .generation = question.getGeneration()};
  Look look;
  const auto witness = ipc::WitnessHostArena(std::move(arena), question.getAskedBefore());
  if (!witness.ok()) {
    look.detail = std::string(witness.status().message());
    return look;
  }
  look.source = std::string((*witness)->source());
  switch ((*witness)->Confirm()) {
    case ipc::ArenaWitness::Verdict::kFreed:
      look.kind = Kind::FREED;
      break;
    case ipc::ArenaWitness::Verdict::kStillMapped:
      look.kind = Kind::STILL_MAPPED;
      if (question.getNameHolders()) look.holders = (*witness)->Holders();
      break;
    case ipc::ArenaWitness::Verdict::kDriverHeld:
      look.kind = Kind::DRIVER_HELD;
      break;
    case ipc::ArenaWitness::Verdict::kUnknown:
      look.detail = "the kernel does not say; somebody else may have sealed the arena";
      break;
  }
  return look;
}  // the witness goes, and the arena's descriptor with it

Look LookAtDevice(schema::Confirm::Reader confirm, ipc::cuda::GpuSource& gpus,
                  ipc::cuda::TrialAllocator& allocator) {
  using Verdict = ipc::cuda::GpuConfirmation::Verdict;
  const absl::StatusOr<GpuQuestion> question = ReadGpuQuestion(confirm.getGpu());
  Look look;
  if (!question.ok()) {
    look.detail = std::string(question.status().message());
    return look;
  }
  ipc::cuda::GpuConfirmation found = LookAtGpu(*question, confirm.getBytes(), gpus, allocator);
  look.holders = std::move(found.holders);
  look.source = std::move(found.source);
  look.detail = std::move(found.detail);
  switch (found.verdict) {
    case Verdict::kFreed:
      look.kind = Kind::FREED;
      break;
    case Verdict::kStillMapped:
      look.kind = Kind::STILL_MAPPED;
      break;
    case Verdict::kDriverHeld:
      look.kind = Kind::DRIVER_HELD;
      break;
    case Verdict::kUnknown:
      look.kind = Kind::UNKNOWN;
      break;
  }
  return look;
}

absl::Status AnswerSurvey(ipc::ControlSocket& supervisor, const ipc::ControlMessage& message,
                          ipc::cuda::GpuSource& gpus) {
  const auto asked = message.envelope().getSurvey();
  const absl::StatusOr<ipc::cuda::Uuid> device = ipc::cuda::ReadUuid(asked.getDevice());
  const ipc::cuda::GpuSurvey survey =
      device.ok() ? gpus.Survey(*device) : ipc::cuda::UnknownSurvey(device.status());
  capnp::MallocMessageBuilder answer;
  auto envelope = answer.initRoot<schema::Envelope>();
  envelope.setCall(message.call());
  auto surveyed = envelope.initSurveyed();
  surveyed.setGeneration(asked.getGeneration());
  ipc::cuda::WriteSurvey(survey, surveyed.initSurvey());
  return supervisor.Send(answer);
}

absl::Status AnswerVerdict(ipc::ControlSocket& supervisor, uint64_t call, uint64_t generation,
                           const Look& look) {
  capnp::MallocMessageBuilder message;
  auto envelope = message.initRoot<schema::Envelope>();
  envelope.setCall(call);
  auto verdict = envelope.initVerdict();
  verdict.setGeneration(generation);
  verdict.setVerdict(look.kind);
  verdict.setSource(look.source);
  verdict.setDetail(look.detail);
  const auto count = static_cast<unsigned>(std::min(look.holders.size(), kMaxHolders));
  auto holders = verdict.initHolders(count);
  for (unsigned i = 0; i < count; ++i) holders.set(i, look.holders[i]);
  return supervisor.Send(message);
}

}  // namespace

absl::Status AnswerConfirmations(ipc::ControlSocket& supervisor, ipc::cuda::GpuSource& gpus,
                                 ipc::cuda::TrialAllocator& allocator) {
  for (;;) {
    auto message = supervisor.Receive(absl::InfiniteDuration());
    if (!message.ok()) return message.status();
    absl::Status answered;
    switch (message->envelope().which()) {
      case schema::Envelope::CONFIRM: {
        BATON_CRASH_POINT("confirm.asked");
        const auto question = message->envelope().getConfirm();
        Look look;
        if (BATON_FAIL_POINT("confirm.look")) {
          look.detail = "the look fails at the point confirm.look";
        } else if (question.hasGpu()) {
          look = LookAtDevice(question, gpus, allocator);
        } else {
          look = LookAtHost(*message);
        }
        BATON_CRASH_POINT("confirm.looked");
        answered = AnswerVerdict(supervisor, message->call(), question.getGeneration(), look);
        break;
      }
      case schema::Envelope::SURVEY:
        BATON_CRASH_POINT("confirm.surveying");
        answered = AnswerSurvey(supervisor, *message, gpus);
        break;
      default:
        return absl::InvalidArgumentError(
            "the supervisor said something that is neither `confirm` nor `survey`");
    }
    if (!answered.ok()) return answered;
  }
}

}  // namespace baton::runtime
