#include "bench/spsc_ring.h"

#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstring>

#include "bench/ping_pong.h"

namespace baton::bench {

SpscRing::SpscRing(int peer_cpu, uint32_t in_flight) {
  void* memory = ::mmap(nullptr, sizeof(Lines), PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (memory == MAP_FAILED) return;
  lines_ = static_cast<Lines*>(memory);
  // Slots start with the stamps of the lap before the first, as a channel's do.
  for (uint64_t i = 0; i < kEntries; ++i) {
    for (auto* entries : {lines_->there, lines_->back}) entries[i].stamp.store(i - kEntries);
  }
  peer_ = ::fork();
  if (peer_ == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    PinThisThread(peer_cpu);
    Echo();
  }
  there_ = {lines_->there, kEntries, 0};
  back_ = {lines_->back, kEntries, 0};
  for (uint32_t i = 0; i < in_flight; ++i) Send();
}

SpscRing::~SpscRing() {
  if (peer_ > 0) {
    ::kill(peer_, SIGKILL);
    ::waitpid(peer_, nullptr, 0);
  }
  if (lines_ != nullptr) ::munmap(lines_, sizeof(Lines));
}

void SpscRing::Echo() {
  ipc::RingConsumer<ipc::SubmissionEntry> there(lines_->there, kEntries, 0);
  ipc::RingProducer<ipc::SubmissionEntry> back(lines_->back, kEntries, 0);
  ipc::TakenEntry<ipc::SubmissionEntry> taken;
  for (;;) {
    if (!there.TryTake(&taken)) continue;
    back.Publish([&](ipc::SubmissionEntry& entry) {
      std::memcpy(static_cast<void*>(&entry.request_id), &taken->request_id, taken.kBody);
    });
  }
}

void SpscRing::Send() {
  there_.Publish([this](ipc::SubmissionEntry& entry) {
    std::memset(static_cast<void*>(&entry.request_id), 0, sizeof(entry) - sizeof(entry.stamp));
    entry.request_id = ++sent_;
  });
}

void SpscRing::Exchange(uint32_t count) {
  ipc::TakenEntry<ipc::SubmissionEntry> taken;
  while (count > 0) {
    uint32_t got = 0;
    while (got < count && back_.TryTake(&taken)) ++got;
    for (uint32_t i = 0; i < got; ++i) Send();
    count -= got;
  }
}

}  // namespace baton::bench
