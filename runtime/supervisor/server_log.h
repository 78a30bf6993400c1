// The supervisor's log: lines on standard error that carry the server's name.
//
// Thread safety: any thread. Nothing that is logged may hold a secret's value.
#ifndef BATON_RUNTIME_SUPERVISOR_SERVER_LOG_H_
#define BATON_RUNTIME_SUPERVISOR_SERVER_LOG_H_

#include <memory>
#include <string>

#include "spdlog/logger.h"

namespace baton::runtime {

using ServerLog = std::shared_ptr<spdlog::logger>;

ServerLog MakeServerLog(const std::string& server);

// The same place for lines that are whole already: those of workers.
ServerLog MakeOutputLog();

}  // namespace baton::runtime

#endif  // BATON_RUNTIME_SUPERVISOR_SERVER_LOG_H_
