// Times and sizes for people.
//
// Plain functions, any thread.
#ifndef BATON_TOOLS_SHMCTL_QUANTITY_TEXT_H_
#define BATON_TOOLS_SHMCTL_QUANTITY_TEXT_H_

#include <cstdint>
#include <string>

namespace baton::shmctl {

// Three digits and a unit: "820 ns", "12.3 us", "2.90 ms", "301 ms", "4.20 s";
// from two minutes on "2m03s", "1h02m".
std::string DurationText(uint64_t ns);

// "812 B", "12.0 KiB", "96.5 MiB", "1.50 GiB".
std::string BytesText(uint64_t bytes);

}  // namespace baton::shmctl

#endif  // BATON_TOOLS_SHMCTL_QUANTITY_TEXT_H_
