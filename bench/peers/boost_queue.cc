#include "bench/peers/boost_queue.h"

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "boost/date_time/posix_time/posix_time_types.hpp"
#include "boost/interprocess/exceptions.hpp"
#include "boost/interprocess/ipc/message_queue.hpp"

#include "bench/peers/peer_end.h"
#include "ipc/spin_budget.h"

namespace baton::bench {
namespace {

using Queue = boost::interprocess::message_queue;

constexpr char kPolled[] = "BoostMessageQueue";
constexpr char kBlocking[] = "BoostMessageQueueBlocking";
constexpr uint64_t kMostBytes = 4 << 20;

std::string RequestsName(const PeerSetup& setup) { return setup.rendezvous + ".requests"; }
std::string AnswersName(const PeerSetup& setup) { return setup.rendezvous + ".answers"; }

// Each look takes the queue's lock: who looks without a pause keeps the other
// side from it.
bool NotYet() {
  ipc::SpinPause();
  return false;
}

// The names go at the latest with this.
class NamedQueues {
 public:
  explicit NamedQueues(const PeerSetup& setup) : setup_(setup) {}
  ~NamedQueues() { Remove(); }
  void Make() {
    using boost::interprocess::create_only;
    requests.emplace(create_only, RequestsName(setup_).c_str(), 1, setup_.bytes);
    answers.emplace(create_only, AnswersName(setup_).c_str(), 1, sizeof(uint64_t));
  }
  void Remove() {
    Queue::remove(RequestsName(setup_).c_str());
    Queue::remove(AnswersName(setup_).c_str());
  }
  std::optional<Queue> requests;
  std::optional<Queue> answers;

 private:
  const PeerSetup setup_;
};

class BoostQueue final : public Peer {
 public:
  explicit BoostQueue(PeerSetup setup) : setup_(std::move(setup)), queues_(setup_) {}

  absl::Status Start(const char* kind, int cpu) {
    blocking_ = kind == kBlocking;
    try {
      queues_.Make();
    } catch (const boost::interprocess::interprocess_exception& error) {
      return absl::ResourceExhaustedError(
          absl::StrCat("cannot make a message queue for ", setup_.bytes, " bytes: ", error.what()));
    }
    absl::StatusOr<std::unique_ptr<PeerEnd>> end =
        PeerEnd::Start({.kind = kind, .setup = setup_, .cpu = cpu});
    // Both have opened them; nothing is left in /dev/shm from here on.
    queues_.Remove();
    if (!end.ok()) return end.status();
    end_ = *std::move(end);
    return absl::OkStatus();
  }

  void Resume() override { end_->Resume(); }
  void Pause() override { end_->Pause(); }
  absl::Status RoundTrip(uint64_t seed) override {
    if (setup_.produced()) WritePayload(payload_, seed);
    uint64_t sum = 0;
    try {
      if (!(blocking_ ? Sleep(&sum) : Poll(&sum))) return end_->Gone();
    } catch (const boost::interprocess::interprocess_exception& error) {
      return absl::InternalError(error.what());
    }
    return CheckSum(setup_, seed, sum);
  }

 private:
  bool Poll(uint64_t* sum) {
    Queue::size_type size = 0;
    unsigned priority = 0;
    return end_->SpinUntil([&] {
      return queues_.requests->try_send(payload_.data(), payload_.size(), 0) || NotYet();
    }) && end_->SpinUntil([&] {
      return queues_.answers->try_receive(sum, sizeof(*sum), size, priority) || NotYet();
    });
  }
  bool Sleep(uint64_t* sum) {
    Queue::size_type size = 0;
    unsigned priority = 0;
    queues_.requests->send(payload_.data(), payload_.size(), 0);
    while (true) {
      const auto second =
          boost::posix_time::microsec_clock::universal_time() + boost::posix_time::seconds(1);
      if (queues_.answers->timed_receive(sum, sizeof(*sum), size, priority, second)) return true;
      if (!end_->alive()) return false;
    }
  }

  const PeerSetup setup_;
  std::vector<std::byte> payload_ = std::vector<std::byte>(setup_.bytes);
  bool blocking_ = false;
  NamedQueues queues_;
  std::unique_ptr<PeerEnd> end_;
};

template <const char* kind>
absl::StatusOr<std::unique_ptr<Peer>> Start(const PeerSetup& setup, int cpu) {
  auto peer = std::make_unique<BoostQueue>(setup);
  if (absl::Status status = peer->Start(kind, cpu); !status.ok()) return status;
  return peer;
}

void ServeQueues(EndSide& side, bool blocking) {
  using boost::interprocess::open_only;
  Queue requests(open_only, RequestsName(side.setup()).c_str());
  Queue answers(open_only, AnswersName(side.setup()).c_str());
  std::vector<std::byte> payload(side.setup().bytes);
  Queue::size_type size = 0;
  unsigned priority = 0;
  side.Ready();
  while (true) {
    if (blocking) {
      requests.receive(payload.data(), payload.size(), size, priority);
    } else {
      while (!requests.try_receive(payload.data(), payload.size(), size, priority)) {
        NotYet();
        side.StepAside();
      }
    }
    const uint64_t sum = side.Read(payload);
    if (blocking) {
      answers.send(&sum, sizeof(sum), 0);
    } else {
      while (!answers.try_send(&sum, sizeof(sum), 0)) side.StepAside();
    }
  }
}

template <const char* kind>
absl::Status Serve(EndSide& side) {
  try {
    ServeQueues(side, kind == kBlocking);
  } catch (const boost::interprocess::interprocess_exception& error) {
    return absl::InternalError(error.what());
  }
  return absl::OkStatus();
}

template <const char* kind>
PeerKind Kind() {
  return {.name = kind,
          .start = Start<kind>,
          .serve = Serve<kind>,
          .most_bytes = kMostBytes,
          .limit = "it reserves every message's size in /dev/shm, and copies twice under a lock"};
}

}  // namespace

PeerKind BoostQueueKind() { return Kind<kPolled>(); }
PeerKind BoostQueueBlockingKind() { return Kind<kBlocking>(); }

}  // namespace baton::bench
