// When NVML is to be asked who uses the GPU, and how long a reload waits for
// its answer. Two small state machines; what they hold of the world is passed
// in, the clock too.
//
// Asking:
//
//   state    event                       then
//   idle     Want, ReloadBegan           wanted
//   wanted   Want, ReloadBegan           wanted: one question answers all
//   wanted   Asked                       idle; the answer is the helper's to bring
//   idle     Asked                       idle
//   either   Mapped                      wanted, and not up to date
//   either   Answered                    as it was; up to date where nobody has Mapped since Asked
//   either   Failed, number 1 and 2      wanted: asked again
//   either   Failed, from number 3 on    as it was: nobody waits for it any more
//   either   ReloadBegan                 failures are counted anew
//
// Waiting, of the successor s that is staged:
//
//   state       event                                          then
//   nobody      Awaits(s): nothing to wait for                 nobody
//   nobody      Awaits(s): needed                              waiting, for three answers' time
//   waiting s   Awaits(s): needed, in time                     waiting, until the same time
//   waiting s   Awaits(s): needed no more, or 3 have failed    released s
//   waiting s   Awaits(s): the time is over                    released s
//   waiting s   Gone                                           nobody
//   released s  Awaits(s)                                      released s: it waits once
//   waiting s,
//   released s  Awaits(t), t another one                       as from nobody
//   any         ReloadBegan                                    nobody
//
// Thread safety: none.
#ifndef BATON_RUNTIME_SUPERVISOR_SURVEY_SCHEDULE_H_
#define BATON_RUNTIME_SUPERVISOR_SURVEY_SCHEDULE_H_

#include <cstdint>

namespace baton::runtime {

class SurveySchedule {
 public:
  // How often NVML may fail to answer before a reload goes on without it, and
  // how many answers' time it waits.
  static constexpr int kMostFailures = 3;

  // To be asked as soon as it may be.
  void Want() { wanted_ = true; }
  bool wanted() const { return wanted_; }
  void Asked() {
    wanted_ = false;
    asked_ = mapped_;
  }
  void Answered() { answered_ = asked_; }
  // A front has mapped an arena, and may have made a context for that: what was
  // said before does not know it.
  void Mapped() {
    ++mapped_;
    Want();
  }
  bool up_to_date() const { return answered_ == mapped_; }
  // There was no answer.
  void Failed();
  void ReloadBegan();

  // Whether generation `successor` (not 0) has to wait. `needed`: what NVML
  // says would be of use and is not there yet. `answer_ns`: the time that one
  // answer may take.
  bool Awaits(uint64_t successor, bool needed, int64_t answer_ns, int64_t now_ns);
  // The one that waits does not exist any more.
  void Gone() { waiting_ = 0; }
  // Who waits, and until when on the monotonic clock; 0: nobody.
  uint64_t waiting() const { return waiting_; }
  int64_t deadline_ns() const { return waiting_ == 0 ? 0 : deadline_ns_; }

 private:
  bool wanted_ = false;
  uint64_t mapped_ = 0;    // how often somebody has
  uint64_t asked_ = 0;     // `mapped_` when it was asked last
  uint64_t answered_ = 0;  // and the last time that an answer came
  int failures_ = 0;       // since a reload began
  uint64_t waiting_ = 0;
  int64_t deadline_ns_ = 0;
  uint64_t released_ = 0;
};

}  // namespace baton::runtime

#endif  // BATON_RUNTIME_SUPERVISOR_SURVEY_SCHEDULE_H_
