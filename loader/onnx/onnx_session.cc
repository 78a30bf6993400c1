#include "loader/onnx/onnx_session.h"

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <exception>

#include "absl/strings/str_cat.h"

namespace baton::loader {
namespace {

// ONNX Runtime's own sink writes to stdout when it has colours; ours never does,
// and names the model: `log_id` is the session's.
void LogToStderr(void*, OrtLoggingLevel severity, const char*, const char* log_id, const char*,
                 const char* message) {
  const char* level = severity >= ORT_LOGGING_LEVEL_ERROR ? "error" : "warning";
  std::fprintf(stderr, "onnx model '%s': %s: %s\n", log_id, level, message);
}

// One a process, and never destroyed: sessions may outlive static destruction.
Ort::Env& Environment() {
  static Ort::Env* const environment = [] {
    auto* env = new Ort::Env(ORT_LOGGING_LEVEL_WARNING, "baton", LogToStderr, nullptr);
    env->DisableTelemetryEvents();
    return env;
  }();
  return *environment;
}

Ort::SessionOptions SessionOptionsFrom(const ModelConfig& config, const OnnxOptions& options) {
  Ort::SessionOptions session;
  session.SetLogId(config.name.c_str());
  session.SetLogSeverityLevel(ORT_LOGGING_LEVEL_WARNING);
  session.SetExecutionMode(ORT_SEQUENTIAL);
  session.SetInterOpNumThreads(1);
  session.SetIntraOpNumThreads(options.intra_op_threads);
  session.AddConfigEntry("session.intra_op.allow_spinning", options.spin ? "1" : "0");
  // A memory pattern is kept for every combination of input shapes that was ever
  // seen: with dynamic dimensions that grows without a bound.
  session.DisableMemPattern();
  if (!options.cpu_arena) session.DisableCpuMemArena();
  return session;
}

}  // namespace

absl::Status StatusFromOnnx(const Ort::Exception& error, const std::string& what) {
  const std::string message = absl::StrCat(what, ": ", error.what());
  switch (error.GetOrtErrorCode()) {
    case ORT_NO_SUCHFILE:
      return absl::NotFoundError(message);
    case ORT_INVALID_ARGUMENT:
    case ORT_INVALID_PROTOBUF:
    case ORT_INVALID_GRAPH:
    case ORT_NO_MODEL:
      return absl::InvalidArgumentError(message);
    case ORT_NOT_IMPLEMENTED:
      return absl::UnimplementedError(message);
    default:
      return absl::InternalError(message);
  }
}

absl::StatusOr<Ort::Session> OpenOnnxSession(const ModelConfig& config,
                                             const OnnxOptions& options) {
  // ONNX Runtime reports a missing file as a failed load; say it plainly.
  if (::access(config.file.c_str(), R_OK) != 0) {
    return absl::NotFoundError(absl::StrCat(config.file, ": ", std::strerror(errno), "; `file` in ",
                                            config.directory,
                                            "/config.yaml must name the .onnx file"));
  }
  try {
    return Ort::Session(Environment(), config.file.c_str(), SessionOptionsFrom(config, options));
  } catch (const Ort::Exception& error) {
    const absl::Status status = StatusFromOnnx(error, config.file);
    // ORT_FAIL is also what a truncated file gets: a bad file, not our bug.
    return absl::IsInternal(status) ? absl::InvalidArgumentError(status.message()) : status;
  } catch (const std::exception& error) {
    return absl::InvalidArgumentError(absl::StrCat(config.file, ": ", error.what()));
  }
}

}  // namespace baton::loader
