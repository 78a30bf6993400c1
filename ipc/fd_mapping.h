// A descriptor as something that Boost.Interprocess can map.
#ifndef BATON_IPC_FD_MAPPING_H_
#define BATON_IPC_FD_MAPPING_H_

#include "boost/interprocess/detail/os_file_functions.hpp"

namespace baton::ipc {

// What Boost.Interprocess calls a MemoryMappable. Borrows the descriptor, which
// may be closed once it is mapped. The mode is the one that mapped_region
// compares its own with, and need not be the descriptor's.
class FdMapping {
 public:
  FdMapping(int fd, boost::interprocess::mode_t mode) : fd_(fd), mode_(mode) {}

  boost::interprocess::mapping_handle_t get_mapping_handle() const { return {fd_, false}; }
  boost::interprocess::mode_t get_mode() const { return mode_; }

 private:
  int fd_;
  boost::interprocess::mode_t mode_;
};

}  // namespace baton::ipc

#endif  // BATON_IPC_FD_MAPPING_H_
