#include "runtime/supervisor/importer_table.h"

#include <algorithm>

namespace baton::runtime {
namespace {

using State = Importer::State;

// Ended long before the arena's owner: the driver had nothing to charge to it.
bool IsGone(const ipc::ProcessIdentity& process) {
  if (process.pid == 0) return false;  // nobody can tell
  const auto now = ipc::ProcessIdentity::Of(process.pid);
  return now.ok() ? *now != process : absl::IsNotFound(now.status());
}

}  // namespace

void ImporterTable::Join(const Importer& importer, std::vector<Importer>& to) {
  const auto same = std::find_if(to.begin(), to.end(), [&](const Importer& other) {
    return other.process == importer.process;
  });
  if (same == to.end()) {
    to.push_back(importer);
  } else {
    same->state = std::min(same->state, importer.state);
  }
}

void ImporterTable::Offered(uint64_t generation, SessionId session,
                            const ipc::ProcessIdentity& process) {
  Generation& entry = generations_[generation];
  std::erase_if(entry.ended, [](const Importer& importer) { return IsGone(importer.process); });
  entry.sessions[session] = {.process = process, .state = State::kOpen};
}

void ImporterTable::Closed(uint64_t generation, SessionId session) {
  const auto entry = generations_.find(generation);
  if (entry == generations_.end()) return;
  const auto found = entry->second.sessions.find(session);
  if (found != entry->second.sessions.end()) found->second.state = State::kClosed;
}

void ImporterTable::Ended(SessionId session, bool cut_off) {
  for (auto& [generation, entry] : generations_) {
    const auto found = entry.sessions.find(session);
    if (found == entry.sessions.end()) continue;
    Importer importer = found->second;
    entry.sessions.erase(found);
    if (importer.state == State::kOpen && !cut_off) importer.state = State::kLeft;
    Join(importer, entry.ended);
  }
}

std::vector<Importer> ImporterTable::Of(uint64_t generation) const {
  const auto entry = generations_.find(generation);
  if (entry == generations_.end()) return {};
  std::vector<Importer> importers = entry->second.ended;
  for (const auto& [session, importer] : entry->second.sessions) Join(importer, importers);
  return importers;
}

}  // namespace baton::runtime
