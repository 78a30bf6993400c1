// What the kernel says of processes that are not our children.
#ifndef BATON_TESTS_SYSTEM_PROCESS_STATE_H_
#define BATON_TESTS_SYSTEM_PROCESS_STATE_H_

#include <sys/types.h>

#include <cstdint>

namespace baton::testing {

// The letter in /proc/PID/stat: R, S, D, T (stopped), Z, ...; 0 when there is no such process.
char ProcessState(pid_t pid);
inline bool IsStopped(pid_t pid) { return ProcessState(pid) == 'T'; }
// Children of `parent` that have ended and were not waited for.
int ZombieChildren(pid_t parent);

struct ProcessMemory {
  uint64_t resident_bytes = 0;  // RSS
  uint64_t own_bytes = 0;       // anonymous: what no other process and no file accounts for
};
// All 0 when there is no such process.
ProcessMemory MemoryOf(pid_t pid);

}  // namespace baton::testing

#endif  // BATON_TESTS_SYSTEM_PROCESS_STATE_H_
