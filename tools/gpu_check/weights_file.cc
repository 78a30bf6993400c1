#include "tools/gpu_check/weights_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>

#include "absl/strings/str_cat.h"

namespace baton::gpu_check {

absl::StatusOr<std::unique_ptr<WeightsFile>> WeightsFile::Make(uint64_t bytes) {
  std::unique_ptr<WeightsFile> file(new WeightsFile());
  file->fd_.reset(::memfd_create("baton-gpu-check-weights", MFD_CLOEXEC));
  // Reserved, so that no write to the mapping finds that there is no memory.
  const int error =
      !file->fd_ ? errno : ::posix_fallocate(file->fd_.get(), 0, static_cast<off_t>(bytes));
  if (error != 0) {
    return absl::ResourceExhaustedError(
        absl::StrCat("no ", bytes >> 20, " MiB of host memory for weights: ",
                     std::string(absl::ErrnoToStatus(error, "memfd").message())));
  }
  void* const mapped =
      ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file->fd_.get(), 0);
  if (mapped == MAP_FAILED) return absl::ErrnoToStatus(errno, "cannot map the weights");
  file->memory_ = static_cast<std::byte*>(mapped);
  file->size_ = bytes;
  auto* const words = static_cast<uint64_t*>(mapped);
  for (uint64_t i = 0; i < bytes / sizeof(uint64_t); ++i) words[i] = i * 0x9e3779b97f4a7c15u;
  return file;
}

WeightsFile::~WeightsFile() {
  if (memory_ != nullptr) ::munmap(memory_, size_);
}

std::string WeightsFile::path() const {
  return absl::StrCat("/proc/", ::getpid(), "/fd/", fd_.get());
}

absl::StatusOr<uint64_t> AvailableHostBytes() {
  std::ifstream meminfo("/proc/meminfo");
  std::string name, unit;
  for (uint64_t kibibytes = 0; meminfo >> name >> kibibytes; std::getline(meminfo, unit)) {
    if (name == "MemAvailable:") return kibibytes << 10;
  }
  return absl::UnavailableError("/proc/meminfo has no MemAvailable");
}

}  // namespace baton::gpu_check
