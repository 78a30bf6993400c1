// Whether this process is a fork of the one that made something.
#ifndef BATON_RUNTIME_PYTHON_FORK_GUARD_H_
#define BATON_RUNTIME_PYTHON_FORK_GUARD_H_

#include <cstdint>

namespace baton::python {

// Remembers the process that made it.
//
// Thread safety: any thread.
class ForkGuard {
 public:
  ForkGuard() : epoch_(Epoch()) {}
  // Locks may be held for ever here, by threads that this process has not:
  // take none, and leave what the parent made alone. Costs a load.
  bool forked() const { return epoch_ != Epoch(); }

 private:
  static uint32_t Epoch();
  const uint32_t epoch_;
};

}  // namespace baton::python

#endif  // BATON_RUNTIME_PYTHON_FORK_GUARD_H_
