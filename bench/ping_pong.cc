#include "bench/ping_pong.h"

#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <new>

namespace baton::bench {

PingPong::PingPong(int peer_cpu) {
  void* memory = ::mmap(nullptr, sizeof(Lines), PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (memory == MAP_FAILED) return;
  lines_ = new (memory) Lines{};
  peer_ = ::fork();
  if (peer_ != 0) return;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  PinThisThread(peer_cpu);
  for (uint64_t expected = 1;; ++expected) {
    while (lines_->ping.load(std::memory_order_acquire) != expected) ipc::SpinPause();
    lines_->pong.store(expected, std::memory_order_release);
  }
}

PingPong::~PingPong() {
  if (peer_ > 0) {
    ::kill(peer_, SIGKILL);
    ::waitpid(peer_, nullptr, 0);
  }
  if (lines_ != nullptr) ::munmap(lines_, sizeof(Lines));
}

bool PinProcess(pid_t pid, int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  return ::sched_setaffinity(pid, sizeof(set), &set) == 0;
}

bool PinThisThread(int cpu) { return PinProcess(0, cpu); }

}  // namespace baton::bench
