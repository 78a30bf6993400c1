// What is behind Supervisor: one thread, one loop, and the reload machine in
// the middle.
//
//   descriptors, deadlines -> events -> ReloadMachine -> actions -> workers,
//                                                        fronts, pages, receipts
//
// Whatever happens becomes an event in a queue; only Pump() feeds the machine
// and performs what it answers, so nothing here is ever entered twice.
#ifndef BATON_RUNTIME_SUPERVISOR_SUPERVISOR_CORE_H_
#define BATON_RUNTIME_SUPERVISOR_SUPERVISOR_CORE_H_

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "ipc/run_directory.h"
#include "loader/model_config.h"
#include "runtime/supervisor/confirm_helper.h"
#include "runtime/supervisor/device_ledger.h"
#include "runtime/supervisor/event_loop.h"
#include "runtime/supervisor/front_table.h"
#include "runtime/supervisor/model_watcher.h"
#include "runtime/supervisor/orphans.h"
#include "runtime/supervisor/receipts.h"
#include "runtime/supervisor/reload_machine.h"
#include "runtime/supervisor/secrets_watcher.h"
#include "runtime/supervisor/server_log.h"
#include "runtime/supervisor/status_pages.h"
#include "runtime/supervisor/strategy.h"
#include "runtime/supervisor/supervisor.h"
#include "runtime/supervisor/survey_schedule.h"
#include "runtime/supervisor/worker_handle.h"

namespace baton::runtime {

class SupervisorCore : private FrontTable::Owner {
 public:
  static absl::StatusOr<std::unique_ptr<SupervisorCore>> Create(SupervisorOptions options);
  ~SupervisorCore() override;

  const std::string& name() const { return folder_.name(); }
  absl::Status Run();
  void RequestStop();

 private:
  using SessionId = FrontTable::SessionId;
  struct Waiter {
    SessionId session = 0;
    uint64_t call = 0;
  };
  // How a generation's process ended; kept until the reload is over.
  struct Ended {
    pid_t pid = 0;
    ipc::ExitStatus status;
  };

  SupervisorCore(SupervisorOptions options, loader::ModelConfig config, ipc::ServerFolder folder,
                 StatusPages pages, std::unique_ptr<EventLoop> loop);

  // ---- supervisor_core.cc: setting up, the loop, what only time brings
  absl::Status SetUp();
  absl::Status WatchLauncher();
  void Accept();
  void AcceptAgain();
  void Push(ReloadEvent::Kind kind, uint64_t generation = 0, std::string detail = "");
  void Pump();
  void Tick(int64_t now_ns);
  int64_t NextDeadline() const;
  void CheckSecrets(int64_t now_ns);
  void LogSecretsProblems(const SecretsSnapshot& secrets);
  void CheckWorkers(int64_t now_ns);
  void CheckWedged(int64_t now_ns);
  void NoteStandstill(int64_t expected_ns);
  bool Measuring() const;

  // ---- supervisor_actions.cc: what the machine wants
  void Perform(const ReloadAction& action);
  void EnterStep(ipc::ServerState step);
  void Spawn(uint64_t generation, bool last_good);
  void WatchModel();
  StrategyChoice Strategy(const WorkerHandle& successor) const;
  std::shared_ptr<const SecretsSnapshot> NewestSecrets();
  void Admit(uint64_t generation);
  uint64_t DeviceCapacityBytes() const;
  void Serve(uint64_t generation);
  void StartHold();
  void EndHold(bool swapped);
  void Stopped(const std::string& why);

  // ---- supervisor_confirm.cc: whether device memory is gone
  void Confirm(uint64_t generation);
  void AskForConfirmation(int64_t now_ns);
  void AskForOverridden(int64_t now_ns);
  void Answered(const ConfirmQuestion& question, const DeviceVerdict& verdict);
  void NotFreed(const ConfirmQuestion& question, const DeviceVerdict& verdict);
  void Confirmed(uint64_t generation, const DeviceVerdict& verdict);
  void Overridden(uint64_t generation);
  void Freed(uint64_t generation);
  static void FillVerdict(const DeviceVerdict& verdict, ReceiptDraft& draft);

  // ---- supervisor_survey.cc: what NVML says while a generation serves
  // Whether a successor that is staged has to wait for what NVML says of the
  // one that serves; it is Staged again then.
  bool AwaitsSurvey(uint64_t successor);
  bool NeedsSurvey() const;
  bool StopAwaitsSurvey();
  void EndSurveyWait();
  bool MaySurvey() const;
  void AskForSurvey(int64_t now_ns);
  void Surveyed(uint64_t generation, const absl::StatusOr<ipc::cuda::GpuSurvey>& survey);
  std::optional<ConfirmQuestion> Question(uint64_t generation, bool name_holders);
  uint64_t NeededBytes(uint64_t generation) const;

  // ---- supervisor_workers.cc: what workers say, and how they end
  WorkerHandle* Worker(uint64_t generation);
  void Sent(uint64_t generation, const absl::Status& status);
  void FlushWorker(uint64_t generation);
  // Logs what it has written, up to `most` bytes; at its end it is not watched any more.
  void ReadOutput(uint64_t generation, size_t most);
  // At most so many messages: others want a turn, too.
  void ReadWorker(uint64_t generation, int most = 64);
  absl::Status HandleWorker(WorkerHandle& worker, ipc::ControlMessage message);
  void ChannelRefused(uint64_t generation, uint64_t channel, const absl::Status& why);
  void ChannelAnswered(WorkerHandle& worker, uint64_t channel);
  absl::Status WorkerStaged(WorkerHandle& worker, ipc::ControlMessage& message);
  void Staged(const WorkerHandle& worker);
  absl::Status WorkerArena(WorkerHandle& worker, ipc::ControlMessage& message);
  absl::Status WorkerReady(WorkerHandle& worker, ipc::ControlMessage& message);
  static absl::Status TakeHandle(WorkerHandle& worker, ipc::ControlMessage& message);
  void WorkerEnded(uint64_t generation);
  uint64_t ReapedUpTo() const;
  Orphans::Owner OrphansOwner();

  // ---- supervisor_receipts.cc
  void BeginReceipt(uint64_t generation, const std::string& trigger);
  void FinishReceipt(const std::string& outcome, const std::string& reason);
  void WriteFailedReceipt(uint64_t generation, const std::string& why);
  void FillEvidence(ReceiptDraft& draft) const;
  static void FillExit(const Ended& ended, ReceiptDraft& draft);
  void Append(const ReceiptDraft& draft);
  // The receipt that was just written goes with it, or none.
  void AnswerWaiters(const absl::Status& status, bool with_receipt = false);
  // Those who wait for the reload after this one, too.
  void AnswerAllWaiters(const absl::Status& status);

  // ---- supervisor_replies.cc: what fronts and clients ask
  void OnHello(SessionId session, uint64_t call, bool is_front) override;
  void OnStatusAsked(SessionId session, uint64_t call) override;
  void OnReloadAsked(SessionId session, uint64_t call, const std::string& trigger,
                     bool override_unconfirmed) override;
  void OnPlanAsked(SessionId session, uint64_t call) override;
  void FillPlan(ipc::schema::ReloadPlan::Builder to);
  std::vector<std::string> Obstacles(const absl::StatusOr<loader::ModelConfig>& config) const;
  void OnStopAsked(SessionId session, uint64_t call) override;
  void OnChannelOpened(const ChannelRecord& channel) override;
  void OnChannelClosed(uint64_t channel) override;
  uint64_t DeviceResultsBytes() const override { return device_results_bytes_; }
  void OnArenaMapped() override { survey_.Mapped(); }
  void OnImportsChanged() override;
  void OnLeasesChanged() override;
  void Welcome(SessionId session, uint64_t call, bool is_front);
  void FillStatus(ipc::schema::ServerStatus::Builder to);

  SupervisorOptions options_;
  loader::ModelConfig config_;
  ipc::ServerFolder folder_;
  ServerLog log_;
  ServerLog output_log_;  // of workers
  StatusPages pages_;
  std::unique_ptr<EventLoop> loop_;
  ipc::ControlListener listener_;
  ipc::UniqueFd stop_event_;
  std::optional<ipc::ProcessWatch> launcher_;
  FrontTable fronts_;
  std::map<uint64_t, std::unique_ptr<WorkerHandle>> workers_;  // not reaped yet
  std::map<uint64_t, Ended> ended_;
  DeviceLedger ledger_;
  ConfirmHelper helper_;
  Orphans orphans_;
  ReloadMachine machine_;
  std::deque<ReloadEvent> events_;
  std::optional<SecretsWatcher> watcher_;
  std::optional<ModelWatcher> model_watcher_;  // with reload.watch
  std::vector<std::string> logged_problems_;
  std::shared_ptr<const SecretsSnapshot> last_good_secrets_;
  std::string last_good_config_;  // the text of config.yaml that goes with them
  ReceiptLog receipts_;

  std::vector<Method> methods_;  // of every generation, once one has served
  uint64_t max_request_bytes_ = 0;
  uint64_t device_results_bytes_ = 0;  // of the generation that serves
  uint64_t device_total_bytes_ = 0;    // as the last worker that was staged says; 0: the host's
  uint64_t last_spawned_ = 0;
  uint64_t serve_told_ = 0;  // the generation that was last told to serve
  int64_t serve_told_ns_ = 0;
  int64_t awake_since_ns_ = 0;  // the end of the last standstill
  uint64_t wedged_told_ = 0;    // the generation that was last found wedged: once is enough
  int64_t started_ns_ = 0;
  bool accept_paused_ = false;  // until accept_again_ns_
  int64_t accept_again_ns_ = 0;
  int64_t hold_started_ns_ = 0;  // 0: nobody waits
  int64_t expected_gap_ns_ = 0;
  int64_t last_gap_ns_ = 0;
  uint64_t gaps_measured_ = 0;
  std::map<uint64_t, uint64_t> refused_by_;  // channel: the last successor, which did not take it
  std::set<uint64_t> offered_;  // generations whose arena a front that comes now is to map
  uint64_t reloads_ = 0;
  uint64_t restarts_ = 0;  // workers that ended without being told to

  std::optional<ReceiptDraft> draft_;
  uint64_t failed_before_ = 0;  // counters when the hold began
  uint64_t expired_before_ = 0;
  std::vector<Waiter> waiting_now_;   // for the reload that runs
  std::vector<Waiter> waiting_next_;  // for the one after it
  std::vector<Waiter> unwelcomed_;    // fronts that came before the first generation served

  std::set<uint64_t> overridden_;  // not confirmed freed when the next one was admitted
  int64_t next_overridden_ask_ns_ = 0;
  int64_t orphans_looked_ns_ = 0;
  uint64_t overridden_asked_ = 0;  // the one that was asked about last
  uint64_t confirming_ = 0;        // the generation that is being asked about
  int freed_in_a_row_ = 0;
  int asks_ = 0;
  int64_t next_ask_ns_ = 0;
  int64_t next_name_ns_ = 0;
  SurveySchedule survey_;
  bool stop_waits_ = false;            // for NVML's answer; nothing else is begun
  DeviceVerdict verdict_;              // the last one
  std::string last_verdict_ = "none";  // for status

  absl::StatusCode failure_code_ = absl::StatusCode::kFailedPrecondition;
  bool stopped_ = false;
  absl::Status result_;
};

}  // namespace baton::runtime

#endif  // BATON_RUNTIME_SUPERVISOR_SUPERVISOR_CORE_H_
