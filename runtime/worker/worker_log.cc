#include "runtime/worker/worker_log.h"

#include <unistd.h>

#include <memory>

#include "runtime/stderr_sink.h"
#include "spdlog/spdlog.h"

namespace baton::runtime {

void InitWorkerLog(const std::string& server, uint64_t generation) {
  auto logger = std::make_shared<spdlog::logger>(server + " worker g" + std::to_string(generation),
                                                 std::make_shared<StderrSink>(STDERR_FILENO));
  logger->set_pattern("%Y-%m-%d %H:%M:%S.%e %l %n: %v");  // the supervisor's
  logger->flush_on(spdlog::level::trace);
  spdlog::set_default_logger(std::move(logger));
}

}  // namespace baton::runtime
