// Which processes map a file: to name the one that keeps memory from going.
#ifndef BATON_IPC_MAPPING_HOLDERS_H_
#define BATON_IPC_MAPPING_HOLDERS_H_

#include <sys/types.h>

#include <vector>

namespace baton::ipc {

// The processes whose maps name the file behind `fd`, by pid. Best effort, for
// a message: other pid namespaces and processes that this user may not look
// into are left out, so an empty answer proves nothing. Any thread. Reads
// /proc/*/maps: milliseconds, more on a machine with many processes.
std::vector<pid_t> FindMappingHolders(int fd);

}  // namespace baton::ipc

#endif  // BATON_IPC_MAPPING_HOLDERS_H_
