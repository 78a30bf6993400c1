// Which processes were sent which generation's arena, and what has become of
// it: what the supervisor knows where no kernel object counts the mappings.
//
// Thread safety: belongs to the supervisor's one thread. Asks nobody but /proc,
// for who has ended.
//
// Invariants
// 1. A process counts as an importer from when it was sent the arena until the
//    generation is forgotten, whatever it says; what it says is its state.
// 2. One entry a process and generation once its sessions have ended, so that a
//    service that comes and goes for weeks costs one.
#ifndef BATON_RUNTIME_SUPERVISOR_IMPORTER_TABLE_H_
#define BATON_RUNTIME_SUPERVISOR_IMPORTER_TABLE_H_

#include <cstdint>
#include <map>
#include <vector>

#include "runtime/supervisor/gpu_question.h"

namespace baton::runtime {

class ImporterTable {
 public:
  using SessionId = uint64_t;

  // `process`: pid 0 where it cannot be seen from here.
  void Offered(uint64_t generation, SessionId session, const ipc::ProcessIdentity& process);
  // It has said that it maps it no more, or that it never could.
  void Closed(uint64_t generation, SessionId session);
  // Its connection has ended. `cut_off`: by us, because it did not answer.
  void Ended(SessionId session, bool cut_off);
  void Forget(uint64_t generation) { generations_.erase(generation); }

  // One entry a process: the state of the session that has it most.
  std::vector<Importer> Of(uint64_t generation) const;

 private:
  struct Generation {
    std::map<SessionId, Importer> sessions;  // that last
    std::vector<Importer> ended;             // one a process
  };
  static void Join(const Importer& importer, std::vector<Importer>& to);

  std::map<uint64_t, Generation> generations_;
};

}  // namespace baton::runtime

#endif  // BATON_RUNTIME_SUPERVISOR_IMPORTER_TABLE_H_
