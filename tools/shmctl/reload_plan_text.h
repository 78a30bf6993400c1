// What a reload would do, for people.
//
// Plain functions, any thread.
#ifndef BATON_TOOLS_SHMCTL_RELOAD_PLAN_TEXT_H_
#define BATON_TOOLS_SHMCTL_RELOAD_PLAN_TEXT_H_

#include <cstddef>
#include <string>

#include "absl/strings/string_view.h"

#include "ipc/schema/control.capnp.h"

namespace baton::shmctl {

// A row for each matter, with how it is known. Ends with a line end.
std::string ReloadPlanText(absl::string_view server, ipc::schema::ReloadPlan::Reader plan,
                           size_t width);

}  // namespace baton::shmctl

#endif  // BATON_TOOLS_SHMCTL_RELOAD_PLAN_TEXT_H_
