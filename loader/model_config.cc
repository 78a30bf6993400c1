#include "loader/model_config.h"

#include <algorithm>
#include <exception>
#include <filesystem>
#include <set>
#include <span>
#include <system_error>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "ipc/open_device.h"
#include "loader/backends.h"
#include "loader/config_node.h"
#include "loader/file_reader.h"

namespace baton::loader {
namespace {

constexpr size_t kMaxModelNameBytes = 64;
constexpr int64_t kMaxThreads = 1024;
constexpr int64_t kMaxCpus = 1024;  // of a cpu_set_t
constexpr int64_t kMaxNumaNodes = 1024;

bool IsNameCharacter(char c) { return absl::ascii_isalnum(c) || c == '_' || c == '-' || c == '.'; }

bool IsModelName(const std::string& name) {
  return !name.empty() && name.size() <= kMaxModelNameBytes && absl::ascii_isalnum(name[0]) &&
         std::all_of(name.begin(), name.end(), IsNameCharacter);
}

// A name that IsModelName, from that of a folder, which may have any.
std::string NameFromFolder(const std::string& folder) {
  std::string name = folder.substr(0, kMaxModelNameBytes);
  for (char& c : name) {
    if (!IsNameCharacter(c)) c = '_';
  }
  if (name.empty() || !absl::ascii_isalnum(name[0])) name = absl::StrCat("m", name);
  return name.substr(0, kMaxModelNameBytes);
}

template <typename T>
absl::Status Assign(absl::StatusOr<T> value, T& to) {
  if (value.ok()) to = *std::move(value);
  return value.status();
}

absl::Status ReadModelName(const ConfigNode& node, std::string& name) {
  absl::Status read = Assign(node.Text(), name);
  if (!read.ok() || IsModelName(name)) return read;
  return node.Error(
      absl::StrCat("a name has 1 to ", kMaxModelNameBytes,
                   " letters, digits, '_', '-' or '.', the first a letter or a digit"));
}

absl::Status ReadDevice(const ConfigNode& node, std::string& device) {
  absl::Status read = Assign(node.Text(), device);
  if (!read.ok() || ipc::ParseDeviceName(device).ok()) return read;
  return node.Error("expected host, or cuda:N with a number N");
}

absl::Status ReadTransport(const ConfigNode& node, std::optional<ipc::cuda::Transport>& transport) {
  const std::string choices[] = {"auto", "ipc", "vmm"};
  const absl::StatusOr<std::string> choice = node.Choice(choices);
  if (!choice.ok()) return choice.status();
  if (*choice == "ipc") transport = ipc::cuda::Transport::kIpc;
  if (*choice == "vmm") transport = ipc::cuda::Transport::kVmm;
  return absl::OkStatus();
}

absl::Status ReadShape(const ConfigNode& node, std::vector<int64_t>& shape) {
  absl::StatusOr<std::vector<ConfigNode>> dims = node.List();
  if (!dims.ok()) return dims.status();
  if (dims->size() > kMaxRank)
    return node.Error(absl::StrCat("more than ", kMaxRank, " dimensions"));
  for (const ConfigNode& dim : *dims) {
    int64_t value = 0;
    const absl::StatusOr<std::string> text = dim.Text();
    if (text.ok() && (*text == "?" || *text == "-1")) {
      value = kDynamicDim;
    } else if (!text.ok() || !absl::SimpleAtoi(*text, &value) || value < 0) {
      return dim.Error("expected a dimension of 0 or more, or '?' for one that requests choose");
    }
    shape.push_back(value);
  }
  return absl::OkStatus();
}

absl::Status CheckTensor(const ConfigNode& node, const TensorSpec& spec, bool has_shape) {
  if (spec.name.empty()) return node.Error("'name' is missing");
  if (spec.dtype == DType::kInvalid) return node.Error("'dtype' is missing");
  if (!has_shape) return node.Error("'shape' is missing ([] for a single number)");
  std::vector<int64_t> smallest = spec.shape;
  std::replace(smallest.begin(), smallest.end(), kDynamicDim, int64_t{1});
  if (!TensorBytes(spec.dtype, smallest)) return node.Error("the shape overflows 64-bit sizes");
  return absl::OkStatus();
}

absl::Status ReadTensor(const ConfigNode& node, TensorSpec& spec) {
  bool has_shape = false;
  const ConfigKey keys[] = {
      {"name",
       [&](const ConfigNode& value) {
         absl::Status read = Assign(value.Text(), spec.name);
         if (!read.ok() || spec.name.size() <= kMaxNameBytes) return read;
         return value.Error(absl::StrCat("more than ", kMaxNameBytes, " bytes"));
       }},
      {"dtype",
       [&](const ConfigNode& value) {
         std::vector<std::string> names;
         for (uint8_t i = 1; i <= kMaxDType; ++i) names.emplace_back(DTypeName(DType{i}));
         absl::StatusOr<std::string> name = value.Choice(names);
         if (name.ok()) spec.dtype = DTypeFromName(*name);
         return name.status();
       }},
      {"shape",
       [&](const ConfigNode& value) {
         has_shape = true;
         return ReadShape(value, spec.shape);
       }},
  };
  absl::Status read = node.Map(keys);
  return read.ok() ? CheckTensor(node, spec, has_shape) : read;
}

absl::Status ReadTensors(const ConfigNode& node, std::vector<TensorSpec>& specs) {
  absl::StatusOr<std::vector<ConfigNode>> entries = node.List();
  if (!entries.ok()) return entries.status();
  if (entries->size() > kMaxTensors) {
    return node.Error(absl::StrCat("more than ", kMaxTensors, " tensors"));
  }
  std::set<std::string> names;
  for (const ConfigNode& entry : *entries) {
    absl::Status read = ReadTensor(entry, specs.emplace_back());
    if (!read.ok()) return read;
    if (!names.insert(specs.back().name).second) {
      return entry.Error(absl::StrCat("another tensor has the name '", specs.back().name, "'"));
    }
  }
  return absl::OkStatus();
}

absl::Status ReadSignature(const ConfigNode& node, std::optional<Signature>& signature) {
  Signature& into = signature.emplace();
  const ConfigKey keys[] = {
      {"inputs", [&](const ConfigNode& value) { return ReadTensors(value, into.inputs); }},
      {"outputs", [&](const ConfigNode& value) { return ReadTensors(value, into.outputs); }},
  };
  absl::Status read = node.Map(keys);
  if (read.ok() && into.outputs.empty()) return node.Error("'outputs' names no tensor");
  return read;
}

absl::Status ReadLimits(const ConfigNode& node, ModelConfig& config) {
  const ConfigKey keys[] = {
      {"max_request_bytes",
       [&](const ConfigNode& value) { return Assign(value.Size(), config.max_request_bytes); }},
      {"device_capacity",
       [&](const ConfigNode& value) { return Assign(value.Size(), config.device_capacity_bytes); }},
      {"device_results",
       [&](const ConfigNode& value) { return Assign(value.Size(), config.device_results_bytes); }},
      {"device_inputs",
       [&](const ConfigNode& value) { return Assign(value.Size(), config.device_inputs_bytes); }},
  };
  return node.Map(keys);
}

absl::Status ReadCpu(const ConfigNode& node, std::vector<int>& cpus) {
  const absl::StatusOr<int64_t> cpu = node.Integer();
  if (!cpu.ok()) return cpu.status();
  if (*cpu < 0 || *cpu >= kMaxCpus) {
    return node.Error(absl::StrCat("expected the number of a CPU, 0 to ", kMaxCpus - 1));
  }
  if (std::ranges::find(cpus, *cpu) != cpus.end()) {
    return node.Error(absl::StrCat("CPU ", *cpu, " is named twice"));
  }
  cpus.push_back(static_cast<int>(*cpu));
  return absl::OkStatus();
}

absl::Status ReadCpus(const ConfigNode& node, std::vector<int>& cpus) {
  const absl::StatusOr<std::vector<ConfigNode>> entries = node.List();
  if (!entries.ok()) return entries.status();
  if (entries->empty()) return node.Error("names no CPU; leave it out to use any");
  for (const ConfigNode& entry : *entries) {
    if (absl::Status read = ReadCpu(entry, cpus); !read.ok()) return read;
  }
  return absl::OkStatus();
}

absl::Status ReadNumaNode(const ConfigNode& node, std::optional<int>& numa_node) {
  const absl::StatusOr<int64_t> number = node.Integer();
  if (!number.ok()) return number.status();
  if (*number < 0 || *number >= kMaxNumaNodes) {
    return node.Error(absl::StrCat("expected 0 to ", kMaxNumaNodes - 1));
  }
  numa_node = static_cast<int>(*number);
  return absl::OkStatus();
}

absl::Status ReadMaxSpin(const ConfigNode& node, std::optional<absl::Duration>& max_spin) {
  const absl::StatusOr<absl::Duration> duration = node.Duration();
  if (!duration.ok()) return duration.status();
  max_spin = *duration;
  return absl::OkStatus();
}

absl::Status ReadWorker(const ConfigNode& node, ModelConfig& config) {
  const ConfigKey keys[] = {
      {"cpu", [&](const ConfigNode& value) { return ReadCpu(value, config.worker_cpu); }},
      {"cpus", [&](const ConfigNode& value) { return ReadCpus(value, config.worker_cpus); }},
      {"numa_node",
       [&](const ConfigNode& value) { return ReadNumaNode(value, config.worker_numa_node); }},
      {"max_spin",
       [&](const ConfigNode& value) { return ReadMaxSpin(value, config.worker_max_spin); }},
  };
  absl::Status read = node.Map(keys);
  if (!read.ok() || config.worker_cpu.empty() || config.worker_cpus.empty()) return read;
  if (std::ranges::find(config.worker_cpus, config.worker_cpu[0]) == config.worker_cpus.end()) {
    return node.Error(absl::StrCat("'cpu' is ", config.worker_cpu[0], ", which 'cpus' leaves out"));
  }
  return absl::OkStatus();
}

absl::Status ReadBatching(const ConfigNode& node, BatchingPolicy& policy) {
  const auto integer = [](const char* name, int64_t least, int64_t most, auto& to) {
    return ConfigKey{name, [least, most, &to](const ConfigNode& value) {
                       const absl::StatusOr<int64_t> number = value.Integer();
                       if (!number.ok()) return number.status();
                       if (*number < least || *number > most) {
                         return value.Error(absl::StrCat("expected ", least, " to ", most));
                       }
                       to = static_cast<std::remove_reference_t<decltype(to)>>(*number);
                       return absl::OkStatus();
                     }};
  };
  const ConfigKey keys[] = {
      integer("max_batch", 1, BatchingPolicy::kMaxRows, policy.max_batch),
      integer("max_delay_us", 0, BatchingPolicy::kMaxDelayUs, policy.max_delay_us),
  };
  absl::Status read = node.Map(keys);
  if (!read.ok() || policy.on() || policy.max_delay_us == 0) return read;
  return node.Error("'max_delay_us' is for batches: write a 'max_batch' of more than 1 row");
}

absl::Status ReadReload(const ConfigNode& node, ReloadPolicy& policy) {
  const auto duration = [](const char* name, absl::Duration& to) {
    return ConfigKey{name, [&to](const ConfigNode& value) { return Assign(value.Duration(), to); }};
  };
  const ConfigKey keys[] = {
      {"strategy",
       [&policy](const ConfigNode& value) {
         const std::string choices[] = {"exclusive", "overlap", "auto"};
         const absl::StatusOr<std::string> choice = value.Choice(choices);
         if (!choice.ok()) return choice.status();
         policy.strategy = *choice == "overlap" ? ReloadStrategy::kOverlap
                           : *choice == "auto"  ? ReloadStrategy::kAuto
                                                : ReloadStrategy::kExclusive;
         return absl::OkStatus();
       }},
      {"on_unconfirmed",
       [&policy](const ConfigNode& value) {
         const std::string choices[] = {"hold", "override"};
         const absl::StatusOr<std::string> choice = value.Choice(choices);
         if (!choice.ok()) return choice.status();
         policy.on_unconfirmed =
             *choice == "override" ? OnUnconfirmed::kOverride : OnUnconfirmed::kHold;
         return absl::OkStatus();
       }},
      {"watch", [&policy](const ConfigNode& value) { return Assign(value.Bool(), policy.watch); }},
      duration("load_timeout", policy.load_timeout),
      duration("drain_timeout", policy.drain_timeout),
      duration("close_timeout", policy.close_timeout),
      duration("cleanup_timeout", policy.cleanup_timeout),
      duration("confirm_timeout", policy.confirm_timeout),
      duration("helper_timeout", policy.helper_timeout),
  };
  return node.Map(keys);
}

// Where the code of a Python model may lie, in its directory.
constexpr const char* kPythonFiles[] = {"model.py", "1/model.py"};

// The first of them that is there; "" without one.
std::string PythonFile(const std::filesystem::path& folder) {
  std::error_code error;
  for (const char* file : kPythonFiles) {
    if (std::filesystem::is_regular_file(folder / file, error)) return file;
  }
  return "";
}

// What the config.yaml of a Python model may say to others: the SDK that such
// models were written for, and its platform.
constexpr const char* kForeignKeys[] = {
    "build_info", "checkpoints", "concepts", "inference_compute_info", "model", "train_info"};

// Nodes that can be read only when the whole document is known.
struct Deferred {
  std::optional<ConfigNode> file;
  std::vector<ConfigNode> backend_options;
  std::vector<ConfigNode> python_only;  // keys that no other loader has
};

void AddPythonKeys(ModelConfig& config, Deferred& deferred, std::vector<ConfigKey>& keys) {
  for (const char* key : kForeignKeys) {
    keys.push_back({key, [&deferred](const ConfigNode& node) {
                      deferred.python_only.push_back(node);
                      return absl::OkStatus();
                    }});
  }
  keys.push_back({"num_threads", [&](const ConfigNode& node) {
                    deferred.python_only.push_back(node);
                    const absl::StatusOr<int64_t> threads = node.Integer();
                    if (!threads.ok()) return threads.status();
                    if (*threads < 1 || *threads > kMaxThreads) {
                      return node.Error(absl::StrCat("expected 1 to ", kMaxThreads));
                    }
                    config.options["num_threads"] = absl::StrCat(*threads);
                    return absl::OkStatus();
                  }});
}

absl::Status ReadDocument(const ConfigNode& document, ModelConfig& config, Deferred& deferred) {
  const std::vector<std::string> loaders = BackendNames();
  std::vector<ConfigKey> keys = {
      {"name", [&](const ConfigNode& node) { return ReadModelName(node, config.name); }},
      {"loader",
       [&](const ConfigNode& node) { return Assign(node.Choice(loaders), config.loader); }},
      {"device", [&](const ConfigNode& node) { return ReadDevice(node, config.device); }},
      {"device_transport",
       [&](const ConfigNode& node) { return ReadTransport(node, config.device_transport); }},
      {"device_huge_pages",
       [&](const ConfigNode& node) { return Assign(node.Bool(), config.device_huge_pages); }},
      {"scrub_device_memory",
       [&](const ConfigNode& node) { return Assign(node.Bool(), config.scrub_device_memory); }},
      {"file",
       [&](const ConfigNode& node) {
         deferred.file = node;
         return Assign(node.Text(), config.file);
       }},
      {"signature", [&](const ConfigNode& node) { return ReadSignature(node, config.signature); }},
      {"limits", [&](const ConfigNode& node) { return ReadLimits(node, config); }},
      {"batching", [&](const ConfigNode& node) { return ReadBatching(node, config.batching); }},
      {"worker", [&](const ConfigNode& node) { return ReadWorker(node, config); }},
      {"reload", [&](const ConfigNode& node) { return ReadReload(node, config.reload); }},
  };
  for (const std::string& loader : loaders) {
    keys.push_back({loader, [&](const ConfigNode& node) {
                      deferred.backend_options.push_back(node);
                      return absl::OkStatus();
                    }});
  }
  const bool has_python = !PythonFile(config.directory).empty();
  if (has_python) AddPythonKeys(config, deferred, keys);
  absl::Status read = document.Map(keys);
  if (!read.ok()) return read;
  if (config.loader.empty() && has_python) config.loader = "python";
  if (config.loader.empty()) {
    return document.Error(
        absl::StrCat("'loader' is missing; write one of ", absl::StrJoin(loaders, ", ")));
  }
  return absl::OkStatus();
}

absl::Status ResolveFile(const ConfigNode& where, ModelConfig& config) {
  const std::filesystem::path file = std::filesystem::path(config.directory) / config.file;
  config.file = file.lexically_normal().string();
  std::error_code error;
  if (std::filesystem::is_regular_file(file, error)) return absl::OkStatus();
  const absl::Status status = where.Error(
      absl::StrCat("no file ", config.file, error ? absl::StrCat(" (", error.message(), ")") : ""));
  return absl::NotFoundError(status.message());
}

absl::Status ReadBackendOptions(const Deferred& deferred, ModelConfig& config) {
  if (!deferred.python_only.empty() && config.loader != "python") {
    return deferred.python_only[0].Error(
        absl::StrCat("a key of the loader 'python', but the loader is '", config.loader, "'"));
  }
  for (const ConfigNode& node : deferred.backend_options) {
    if (node.name() != config.loader) {
      return node.Error(absl::StrCat("these options are for the loader '", node.name(),
                                     "', but the loader is '", config.loader, "'"));
    }
    auto options = ReadOptions(*FindBackend(config.loader), node);
    if (!options.ok()) return options.status();
    config.options.merge(*options);
  }
  return absl::OkStatus();
}

std::filesystem::path Folder(const std::string& directory) {
  std::filesystem::path folder = std::filesystem::absolute(directory).lexically_normal();
  if (!folder.has_filename()) folder = folder.parent_path();  // "models/digits/"
  return folder;
}

absl::StatusOr<ModelConfig> Load(const std::string& directory, const std::string& text) {
  const std::filesystem::path folder = Folder(directory);
  ModelConfig config;
  config.text = text;
  config.directory = folder.string();
  config.name = NameFromFolder(folder.filename().string());
  absl::StatusOr<ConfigNode> document = ConfigNode::Parse((folder / "config.yaml").string(), text);
  if (!document.ok()) return document.status();
  Deferred deferred;
  absl::Status status = ReadDocument(*document, config, deferred);
  if (status.ok()) status = ReadBackendOptions(deferred, config);
  if (status.ok()) {
    if (config.file.empty() && config.loader == "python") config.file = PythonFile(folder);
    if (config.file.empty()) config.file = FindBackend(config.loader)->default_file;
    status = ResolveFile(deferred.file.value_or(*document), config);
  }
  if (!status.ok()) return status;
  return config;
}

}  // namespace

absl::StatusOr<std::string> ReadModelConfigText(const std::string& directory) {
  try {
    const std::filesystem::path folder = Folder(directory);
    auto text = ReadWholeFile((folder / "config.yaml").string(), ConfigNode::kMaxFileBytes);
    if (absl::IsNotFound(text.status()) && !PythonFile(folder).empty()) {
      return std::string("loader: python\n");
    }
    return text;
  } catch (const std::exception& error) {  // std::filesystem's
    return absl::InvalidArgumentError(
        absl::StrCat(directory, "/config.yaml: cannot be read: ", error.what()));
  }
}

absl::StatusOr<ModelConfig> LoadModelConfig(const std::string& directory) {
  absl::StatusOr<std::string> text = ReadModelConfigText(directory);
  if (!text.ok()) return text.status();
  return LoadModelConfig(directory, *text);
}

absl::StatusOr<ModelConfig> LoadModelConfig(const std::string& directory, const std::string& text) {
  try {
    return Load(directory, text);
  } catch (const std::exception& error) {  // yaml-cpp's and std::filesystem's
    return absl::InvalidArgumentError(
        absl::StrCat(directory, "/config.yaml: cannot be read: ", error.what()));
  }
}

}  // namespace baton::loader
