// The methods of the model, as one channel answers them.
//
// Thread safety: none; belongs to one channel, on the serving thread.
#ifndef BATON_RUNTIME_WORKER_SERVED_METHODS_H_
#define BATON_RUNTIME_WORKER_SERVED_METHODS_H_

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "baton/tensor.h"
#include "loader/model.h"
#include "runtime/worker/response_descriptions.h"
#include "runtime/worker/response_writer.h"

namespace baton::runtime {

struct ServedMethod {
  uint32_t index = 0;
  const Signature* signature = nullptr;  // the model's own
  bool streams_inputs = false;
  bool streams_outputs = false;
  // Descriptions of responses have their names per generation and method.
  std::unique_ptr<ResponseDescriptions> descriptions = {};
  // Of calls on the serving thread; one on a thread of its own has its own.
  std::unique_ptr<ResponseWriter> writer = {};

  bool streams() const { return streams_inputs || streams_outputs; }
};

class ServedMethods {
 public:
  // nullptr: the model has no such method. `model` is the same each time.
  ServedMethod* Get(const loader::Model& model, uint32_t index) {
    if (methods_.empty()) Learn(model);
    return index < methods_.size() ? &methods_[index] : nullptr;
  }
  // As Get; nullptr also before the first Get.
  const ServedMethod* Find(uint32_t index) const {
    return index < methods_.size() ? &methods_[index] : nullptr;
  }
  // Whether the model speaks of methods at all; known after Get.
  bool named() const { return named_; }

 private:
  void Learn(const loader::Model& model) {
    const std::span<const Method> methods = model.methods();
    named_ = !methods.empty();
    methods_.reserve(named_ ? methods.size() : 1);
    const auto add = [this](const Signature& signature, bool inputs, bool outputs) {
      auto descriptions = std::make_unique<ResponseDescriptions>(signature);
      auto writer = std::make_unique<ResponseWriter>(signature, *descriptions);
      methods_.push_back({.index = static_cast<uint32_t>(methods_.size()),
                          .signature = &signature,
                          .streams_inputs = inputs,
                          .streams_outputs = outputs,
                          .descriptions = std::move(descriptions),
                          .writer = std::move(writer)});
    };
    for (const Method& method : methods) {
      add(method.signature, method.streams_inputs, method.streams_outputs);
    }
    if (!named_) add(model.signature(), false, false);
  }

  std::vector<ServedMethod> methods_;
  bool named_ = false;
};

}  // namespace baton::runtime

#endif  // BATON_RUNTIME_WORKER_SERVED_METHODS_H_
