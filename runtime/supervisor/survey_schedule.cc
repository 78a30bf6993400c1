#include "runtime/supervisor/survey_schedule.h"

namespace baton::runtime {

void SurveySchedule::Failed() {
  if (++failures_ < kMostFailures) Want();
}

void SurveySchedule::ReloadBegan() {
  failures_ = 0;
  waiting_ = 0;
  released_ = 0;
  Want();
}

bool SurveySchedule::Awaits(uint64_t successor, bool needed, int64_t answer_ns, int64_t now_ns) {
  if (successor == released_) return false;
  if (successor != waiting_) {
    waiting_ = 0;
    if (!needed || failures_ >= kMostFailures) return false;
    waiting_ = successor;
    deadline_ns_ = now_ns + kMostFailures * answer_ns;
  }
  if (needed && failures_ < kMostFailures && now_ns < deadline_ns_) return true;
  waiting_ = 0;
  released_ = successor;
  return false;
}

}  // namespace baton::runtime
