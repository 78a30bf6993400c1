// What the kernel counts as a process's memory.
#ifndef BATON_TESTS_SYSTEM_PROCESS_MEMORY_H_
#define BATON_TESTS_SYSTEM_PROCESS_MEMORY_H_

#include <sys/types.h>

#include <cstdint>

namespace baton::testing {

struct ProcessMemory {
  uint64_t resident_bytes = 0;  // RSS
  uint64_t own_bytes = 0;       // anonymous: what no other process and no file accounts for
};
// All 0 when there is no such process.
ProcessMemory MemoryOf(pid_t pid);

}  // namespace baton::testing

#endif  // BATON_TESTS_SYSTEM_PROCESS_MEMORY_H_
