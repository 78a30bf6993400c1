// Between Baton's own types and the Cap'n Proto types of ipc/schema.
//
// Plain functions, any thread. What is read from a peer is checked here, so
// that no caller meets a dtype, rank or size that the rest of Baton refuses.
#ifndef BATON_IPC_SCHEMA_CONVERT_H_
#define BATON_IPC_SCHEMA_CONVERT_H_

#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "capnp/blob.h"
#include "capnp/list.h"

#include "baton/tensor.h"
#include "ipc/schema/control.capnp.h"
#include "ipc/schema/tensor.capnp.h"

namespace baton::ipc {

// An error's text is cut to this many bytes, so that it fits into a packet
// with other things.
inline constexpr size_t kMaxErrorBytes = 8 * 1024;

void WriteStatus(const absl::Status& status, schema::Error::Builder to);
// OK when the error's code is 0; UNKNOWN for a code that Abseil does not have.
absl::Status ReadStatus(schema::Error::Reader from);

void WriteSignature(const Signature& signature, schema::Signature::Builder to);
// INVALID_ARGUMENT, naming the tensor, when it is outside the limits of
// baton/tensor.h: kMaxTensors, kMaxRank, kMaxNameBytes, kMaxDType, or has a
// dimension below kDynamicDim.
absl::StatusOr<Signature> ReadSignature(schema::Signature::Reader from);

// Likewise; a method's name is not empty, and no two have the same.
void WriteMethods(std::span<const Method> methods, capnp::List<schema::Method>::Builder to);
absl::StatusOr<std::vector<Method>> ReadMethods(capnp::List<schema::Method>::Reader from);

// In a message that has both `signature` and `methods`, for readers that know
// only the one, or both.
template <typename Builder>
void WriteModel(std::span<const Method> methods, Builder to) {
  WriteSignature(methods.front().signature, to.initSignature());
  WriteMethods(methods, to.initMethods(static_cast<unsigned>(methods.size())));
}
// Where there are no `methods`: one, "predict", of `signature`.
template <typename Reader>
absl::StatusOr<std::vector<Method>> ReadModel(Reader from) {
  if (from.getMethods().size() > 0) return ReadMethods(from.getMethods());
  absl::StatusOr<Signature> signature = ReadSignature(from.getSignature());
  if (!signature.ok()) return signature.status();
  return std::vector<Method>{{.name = "predict", .signature = *std::move(signature)}};
}

// What a model says of itself may take this many bytes in a control packet.
inline constexpr size_t kMaxModelBytes = 56 * 1024;
// Whether `methods` can be told and will be read: RESOURCE_EXHAUSTED beyond
// kMaxModelBytes, INVALID_ARGUMENT as ReadMethods. Cost: encodes them.
absl::Status CheckMethods(std::span<const Method> methods);

inline std::string ReadText(capnp::Text::Reader text) { return {text.begin(), text.size()}; }

}  // namespace baton::ipc

#endif  // BATON_IPC_SCHEMA_CONVERT_H_
