// baton-simgpu-run PROGRAM ARGUMENT...: runs a program on a simulated machine
// of its own, which goes with it. Its exit code, or 125: it could not be run.
//
// The simulated driver is found from where this program lies, in a build folder
// as in a bundle of tools/gpu-check.
#include <signal.h>
#include <stdlib.h>

#include <cstdio>
#include <filesystem>
#include <string>
#include <system_error>

#include "absl/time/time.h"

#include "ipc/process.h"
#include "tests/simgpu/sim_gpu.h"

namespace {

constexpr int kCannotRun = 125;

int Run(int argc, char** argv) {
  std::error_code error;
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", error);
  std::string libraries = (self.parent_path().parent_path() / "tests/simgpu/lib").string();
  if (!std::filesystem::exists(libraries + "/libcuda.so.1")) {
    std::fprintf(stderr, "baton-simgpu-run: no libcuda.so.1 in %s\n", libraries.c_str());
    return kCannotRun;
  }
  if (const char* const before = ::getenv("LD_LIBRARY_PATH"); before != nullptr && *before != 0) {
    libraries += std::string(":") + before;
  }
  const baton::testing::SimGpu gpu;
  ::setenv("LD_LIBRARY_PATH", libraries.c_str(), 1);
  ::setenv("BATON_SIMGPU", gpu.folder().c_str(), 1);
  auto process = baton::ipc::SpawnProcess(
      {.executable = argv[1], .args = {argv + 2, argv + argc}, .new_process_group = false});
  if (!process.ok()) {
    std::fprintf(stderr, "baton-simgpu-run: %s\n", std::string(process.status().message()).c_str());
    return kCannotRun;
  }
  // ^C is the program's to act on; the machine goes after it.
  ::signal(SIGINT, SIG_IGN);
  const auto end = process->Reap(absl::InfiniteDuration());
  if (!end.ok() || end->kind == baton::ipc::ExitStatus::Kind::kUnknown) return kCannotRun;
  return end->kind == baton::ipc::ExitStatus::Kind::kExited ? end->value : 128 + end->value;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2 || argv[1][0] == '-') {
    std::fputs("usage: baton-simgpu-run PROGRAM ARGUMENT...\n", stderr);
    return 2;
  }
  return Run(argc, argv);
}
