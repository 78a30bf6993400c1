// A process on a simulated machine, for the simulation's own tests: forked off
// the test before that has any thread or driver, and told what to do over a
// socket.
//
// Thread safety: none.
#ifndef BATON_TESTS_SIMGPU_SIM_PROCESS_H_
#define BATON_TESTS_SIMGPU_SIM_PROCESS_H_

#include <sys/types.h>

#include <functional>
#include <string>

#include "gtest/gtest.h"

#include "ipc/cuda/driver.h"
#include "ipc/cuda/nvml.h"
#include "ipc/unique_fd.h"
#include "tests/simgpu/sim_gpu.h"

namespace baton::testing {

// One end of a socket between a test and its process. Every wait ends when the
// other end is gone.
class Link {
 public:
  explicit Link(ipc::UniqueFd socket) : socket_(std::move(socket)) {}

  void Send(const std::string& text, int descriptor = -1) const;
  // "" when the other end is gone.
  std::string Receive(ipc::UniqueFd* descriptor = nullptr) const;
  template <typename T>
  void SendValue(const T& value) const {
    Send(std::string(reinterpret_cast<const char*>(&value), sizeof(value)));
  }
  template <typename T>
  T ReceiveValue() const {
    T value{};
    const std::string text = Receive();
    EXPECT_EQ(text.size(), sizeof(value));
    if (text.size() == sizeof(value)) text.copy(reinterpret_cast<char*>(&value), sizeof(value));
    return value;
  }
  // Whether Receive would return at once.
  bool HasMessage() const;
  void Close() { socket_.reset(); }

 private:
  ipc::UniqueFd socket_;
};

class SimProcess {
 public:
  // Runs `body` in a process of its own, on `gpu`. What it EXPECTs and does not
  // get is a failure of the test, too (with Join).
  SimProcess(const SimGpu& gpu, const std::function<void(Link&)>& body);
  ~SimProcess();  // kills it
  SimProcess(const SimProcess&) = delete;
  SimProcess& operator=(const SimProcess&) = delete;

  pid_t pid() const { return pid_; }
  Link& link() { return link_; }
  // SIGKILL, and reaped when this returns.
  void Kill();
  // Waits for its end and expects it to have gone well.
  void Join();

 private:
  pid_t pid_ = -1;
  Link link_{ipc::UniqueFd()};
};

// In a SimProcess: its driver and NVML. Fails the process where there is none.
const ipc::cuda::Driver& Cuda();
const ipc::cuda::Nvml& Management();
// Makes the device's primary context and makes it current.
void UseContext(int device = 0);
// What the driver says is free of the current device.
uint64_t FreeBytes();
ipc::cuda::DevicePtr MustAlloc(size_t bytes);
void Upload(ipc::cuda::DevicePtr to, const std::string& text);
std::string Download(ipc::cuda::DevicePtr from, size_t bytes);

}  // namespace baton::testing

#endif  // BATON_TESTS_SIMGPU_SIM_PROCESS_H_
