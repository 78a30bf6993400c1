// A confirmation helper that answers as $BATON_TEST_CONFIRM says:
//   driver     driver-held; to a survey, too, which is no answer to it
//   mute       never
//   old-call   freed, to the call before the one that was asked
//   other      freed, about another generation
//   alternate  freed and unknown, in turn
//   die        not: it exits when it is asked
#include <cstdlib>
#include <string>
#include <utility>

#include "capnp/message.h"

#include "ipc/control_socket.h"
#include "runtime/supervisor/confirmation.h"

int main() {
  using Kind = baton::ipc::schema::Verdict::Kind;
  const char* asked = std::getenv("BATON_TEST_CONFIRM");
  const std::string script = asked != nullptr ? asked : "";
  baton::ipc::ControlSocket supervisor{baton::ipc::UniqueFd(baton::runtime::kConfirmSocketFd)};
  for (bool freed = true;; freed = !freed) {
    const auto message = supervisor.Receive(absl::InfiniteDuration());
    if (!message.ok() || script == "die") return 7;
    if (script == "mute") continue;
    capnp::MallocMessageBuilder answer;
    auto envelope = answer.initRoot<baton::ipc::schema::Envelope>();
    envelope.setCall(message->call() - (script == "old-call" ? 1 : 0));
    auto verdict = envelope.initVerdict();
    const uint64_t generation = message->envelope().isSurvey()
                                    ? message->envelope().getSurvey().getGeneration()
                                    : message->envelope().getConfirm().getGeneration();
    verdict.setGeneration(generation + (script == "other" ? 1 : 0));
    verdict.setVerdict(script == "driver"                ? Kind::DRIVER_HELD
                       : script == "alternate" && !freed ? Kind::UNKNOWN
                                                         : Kind::FREED);
    verdict.setSource("a script");
    if (!supervisor.Send(answer).ok()) return 8;
  }
}
