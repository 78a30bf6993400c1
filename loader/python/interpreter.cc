#include "loader/python/interpreter.h"

#include <dlfcn.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"

#include "loader/python/python_log.h"
#include "loader/python/python_types.h"
#include "loader/python/value_codec.h"
#include "loader/python/worker_module.h"

namespace baton::python {
namespace {

namespace py = pybind11;

// Extension modules of Python's are not linked to libpython: they find it among
// the process's global symbols. This library was opened with local ones.
void MakePythonGlobal() {
  Dl_info info;
  if (::dladdr(reinterpret_cast<void*>(&Py_InitializeFromConfig), &info) == 0) return;
  ::dlopen(info.dli_fname, RTLD_NOW | RTLD_GLOBAL | RTLD_NOLOAD);
}

// Where the package `baton` lies: python/ beside this library.
std::string PackageFolder() {
  Dl_info info;
  if (::dladdr(reinterpret_cast<void*>(&PackageFolder), &info) == 0) return "";
  return (std::filesystem::path(info.dli_fname).parent_path() / "python").string();
}

std::string Executable(const std::string& wanted) {
  if (!wanted.empty()) return wanted;
  if (const char* environment = std::getenv("VIRTUAL_ENV"); environment != nullptr) {
    const auto python = std::filesystem::path(environment) / "bin" / "python3";
    std::error_code error;
    if (std::filesystem::exists(python, error)) return python.string();
  }
  return BATON_PYTHON_EXECUTABLE;
}

absl::Status Initialize(const std::string& executable) {
  PyConfig config;
  PyConfig_InitPythonConfig(&config);
  config.parse_argv = 0;
  config.install_signal_handlers = 0;  // the worker's own stay
  config.write_bytecode = 0;           // a model's folder is watched, and may be read-only
  PyStatus status = PyConfig_SetBytesString(&config, &config.program_name, executable.c_str());
  if (!PyStatus_Exception(status)) status = Py_InitializeFromConfig(&config);
  PyConfig_Clear(&config);
  if (!PyStatus_Exception(status)) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      "Python (", executable,
      ") does not start: ", status.err_msg == nullptr ? "it wants to exit" : status.err_msg));
}

// With the GIL.
absl::Status Prepare() {
  try {
    const std::string folder = PackageFolder();
    py::list path = py::module_::import("sys").attr("path");
    // First, so that a package of that name elsewhere is not taken for it; then
    // last, for processes that the model starts.
    path.insert(0, folder);
    py::module_::import("baton");
    path.attr("pop")(0);
    path.append(folder);
    AddWorkerModule();
    PythonTypes::Get();
    py::module_::import("baton._log")
        .attr("redirect")(py::cpp_function([](int descriptor, const py::bytes& bytes) {
          PythonLog::Write(std::string_view(bytes),
                           descriptor == STDOUT_FILENO ? PythonLog::kOut : PythonLog::kError);
        }));
    py::module_::import("faulthandler").attr("enable")(2);
  } catch (py::error_already_set& error) {
    error.restore();
    return absl::FailedPreconditionError(absl::StrCat(
        "Python does not find what the loader needs (python3-numpy): ", TakePythonError()));
  }
  return absl::OkStatus();
}

// Of one thread that calls Python.
class ThreadState {
 public:
  ThreadState() {
    // What is printed when the thread's values go is put together by a thread-local, which has to
    // be there longer than this: made before it.
    PythonLog::EndLines();
    gil_ = PyGILState_Ensure();
    state_ = PyEval_SaveThread();
  }
  ~ThreadState() {
    PyEval_RestoreThread(state_);
    PyGILState_Release(gil_);
  }
  ThreadState(const ThreadState&) = delete;
  ThreadState& operator=(const ThreadState&) = delete;

 private:
  PyGILState_STATE gil_;
  PyThreadState* state_;
};

}  // namespace

void KeepThreadState() {
  if (PyGILState_GetThisThreadState() != nullptr) return;
  thread_local const ThreadState state;
}

absl::Status StartInterpreter(const std::string& executable) {
  static bool ready = false;
  if (ready) return absl::OkStatus();
  const bool first = Py_IsInitialized() == 0;
  if (first) {
    MakePythonGlobal();
    absl::Status started = Initialize(Executable(executable));
    if (!started.ok()) return started;
  }
  absl::Status prepared;
  {
    const Gil gil;
    prepared = Prepare();
  }
  ready = prepared.ok();
  if (first) PyEval_SaveThread();  // it came with the GIL
  return prepared;
}

}  // namespace baton::python
