// Lays a model's outputs out in a loaned response block and describes them.
//
// Block: description (room for any shapes of this signature) | outputs, each
// on a 128-byte boundary, in the order in which the model asked for them.
//
// Thread safety: none; belongs to the serving thread. No allocation for
// shapes that were described before.
#ifndef BATON_RUNTIME_WORKER_RESPONSE_WRITER_H_
#define BATON_RUNTIME_WORKER_RESPONSE_WRITER_H_

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "baton/tensor.h"
#include "ipc/descriptor.h"
#include "loader/model.h"

namespace baton::runtime {

class ResponseWriter : public loader::OutputSink {
 public:
  // How a written response is described.
  struct Description {
    uint64_t token = 0;
    uint32_t bytes = 0;
  };

  // `signature` must outlive this.
  explicit ResponseWriter(const Signature& signature);

  // Starts a response in `block`; what was written before is forgotten.
  void Begin(std::span<std::byte> block);

  absl::StatusOr<std::span<std::byte>> Allocate(size_t index,
                                                std::span<const int64_t> shape) override;

  // Writes the description. INTERNAL when the model left an output out.
  absl::StatusOr<Description> Finish();

  // The block that would hold everything that was asked for.
  uint64_t needed_bytes() const { return cursor_; }

 private:
  struct Output {
    bool there = false;
    uint32_t rank = 0;
    std::array<int64_t, kMaxRank> shape{};
    uint64_t offset = 0;
    uint64_t bytes = 0;
    friend bool operator==(const Output&, const Output&) = default;
  };
  struct Prepared {
    std::vector<Output> outputs;
    ipc::DescriptorBytes bytes;
    uint64_t token = 0;
  };
  // Descriptions kept; a model that gives more shapes than this in turn pays
  // for an encoding each time.
  static constexpr size_t kMaxPrepared = 32;

  absl::StatusOr<const Prepared*> Prepare();

  const Signature& signature_;
  const uint64_t reserve_;
  std::span<std::byte> block_;
  uint64_t cursor_ = 0;
  std::vector<Output> outputs_;
  std::vector<Prepared> prepared_;
  size_t last_ = 0;
  size_t evict_ = 0;
  uint64_t next_token_ = 1;
};

}  // namespace baton::runtime

#endif  // BATON_RUNTIME_WORKER_RESPONSE_WRITER_H_
