// Whether, and how, requests of several callers are put together for one call of
// the model: `batching` of config.yaml.
//
// Plain values.
#ifndef BATON_LOADER_BATCHING_POLICY_H_
#define BATON_LOADER_BATCHING_POLICY_H_

#include <cstdint>

namespace baton::loader {

struct BatchingPolicy {
  static constexpr uint32_t kMaxRows = 65'536;
  // Less than the interval of a worker's heartbeat.
  static constexpr int64_t kMaxDelayUs = 100'000;

  // Rows (of the first dimension, of all requests together) of one call; 1: each
  // request is a call of its own.
  uint32_t max_batch = 1;
  // How long the first request of a batch waits for others; 0: not at all, a batch
  // is what is there already.
  int64_t max_delay_us = 0;

  bool on() const { return max_batch > 1; }
};

}  // namespace baton::loader

#endif  // BATON_LOADER_BATCHING_POLICY_H_
