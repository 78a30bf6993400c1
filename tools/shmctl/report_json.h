// Reports as JSON: one line, every key of the schema always there.
//
// Plain functions, any thread.
#ifndef BATON_TOOLS_SHMCTL_REPORT_JSON_H_
#define BATON_TOOLS_SHMCTL_REPORT_JSON_H_

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "capnp/dynamic.h"

#include "baton/tensor.h"
#include "ipc/schema/receipt.capnp.h"
#include "ipc/schema/report.capnp.h"

namespace baton::shmctl {

// A struct of ipc/schema as JSON, without the line end. Gives unset texts,
// lists and structs their empty values first, so that no key is missing.
std::string ReportJson(capnp::DynamicStruct::Builder report);

// Writes it to standard output, with the line end.
void PrintReport(capnp::DynamicStruct::Builder report);

// A line of receipts.jsonl. INVALID_ARGUMENT when it is none, or half of one.
absl::Status ParseReceiptJson(std::string_view line, ipc::schema::Receipt::Builder to);

void WriteTensorTypes(const std::vector<TensorSpec>& specs,
                      capnp::List<ipc::schema::TensorType>::Builder to);

// "unary", "server-stream" (many results), "client-stream" (many inputs), "bidi-stream".
std::string_view MethodKind(const Method& method);

void WriteMethodTypes(const std::vector<Method>& methods,
                      capnp::List<ipc::schema::MethodType>::Builder to);

inline capnp::Text::Reader ToText(std::string_view text) {
  // Cap'n Proto copies it; the NUL that a Reader promises is never looked at.
  return {text.data(), text.size()};
}

}  // namespace baton::shmctl

#endif  // BATON_TOOLS_SHMCTL_REPORT_JSON_H_
