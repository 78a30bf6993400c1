#include "runtime/supervisor/server_log.h"

#include <unistd.h>

#include "runtime/stderr_sink.h"

namespace baton::runtime {

ServerLog MakeServerLog(const std::string& server) {
  auto log = std::make_shared<spdlog::logger>(server, std::make_shared<StderrSink>(STDERR_FILENO));
  log->set_pattern("%Y-%m-%d %H:%M:%S.%e %l %n: %v");
  log->flush_on(spdlog::level::trace);
  return log;
}

ServerLog MakeOutputLog() {
  auto log = std::make_shared<spdlog::logger>("", std::make_shared<StderrSink>(STDERR_FILENO));
  log->set_pattern("%v");
  log->flush_on(spdlog::level::trace);
  return log;
}

}  // namespace baton::runtime
