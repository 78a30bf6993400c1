// A model whose errors hold none of the secrets that it was given.
#ifndef BATON_RUNTIME_WORKER_REDACTED_MODEL_H_
#define BATON_RUNTIME_WORKER_REDACTED_MODEL_H_

#include <memory>
#include <string>
#include <vector>

#include "loader/model.h"

namespace baton::runtime {

// What Run answers goes to the front, which is to know no secret (A16): an error of `model`, or
// what it throws, comes out without any of `secrets`, which must outlive it. Everything else is
// `model`'s own. Cost: a virtual call; a search of the message where there is an error.
std::unique_ptr<loader::Model> Redact(std::unique_ptr<loader::Model> model,
                                      const std::vector<std::string>& secrets);

}  // namespace baton::runtime

#endif  // BATON_RUNTIME_WORKER_REDACTED_MODEL_H_
