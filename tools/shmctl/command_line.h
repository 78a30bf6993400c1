// shmctl's command line: the verbs, and what they share.
//
// Thread safety: none; one thread makes, parses and runs it.
#ifndef BATON_TOOLS_SHMCTL_COMMAND_LINE_H_
#define BATON_TOOLS_SHMCTL_COMMAND_LINE_H_

#include <functional>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"
#include "absl/time/time.h"

#include "tools/shmctl/exit_code.h"

namespace baton::shmctl {

class CommandLine {
 public:
  CommandLine();
  CommandLine(const CommandLine&) = delete;
  CommandLine& operator=(const CommandLine&) = delete;

  // Parses and runs one command. Results go to standard output; what went
  // wrong goes to standard error as text, also with --json. Standard output
  // stays empty then, but for the verbs whose report tells of the failure
  // itself: reload, bench, doctor and status of all servers.
  ExitCode Run(int argc, const char* const* argv);

  // The verbs' names, in the order of the help.
  std::vector<std::string> verbs() const;

  // ---- For the verbs, which each add themselves in a file of their own

  // Adds a verb; `example` are the command lines that its help shows.
  CLI::App& AddVerb(const std::string& name, const std::string& description,
                    const std::string& example);
  // What `verb` does once everything is parsed.
  void OnRun(CLI::App& verb, std::function<absl::Status()> run);

  // --run-directory; empty: the user's own.
  const std::string& run_directory() const { return run_directory_; }

 private:
  CLI::App app_;
  std::string run_directory_;
  std::function<absl::Status()> selected_;
};

// A bound in seconds, for --timeout.
struct TimeoutOption {
  double seconds;
  absl::Duration duration() const { return absl::Seconds(seconds); }
};
void AddTimeout(CLI::App& verb, TimeoutOption& timeout, const std::string& description);
void AddServerName(CLI::App& verb, std::string& name);
// --input name=FILE, any number of times.
void AddInputs(CLI::App& verb, std::vector<std::string>& inputs, const std::string& description);
void AddJson(CLI::App& verb, bool& json);

void AddServe(CommandLine& line);
void AddInfer(CommandLine& line);
void AddSignature(CommandLine& line);
void AddStatus(CommandLine& line);
void AddLs(CommandLine& line);
void AddReload(CommandLine& line);
void AddReceipts(CommandLine& line);
void AddTimeline(CommandLine& line);
void AddBench(CommandLine& line);
void AddStop(CommandLine& line);
void AddDoctor(CommandLine& line);

}  // namespace baton::shmctl

#endif  // BATON_TOOLS_SHMCTL_COMMAND_LINE_H_
