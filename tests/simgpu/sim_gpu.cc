#include "tests/simgpu/sim_gpu.h"

#include <dlfcn.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <system_error>

#include "tests/simgpu/knobs.h"

namespace baton::testing {
namespace {

using ipc::cuda::sim::Books;
using ipc::cuda::sim::Entry;
using ipc::cuda::sim::Knobs;
using ipc::cuda::sim::RecordKind;

constexpr char kLibraries[] = BATON_SIMGPU_LIBRARIES;

[[noreturn]] void Die(const std::string& what) {
  std::perror(("simgpu: " + what).c_str());
  std::abort();
}

std::string RandomDigits(size_t bytes) {
  std::string random(bytes, '\0');
  if (::getrandom(random.data(), bytes, 0) != static_cast<ssize_t>(bytes)) Die("getrandom");
  std::string digits;
  for (const char byte : random) {
    char text[3];
    std::snprintf(text, sizeof(text), "%02x", static_cast<unsigned char>(byte));
    digits += text;
  }
  return digits;
}

std::string KnobText(const std::map<std::string, std::string>& knobs) {
  std::string text;
  for (const auto& [name, value] : knobs) text += name + "=" + value + "\n";
  return text;
}

}  // namespace

SimGpu::SimGpu(const SimGpuOptions& options) : folder_("/dev/shm/simgpu." + RandomDigits(16)) {
  if (::mkdir(folder_.c_str(), 0700) != 0) Die(folder_);
  if (!Books::MakeMachine(folder_)) Die(folder_);
  knobs_["capacity_bytes"] = std::to_string(options.capacity_bytes);
  knobs_["context_bytes"] = std::to_string(options.context_bytes);
  knobs_["uuid"] = RandomDigits(sizeof(ipc::cuda::Uuid));
  WriteKnobs();
  books_ = Books::Open(folder_);
  if (books_ == nullptr) Die(folder_);
}

SimGpu::~SimGpu() {
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

ipc::cuda::Uuid SimGpu::uuid() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return Knobs::Parse(KnobText(knobs_)).UuidOf(0);
}

void SimGpu::WriteKnobs() {
  const std::string path = folder_ + "/knobs";
  const std::string next = path + ".next";
  std::ofstream file(next, std::ios::binary | std::ios::trunc);
  file << KnobText(knobs_);
  file.close();
  if (!file || ::rename(next.c_str(), path.c_str()) != 0) Die(path);
}

void SimGpu::SetKnob(const std::string& name, const std::string& value) {
  const std::lock_guard<std::mutex> lock(mutex_);
  knobs_[name] = value;
  WriteKnobs();
}

void SimGpu::SetKnob(const std::string& name, uint64_t value) {
  SetKnob(name, std::to_string(value));
}

void SimGpu::ClearKnob(const std::string& name) {
  const std::lock_guard<std::mutex> lock(mutex_);
  knobs_.erase(name);
  WriteKnobs();
}

std::map<std::string, std::string> SimGpu::Variables() const {
  std::string path = kLibraries;
  if (const char* const before = std::getenv("LD_LIBRARY_PATH")) {
    if (*before != '\0') path += std::string(":") + before;
  }
  return {{"LD_LIBRARY_PATH", path}, {"BATON_SIMGPU", folder_}};
}

std::vector<std::string> SimGpu::Environment() const {
  std::vector<std::string> environment;
  for (const auto& [name, value] : Variables()) environment.push_back(name + "=" + value);
  return environment;
}

void SimGpu::UseInThisProcess() const {
  for (const auto& [name, value] : Variables()) ::setenv(name.c_str(), value.c_str(), 1);
  // Loaded by path, they are what their names mean to dlopen from now on.
  for (const char* name : {"/libcuda.so.1", "/libnvidia-ml.so.1"}) {
    const std::string path = std::string(kLibraries) + name;
    if (::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL) == nullptr) {
      std::fprintf(stderr, "simgpu: %s\n", ::dlerror());
      std::abort();
    }
  }
}

std::vector<Entry> SimGpu::Look() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return books_->Look(Knobs::Parse(KnobText(knobs_)).teardown());
}

uint64_t SimGpu::BytesInUse() const {
  uint64_t bytes = 0;
  for (const Allocation& allocation : Allocations()) bytes += allocation.bytes;
  return bytes;
}

uint64_t SimGpu::ContextBytes() const {
  uint64_t bytes = 0;
  for (const Entry& entry : Look()) {
    if (entry.record.kind == RecordKind::kContext) bytes += entry.record.charged_bytes();
  }
  return bytes;
}

std::map<pid_t, uint64_t> SimGpu::Holders() const {
  std::map<pid_t, uint64_t> holders;
  for (const Entry& entry : Look()) {
    if (entry.charged.has_value()) holders[*entry.charged] += entry.record.charged_bytes();
  }
  return holders;
}

std::vector<SimGpu::Allocation> SimGpu::Allocations() const {
  std::vector<Allocation> allocations;
  for (const Entry& entry : Look()) {
    if (entry.record.kind == RecordKind::kContext) continue;
    allocations.push_back({.id = entry.record.id,
                           .owner = entry.record.owner,
                           .bytes = entry.record.charged_bytes(),
                           .holders = entry.holders,
                           .descriptors = entry.descriptors,
                           .tearing_down = entry.ended});
  }
  return allocations;
}

uint64_t SimGpu::PeakBytes() const { return books_->PeakBytes(); }

}  // namespace baton::testing
