// What a model gives for a batch: rows of all its requests, on their way to the
// requests' own blocks.
//
// Thread safety: none; belongs to the serving thread. No allocation for batches of
// no more rows than before.
#ifndef BATON_RUNTIME_WORKER_BATCH_OUTPUTS_H_
#define BATON_RUNTIME_WORKER_BATCH_OUTPUTS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "baton/tensor.h"
#include "loader/model.h"
#include "runtime/worker/likeness.h"
#include "runtime/worker/response_writer.h"
#include "runtime/worker/staging_memory.h"

namespace baton::runtime {

class BatchOutputs final : public loader::OutputSink {
 public:
  // Starts the outputs of a call for `rows` rows, at most `max_rows` in any call.
  // `signature` is used until the next Begin, and compared there by its address.
  void Begin(const Signature& signature, uint64_t rows, uint64_t max_rows);

  // INTERNAL where the first dimension is not the batch's rows.
  absl::StatusOr<std::span<std::byte>> Allocate(size_t index,
                                                std::span<const int64_t> shape) override;
  absl::StatusOr<std::span<std::byte>> AllocateAs(size_t index, DType dtype,
                                                  std::span<const int64_t> shape) override;

  // INTERNAL when the model left an output out. After the model has come back, once.
  absl::Status Check();
  // Of what it gave, but for the number of rows: the outputs' order, their dtypes and
  // other dimensions. After Check was OK.
  Likeness alike() const { return alike_; }

  // Writes `rows` rows from `first_row` on, of each output, into the block that
  // `writer` was begun with, in the order in which the model asked for them.
  // RESOURCE_EXHAUSTED: it is too small, and the writer knows what it would need.
  absl::Status Give(uint64_t first_row, uint64_t rows, ResponseWriter& writer) const;
  // The same to a writer that repeats (ResponseWriter::Repeat) what it was given before.
  void GiveAgain(uint64_t first_row, uint64_t rows, ResponseWriter& writer) const;

 private:
  struct Output {
    bool there = false;
    DType dtype = DType::kInvalid;
    uint32_t rank = 0;
    std::array<int64_t, kMaxRank> shape{};
    uint64_t row_bytes = 0;
    std::span<const std::byte> bytes;

    // But for the first dimension, which counts rows.
    bool LooksLike(DType as, std::span<const int64_t> with) const;
  };

  static void Copy(const Output& output, uint64_t first_row, uint64_t rows,
                   std::span<std::byte> block);

  const Signature* signature_ = nullptr;
  uint64_t rows_ = 0;
  uint64_t max_rows_ = 0;
  std::vector<Output> outputs_;
  // In which they were asked for: the first asked_, and behind them those of the call
  // before.
  std::vector<size_t> order_;
  size_t asked_ = 0;
  Likeness alike_ = 0;
  bool changed_ = true;                 // since alike_ was given
  std::vector<StagingMemory> staging_;  // by output; of every signature that there was
};

}  // namespace baton::runtime

#endif  // BATON_RUNTIME_WORKER_BATCH_OUTPUTS_H_
