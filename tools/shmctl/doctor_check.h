// One thing that `shmctl doctor` has looked at.
//
// Thread safety: values and pure functions.
#ifndef BATON_TOOLS_SHMCTL_DOCTOR_CHECK_H_
#define BATON_TOOLS_SHMCTL_DOCTOR_CHECK_H_

#include <string>
#include <string_view>
#include <vector>

namespace baton::shmctl {

struct Check {
  enum class Level {
    kOk,
    kWarn,  // it works, or is not asked for, and somebody should know
    kFail,  // what was asked for will not work
  };
  Level level = Level::kOk;
  std::string name;    // "nvidia driver"
  std::string found;   // one line
  std::string remedy;  // what to do; empty where there is nothing to do
};

// "ok", "warn", "FAIL".
std::string_view LevelText(Check::Level level);

// `level  name  found; remedy`, with the line end. Printable.
std::string CheckRow(const Check& check);

// Between processes: a line a check. What is no such line is skipped; a line
// without an end is half of one.
std::string EncodeCheck(const Check& check);
std::vector<Check> DecodeChecks(std::string_view text);

}  // namespace baton::shmctl

#endif  // BATON_TOOLS_SHMCTL_DOCTOR_CHECK_H_
