// The worker's environment: what it inherited, and over that the secrets of
// its generation (A12).
#ifndef BATON_RUNTIME_WORKER_SECRET_ENVIRONMENT_H_
#define BATON_RUNTIME_WORKER_SECRET_ENVIRONMENT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace baton::runtime {

// Sets every entry of the snapshot (schema::Secrets, standard framing) in the
// first `bytes` of `fd` in this process's environment. Call before any other
// thread runs: setenv is not safe beside getenv. Private copies of the values
// are overwritten before it returns, but for `values`, where it is given: what
// must be taken out of texts that the model wrote. `config` gets the text of
// config.yaml that came along, if any. Errors name a key or a size, never a
// value (A16).
absl::Status SetSecretEnvironment(int fd, uint64_t bytes,
                                  std::vector<std::string>* values = nullptr,
                                  std::string* config = nullptr);

}  // namespace baton::runtime

#endif  // BATON_RUNTIME_WORKER_SECRET_ENVIRONMENT_H_
