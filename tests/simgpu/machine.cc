#include "tests/simgpu/machine.h"

#include <time.h>
#include <unistd.h>

#include <cstdlib>
#include <utility>

namespace baton::ipc::cuda::sim {
namespace {

constexpr timespec kHangPoll = {.tv_sec = 0, .tv_nsec = 2'000'000};

}  // namespace

Machine* Machine::Get() {
  static Machine* const machine = []() -> Machine* {
    const char* const folder = std::getenv("BATON_SIMGPU");
    if (folder == nullptr) return nullptr;
    std::unique_ptr<Books> books = Books::Open(folder);
    if (books == nullptr) return nullptr;
    return new Machine(folder, std::move(books));  // for the life of the process
  }();
  return machine;
}

Machine::Machine(const std::string& folder, std::unique_ptr<Books> books)
    : pid_(::getpid()), knobs_(folder + "/knobs"), books_(std::move(books)) {}

int Machine::HangOrFail(std::string_view symbol, std::string_view also) {
  const std::string hang = "hang." + std::string(symbol);
  std::shared_ptr<const Knobs> knobs = Now();
  while (knobs->Flag(hang) || (!also.empty() && knobs->Flag(also))) {
    ::nanosleep(&kHangPoll, nullptr);
    knobs = Now();
  }
  return static_cast<int>(knobs->Number("fail." + std::string(symbol), 0));
}

uint64_t BytesInUse(const std::vector<Entry>& entries, const Knobs& knobs, DeviceOrdinal device) {
  uint64_t bytes = device == 0 ? knobs.foreign_bytes() : 0;
  for (const Entry& entry : entries) {
    if (entry.record.device == device) bytes += entry.record.charged_bytes();
  }
  return bytes;
}

}  // namespace baton::ipc::cuda::sim
