// What a model prints, as lines of the worker's log: standard error.
//
// Thread safety: any thread. One write(2) a line, so that lines do not mix;
// each thread puts its own lines together.
#ifndef BATON_LOADER_PYTHON_PYTHON_LOG_H_
#define BATON_LOADER_PYTHON_PYTHON_LOG_H_

#include <string>
#include <string_view>
#include <vector>

namespace baton::python {

class PythonLog {
 public:
  // Lines begin with the model's name. None of `secrets` is written; they must
  // outlive the process's use of Python. Call before the model's code runs.
  static void Configure(const std::string& model, const std::vector<std::string>* secrets);

  enum Stream { kOut = 0, kError = 1 };

  // Adds to this thread's line of that stream; writes what is complete, or
  // longer than kMaxLineBytes.
  static void Write(std::string_view text, Stream stream = kError);
  // Ends this thread's lines, if there are any.
  static void EndLines();

  // Secrets of the call that this thread runs; nullptr: none any more.
  static void SetCallSecrets(const std::vector<std::string>* secrets);

  static constexpr size_t kMaxLineBytes = 8192;
};

}  // namespace baton::python

#endif  // BATON_LOADER_PYTHON_PYTHON_LOG_H_
