// One cell of the fault matrix, run for real: a server, two fronts under load, a deed, and all that
// has to hold afterwards.
#ifndef BATON_TESTS_CRASH_FAULT_CELL_H_
#define BATON_TESTS_CRASH_FAULT_CELL_H_

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "tests/crash/fault_matrix.h"
#include "tests/crash/front_process.h"
#include "tests/runtime/supervisor/control_client.h"
#include "tests/system/system_test_base.h"
#include "tests/system/test_server.h"

namespace baton::testing {

class FaultCell {
 public:
  static constexpr uint64_t kWeightsBytes = 4 << 20;

  // `points`: one of the plan's runs.
  FaultCell(const Cell& cell, const CellPlan& plan, FaultPoints points);
  // Kills whatever is left of it.
  ~FaultCell();
  FaultCell(const FaultCell&) = delete;
  FaultCell& operator=(const FaultCell&) = delete;

  // Once. What came of it ("swapped aborted 1"), or what is not as it has to be.
  absl::StatusOr<std::string> Run();

 private:
  struct Load {
    std::unique_ptr<FrontProcess> process;
    int descriptors = 0;  // before the deed
    bool dead = false;    // killed: nobody knows what it knew
    bool cut_off = false;
  };

  // In the order in which they come.
  absl::Status Prepare();
  absl::Status StartServer(bool faulty);
  absl::Status StartFront();
  absl::Status AwaitObserver() const;
  absl::Status ReachState();
  absl::Status MakeUnavailable();
  absl::Status DoDeed();
  absl::Status LetSupervisorHang();
  absl::Status RestartServer();
  absl::Status AwaitPinned();
  absl::Status AwaitOutcome();
  absl::Status CheckStruck() const;
  absl::Status CheckServes();
  absl::Status Lift();
  absl::Status ReloadOnceMore();
  bool IsExcused(const ControlClient::Reloaded& reloaded) const;
  absl::Status CheckOneGeneration();
  absl::Status CheckNothingGrew();
  absl::Status EndFronts();
  absl::Status CheckTally(Load& front);
  absl::Status CheckNothingLeft();

  absl::StatusOr<ControlClient> Control() const;
  ControlClient::ServerStatus Status() const;
  absl::Status AskForReload() const;
  absl::StatusOr<pid_t> FindTarget() const;
  // The target, where it is a front.
  Load* TargetFront();
  // What the receipts say.
  std::string Outcome() const;
  std::string ConfigLines() const;

  const Cell cell_;
  const CellPlan plan_;
  const FaultPoints points_;
  const bool stops_at_state_;
  TempDirectory temp_;
  const std::string run_directory_;
  const std::string mark_;
  std::unique_ptr<TestServer> server_;
  std::unique_ptr<DeviceObserver> observer_;
  uint64_t looks_at_deed_ = 0;  // of the observer
  std::vector<Load> fronts_;
  std::vector<pid_t> pids_;  // of all that may have made shared memory
  int server_descriptors_ = 0;
  size_t processes_ = 0;
  pid_t old_worker_ = 0;
  pid_t helper_ = 0;
  pid_t target_ = 0;
  std::string outcome_;
  bool recorded_ = true;  // in the receipts
  uint64_t aborted_ = 0;
  uint64_t expired_ = 0;
};

}  // namespace baton::testing

#endif  // BATON_TESTS_CRASH_FAULT_CELL_H_
