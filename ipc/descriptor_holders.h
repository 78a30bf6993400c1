// Which processes have a file open.
#ifndef BATON_IPC_DESCRIPTOR_HOLDERS_H_
#define BATON_IPC_DESCRIPTOR_HOLDERS_H_

#include <sys/types.h>

#include <vector>

namespace baton::ipc {

// Whether `pid` has the file behind `fd` open. False also for a process that
// this user may not look into, and where there is none.
bool HoldsDescriptor(pid_t pid, int fd);

// All that have, by pid, without this process. As far as this user may look;
// so an empty answer proves nothing. Any thread. Reads /proc/*/fd:
// milliseconds, more on a machine with many processes.
std::vector<pid_t> FindDescriptorHolders(int fd);

}  // namespace baton::ipc

#endif  // BATON_IPC_DESCRIPTOR_HOLDERS_H_
