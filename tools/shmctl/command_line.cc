#include "tools/shmctl/command_line.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <iostream>
#include <utility>

#include "tools/shmctl/input_file.h"
#include "tools/shmctl/wrapped_text.h"

namespace baton::shmctl {
namespace {

// CLI11 knows no more of a misspelt verb than that none was given.
std::string FailureMessage(const CLI::App* app, const CLI::Error& error) {
  const std::vector<std::string> rest = app->remaining();
  std::string what = error.what();
  if (app->get_subcommands().empty() && !rest.empty()) what = "there is no '" + rest[0] + "'";
  return "shmctl: " + what + ": see shmctl --help, or shmctl VERB --help\n";
}

// A full disk or a closed pipe is a failure too, and shows itself here.
absl::Status FlushOutput() {
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return absl::OkStatus();
  return absl::UnavailableError(std::string("cannot write to standard output: ") +
                                std::strerror(errno));
}

}  // namespace

CommandLine::CommandLine() : app_("Serves models through shared memory, and looks after them.") {
  app_.name("shmctl");
  app_.require_subcommand(1);
  app_.fallthrough();  // common options may come after the verb, too
  app_.set_help_flag("-h,--help", "Say what there is, and end");
  app_.set_version_flag("--version", "shmctl " BATON_VERSION);
  app_.failure_message(FailureMessage);
  app_.add_option("--run-directory", run_directory_,
                  "Where servers are found (default: $XDG_RUNTIME_DIR/baton, or /tmp/baton-UID)")
      ->type_name("DIR");
  app_.footer(
      "Exit codes: 0 done, 1 failed, 2 usage, 3 no such server.\n"
      "shmctl VERB --help shows a verb's options and an example.");
  AddServe(*this);
  AddLs(*this);
  AddStatus(*this);
  AddSignature(*this);
  AddInfer(*this);
  AddBench(*this);
  AddReload(*this);
  AddReceipts(*this);
  AddTimeline(*this);
  AddStop(*this);
  AddDoctor(*this);
}

std::vector<std::string> CommandLine::verbs() const {
  std::vector<std::string> names;
  for (const CLI::App* verb : app_.get_subcommands({})) names.push_back(verb->get_name());
  return names;
}

CLI::App& CommandLine::AddVerb(const std::string& name, const std::string& description,
                               const std::string& example) {
  CLI::App* verb = app_.add_subcommand(name, description);
  verb->footer("Example:\n  " + example);
  return *verb;
}

void CommandLine::OnRun(CLI::App& verb, std::function<absl::Status()> run) {
  verb.callback([this, run = std::move(run)] { selected_ = run; });
}

ExitCode CommandLine::Run(int argc, const char* const* argv) {
  try {
    app_.parse(argc, argv);
  } catch (const CLI::Error& error) {
    // Help and version are errors to CLI11, with exit code 0.
    return app_.exit(error, std::cout, std::cerr) == 0 ? ExitCode::kDone : ExitCode::kUsage;
  }
  absl::Status status = selected_();
  if (status.ok()) status = FlushOutput();
  if (!status.ok()) {
    // A model's own words may stand in it.
    std::fprintf(stderr, "shmctl: %s\n", Printable(status.message()).c_str());
  }
  return ExitCodeOf(status);
}

void AddTimeout(CLI::App& verb, TimeoutOption& timeout, const std::string& description) {
  verb.add_option("--timeout", timeout.seconds, description)
      ->type_name("SECONDS")
      ->check(CLI::Range(0.001, 86400.0))
      ->capture_default_str();
}

void AddServerName(CLI::App& verb, std::string& name) {
  verb.add_option("name", name, "The server, as shmctl ls shows it")->required()->type_name("NAME");
}

void AddInputs(CLI::App& verb, std::vector<std::string>& inputs, const std::string& description) {
  verb.add_option("--input", inputs, description)
      ->type_name("name=FILE")
      ->allow_extra_args(false)  // what follows may be the server's name
      ->check([](const std::string& text) {
        return std::string(ParseInputArgument(text).status().message());
      });
}

void AddJson(CLI::App& verb, bool& json) {
  verb.add_flag("--json", json, "One line of JSON (its schema: ipc/schema/report.capnp)");
}

}  // namespace baton::shmctl
