// What kind of pages memory lies on.
#ifndef BATON_PAGE_KIND_H_
#define BATON_PAGE_KIND_H_

#include <cstdint>

namespace baton {

enum class PageKind : uint8_t {
  kNormal,
  kTransparentHuge,  // huge ones as far as the kernel had some when it was asked
  kHugetlb,          // huge ones throughout, of those that the machine sets aside
};

}  // namespace baton

#endif  // BATON_PAGE_KIND_H_
