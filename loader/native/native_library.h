// Opens the shared library of a native model and checks that we speak its ABI.
#ifndef BATON_LOADER_NATIVE_NATIVE_LIBRARY_H_
#define BATON_LOADER_NATIVE_NATIVE_LIBRARY_H_

#include <string>

#include "absl/status/statusor.h"

#include "baton/model_abi.h"
#include "baton/tensor.h"

namespace baton::loader {

// The library's functions. Symbols stay local to it, and all are resolved now,
// so that a missing one is an error here and not a crash in a request.
//
// The library is never closed: threads and thread-locals of the model may run
// its code until the process ends, and a worker serves one model in its life.
//
// Errors name the file: NOT_FOUND without a file, INVALID_ARGUMENT where it
// cannot be opened or does not export the function, FAILED_PRECONDITION where
// the versions do not fit.
absl::StatusOr<const BatonModelApi*> OpenNativeLibrary(const std::string& path);

// The same checks for a table, whose library is `path`.
absl::Status CheckModelApi(const std::string& path, const BatonModelApi* api);

// Whether the table has the functions of ABI 1.1: methods, streams.
bool HasMethods(const BatonModelApi& api);

// `count` methods as the library describes them, checked.
absl::StatusOr<std::vector<Method>> ReadMethods(const std::string& path, const BatonMethod* methods,
                                                uint32_t count);

// A signature as the library describes it, checked.
absl::StatusOr<Signature> ReadSignature(const std::string& path, const BatonSignature* signature);

}  // namespace baton::loader

#endif  // BATON_LOADER_NATIVE_NATIVE_LIBRARY_H_
