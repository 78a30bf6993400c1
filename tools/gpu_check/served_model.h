// A private server of a model on the GPU: the baton-supervisor and baton-worker
// that lie beside this program, and a front in this process.
//
// Thread safety: one thread at a time; front() is for any thread.
#ifndef BATON_TOOLS_GPU_CHECK_SERVED_MODEL_H_
#define BATON_TOOLS_GPU_CHECK_SERVED_MODEL_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "baton/front.h"
#include "tools/shmctl/server_client.h"

namespace baton::gpu_check {

// What a reload was, as its receipt says.
struct ReloadFacts {
  std::vector<std::pair<std::string, double>> states_ns;  // in the order they were entered
  double gap_ns = 0;
  uint64_t successor = 0;
};

class ServedModel {
 public:
  // `config`: its config.yaml. The front maps the device memory of each
  // generation. The server's log goes to a file; what it said last is in errors.
  // It ends with the object, and with this process, however that ends.
  static absl::StatusOr<std::unique_ptr<ServedModel>> Launch(unsigned device,
                                                             const std::string& config);
  ~ServedModel();
  ServedModel(const ServedModel&) = delete;
  ServedModel& operator=(const ServedModel&) = delete;

  Front& front() { return *front_; }
  // Asks for one; returns at its end. An error also where it did not swap, or
  // the old generation's memory was not confirmed freed.
  absl::StatusOr<ReloadFacts> Reload();

  // Where weights_model.cc lies, for a config.yaml.
  static std::string WeightsModelPath();
  // The model directory `name` that comes with Baton; empty: it is not here.
  static std::string ShippedModelPath(const std::string& name);

 private:
  explicit ServedModel(std::string folder) : folder_(std::move(folder)) {}
  absl::Status WithLog(const absl::Status& status) const;

  const std::string folder_;
  std::unique_ptr<Front> front_;
  std::optional<shmctl::ServerClient> client_;
};

}  // namespace baton::gpu_check

#endif  // BATON_TOOLS_GPU_CHECK_SERVED_MODEL_H_
