// libcuda.so.1: modules, and kernels that run as functions on the host.
#include <dlfcn.h>

#include <cstddef>
#include <cstdio>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/simgpu/driver_exports.h"
#include "tests/simgpu/driver_state.h"

namespace baton::ipc::cuda::sim {
namespace {

class TranslatedMemory : public DeviceMemory {
 public:
  explicit TranslatedMemory(const AddressSpace& space) : space_(space) {}
  bool faulted() const { return faulted_; }

 private:
  void* Translate(DevicePtr address, size_t bytes, bool to_write) override {
    void* const memory = bytes == 0 ? nullptr : space_.Translate(address, bytes, to_write);
    if (memory == nullptr && bytes != 0) faulted_ = true;
    return memory;
  }

  const AddressSpace& space_;
  bool faulted_ = false;
};

std::optional<KernelEntry> FindIn(const KernelTable& table, std::string_view name) {
  for (size_t i = 0; i < table.count; ++i) {
    if (table.entries[i].name == name) return table.entries[i];
  }
  return std::nullopt;
}

std::optional<KernelEntry> FindKernel(const Knobs& knobs, std::string_view name) {
  if (auto found = FindIn(BuiltInKernels(), name)) return found;
  const std::optional<std::string> path = knobs.Text("kernel_library");
  if (!path.has_value()) return std::nullopt;
  // Opened once however often; never closed, as launches keep its functions.
  void* const library = ::dlopen(path->c_str(), RTLD_NOW | RTLD_LOCAL);
  void* const symbol = library == nullptr ? nullptr : ::dlsym(library, kKernelLibrarySymbol);
  if (symbol == nullptr) {
    const char* const why = ::dlerror();
    std::fprintf(stderr, "simgpu: kernel_library: %s\n", why == nullptr ? path->c_str() : why);
    return std::nullopt;
  }
  return FindIn(reinterpret_cast<KernelLibraryFunction>(symbol)(), name);
}

bool IsFunction(const DriverState& state, Function function) {
  for (const auto& [handle, module] : state.modules) {
    for (const auto& live : module->functions) {
      if (live.get() == function) return true;
    }
  }
  return false;
}

}  // namespace

extern "C" {

Result SimModuleLoadData(Module* module, const void* image) {
  Call call("cuModuleLoadData", Needs::kContext);
  if (call.refused()) return call.result();
  if (module == nullptr || image == nullptr) return kInvalidValue;
  auto created = std::make_unique<ModuleRep>();
  created->context = call.context();
  *module = created.get();
  call->modules[*module] = std::move(created);
  return kSuccess;
}

Result SimModuleUnload(Module module) {
  Call call("cuModuleUnload", Needs::kContext);
  if (call.refused()) return call.result();
  return call->modules.erase(module) == 1 ? kSuccess : kInvalidHandle;
}

Result SimModuleGetFunction(Function* function, Module module, const char* name) {
  Call call("cuModuleGetFunction", Needs::kContext);
  if (call.refused()) return call.result();
  if (function == nullptr || name == nullptr) return kInvalidValue;
  const auto it = call->modules.find(module);
  if (it == call->modules.end()) return kInvalidHandle;
  const std::optional<KernelEntry> kernel = FindKernel(call.knobs(), name);
  if (!kernel.has_value()) return kNotFound;
  it->second->functions.push_back(std::make_unique<FunctionRep>(FunctionRep{*kernel}));
  *function = it->second->functions.back().get();
  return kSuccess;
}

Result SimLaunchKernel(Function function, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                       unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared_bytes,
                       Stream stream, void** parameters, void** extra) {
  Call call("cuLaunchKernel", Needs::kContext);
  if (call.refused()) return call.result();
  if (!IsFunction(call.state(), function) || !call->IsStream(stream)) return kInvalidHandle;
  constexpr unsigned kMostThreadsInBlock = 1024;
  const uint64_t threads = uint64_t{block_x} * block_y * block_z;
  if (grid_x == 0 || grid_y == 0 || grid_z == 0 || threads == 0 || threads > kMostThreadsInBlock ||
      parameters == nullptr || parameters[0] == nullptr || extra != nullptr) {
    return kInvalidValue;
  }
  const KernelEntry kernel = function->kernel;
  const LaunchGrid grid = {.grid = {grid_x, grid_y, grid_z},
                           .block = {block_x, block_y, block_z},
                           .shared_bytes = shared_bytes};
  // Aligned as any struct may ask.
  std::vector<std::max_align_t> args(kernel.args_bytes / sizeof(std::max_align_t) + 1);
  std::memcpy(args.data(), parameters[0], kernel.args_bytes);
  DriverState& state = call.state();
  return state.Submit(
      call.context(), stream, [&state, kernel, grid, args = std::move(args)]() -> Result {
        const uint64_t fault =
            state.machine->Now()->Number("fault." + std::string(kernel.name), kSuccess);
        if (fault != kSuccess) return static_cast<Result>(fault);
        TranslatedMemory memory(state.space);
        kernel.body(args.data(), memory, grid);
        return memory.faulted() ? kIllegalAddress : kSuccess;
      });
}

}  // extern "C"

}  // namespace baton::ipc::cuda::sim
