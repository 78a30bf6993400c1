#include "loader/python/python_log.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <mutex>
#include <utility>

#include "absl/strings/str_cat.h"

#include "ipc/redact.h"

namespace baton::python {
namespace {

struct Settings {
  std::mutex mutex;
  std::string model;
  const std::vector<std::string>* secrets = nullptr;
};

Settings& GetSettings() {
  static Settings& settings = *new Settings;  // threads may print while the process ends
  return settings;
}

void Emit(std::string_view line, const std::vector<std::string>* call_secrets) {
  std::string text;
  {
    Settings& settings = GetSettings();
    const std::lock_guard lock(settings.mutex);
    std::vector<std::string_view> secrets;
    for (const auto* values : {settings.secrets, call_secrets}) {
      if (values != nullptr) secrets.insert(secrets.end(), values->begin(), values->end());
    }
    text =
        absl::StrCat("python model '", settings.model, "': ", ipc::Redacted(line, secrets), "\n");
  }
  for (std::string_view rest = text; !rest.empty();) {
    const ssize_t written = ::write(STDERR_FILENO, rest.data(), rest.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return;  // nobody reads the log: the model goes on
    rest.remove_prefix(static_cast<size_t>(written));
  }
}

// A thread's unfinished lines, by stream.
struct Lines {
  std::array<std::string, 2> text;
  const std::vector<std::string>* secrets = nullptr;

  void End() {
    for (std::string& line : text) {
      if (!line.empty()) Emit(std::exchange(line, {}), secrets);
    }
  }
  ~Lines() { End(); }
};

thread_local Lines lines;

}  // namespace

void PythonLog::Configure(const std::string& model, const std::vector<std::string>* secrets) {
  Settings& settings = GetSettings();
  const std::lock_guard lock(settings.mutex);
  settings.model = model;
  settings.secrets = secrets;
}

void PythonLog::Write(std::string_view text, Stream stream) {
  std::string& line = lines.text[stream];
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    const size_t part = std::min(end, kMaxLineBytes - std::min(line.size(), kMaxLineBytes));
    line.append(text.substr(0, part));
    text.remove_prefix(part);
    const bool complete = !text.empty() && text[0] == '\n';
    if (complete) text.remove_prefix(1);
    if (complete || line.size() >= kMaxLineBytes) Emit(std::exchange(line, {}), lines.secrets);
  }
}

void PythonLog::EndLines() { lines.End(); }

void PythonLog::SetCallSecrets(const std::vector<std::string>* secrets) { lines.secrets = secrets; }

}  // namespace baton::python
