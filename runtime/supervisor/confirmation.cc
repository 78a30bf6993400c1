#include "runtime/supervisor/confirmation.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "capnp/message.h"

#include "ipc/crash_point.h"
#include "ipc/device.h"

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

Look LookAt(ipc::ControlMessage& message) {
  const auto question = message.envelope().getConfirm();
  ipc::ArenaExport arena{.fd = message.TakeFd(0),
                         .token = {},
                         .bytes = question.getBytes(),
                         .generation = question.getGeneration()};
  Look look;
  if (BATON_FAIL_POINT("confirm.look")) {
    look.detail = "the look fails at the point confirm.look";
    return look;
  }
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

absl::Status Answer(ipc::ControlSocket& supervisor, uint64_t call, uint64_t generation,
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

absl::Status AnswerConfirmations(ipc::ControlSocket& supervisor) {
  for (;;) {
    auto message = supervisor.Receive(absl::InfiniteDuration());
    if (!message.ok()) return message.status();
    if (!message->envelope().isConfirm()) {
      return absl::InvalidArgumentError("the supervisor said something that is no `confirm`");
    }
    BATON_CRASH_POINT("confirm.asked");
    const Look look = LookAt(*message);
    BATON_CRASH_POINT("confirm.looked");
    const absl::Status answered =
        Answer(supervisor, message->call(), message->envelope().getConfirm().getGeneration(), look);
    if (!answered.ok()) return answered;
  }
}

}  // namespace baton::runtime
