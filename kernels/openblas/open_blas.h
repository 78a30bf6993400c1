// Dense layers on the CPU by OpenBLAS, where its library is found at run time.
// Faster than the reference for all but small layers and few rows.
#ifndef BATON_KERNELS_OPENBLAS_OPEN_BLAS_H_
#define BATON_KERNELS_OPENBLAS_OPEN_BLAS_H_

#include <cstddef>
#include <memory>
#include <string>

#include "absl/status/statusor.h"

#include "kernels/dense.h"
#include "kernels/openblas/baton_openblas.h"

namespace baton::kernels {

// Thread safety: const, and all of it may be called by several threads at once.
// Nothing of it starts a thread.
class OpenBlas {
 public:
  // Whether a product of these sizes is left to OpenBLAS: where that was
  // measured to pay (DESIGN.md), and OpenBLAS can count so far.
  static bool Pays(size_t rows, size_t inputs, size_t outputs);

  // Opens libbaton_openblas.so: the one beside the running program, else the
  // one that the dynamic loader finds. Cost: some milliseconds; 30 MB of code, of
  // which the pages that are used come in.
  //
  //   NOT_FOUND            not there
  //   FAILED_PRECONDITION  a library of another version of Baton, or with an
  //                        OpenBLAS that runs threads of its own
  // The answer to each is to go on without: kernels::MatMulBias.
  static absl::StatusOr<std::unique_ptr<OpenBlas>> Load();
  // The library at `path`.
  static absl::StatusOr<std::unique_ptr<OpenBlas>> LoadFrom(const std::string& path);

  // As kernels::MatMulBias, within the tolerance of DESIGN.md, for sizes that
  // Pays(), and for any smaller ones but 0. Allocates nothing: OpenBLAS packs
  // the weights into the workspace that Load had it take, whose pages come in
  // as they are used first.
  void MatMulBias(const MatMulBiasArgs& args) const;

 private:
  using Multiply = decltype(baton_openblas_multiply);

  explicit OpenBlas(Multiply* multiply) : multiply_(multiply) {}

  Multiply* const multiply_;  // its code is never unmapped
};

}  // namespace baton::kernels

#endif  // BATON_KERNELS_OPENBLAS_OPEN_BLAS_H_
