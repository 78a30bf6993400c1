// Descriptions of the responses of one method, kept so that a response that looks
// like one before costs no encoding, here and at the front, which knows them by
// their tokens.
//
// Thread safety: none; belongs to one channel, on the serving thread, whatever
// thread the outputs were written on. No allocation for what was described before.
#ifndef BATON_RUNTIME_WORKER_RESPONSE_DESCRIPTIONS_H_
#define BATON_RUNTIME_WORKER_RESPONSE_DESCRIPTIONS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"

#include "baton/tensor.h"
#include "ipc/descriptor.h"

namespace baton::runtime {

// Where an output was written to, and as what.
struct WrittenOutput {
  bool there = false;
  DType dtype = DType::kInvalid;
  uint32_t rank = 0;
  std::array<int64_t, kMaxRank> shape{};
  uint64_t offset = 0;
  uint64_t bytes = 0;
  bool on_device = false;
  friend bool operator==(const WrittenOutput&, const WrittenOutput&) = default;
};

class ResponseDescriptions {
 public:
  struct Prepared {
    std::vector<WrittenOutput> outputs;
    ipc::DescriptorBytes bytes;
    uint64_t token = 0;  // another one for each, of this method and generation
  };

  // `signature` must outlive this.
  explicit ResponseDescriptions(const Signature& signature);

  // What any description of this signature takes at most.
  uint64_t reserve_bytes() const { return reserve_bytes_; }

  // That of `outputs`, in the signature's order. Valid until the next call.
  absl::StatusOr<const Prepared*> Get(const std::vector<WrittenOutput>& outputs);

 private:
  // Kept; a model that gives more shapes than this in turn pays for an encoding
  // each time.
  static constexpr size_t kMaxPrepared = 32;

  const Signature& signature_;
  const uint64_t reserve_bytes_;
  std::vector<Prepared> prepared_;
  size_t last_ = 0;
  size_t evict_ = 0;
  uint64_t next_token_ = 1;
};

}  // namespace baton::runtime

#endif  // BATON_RUNTIME_WORKER_RESPONSE_DESCRIPTIONS_H_
