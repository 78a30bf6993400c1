// Requests whose inputs a model keeps beyond their answer.
//
// Such an answer is published with kCompletionMore, so that the front leaves the
// request's block and its place alone; a last completion follows when the token
// is gone.
//
// Thread safety: everything belongs to the serving thread, but tokens, which may
// be destroyed on any, at any time, this having ended included.
#ifndef BATON_RUNTIME_WORKER_KEPT_INPUTS_H_
#define BATON_RUNTIME_WORKER_KEPT_INPUTS_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "loader/model.h"
#include "runtime/worker/serving_host.h"

namespace baton::runtime {

class KeptInputs {
  struct Shared;
  struct Token;

 public:
  // One call of the model. Costs nothing unless it keeps.
  class Call final : public loader::CallContext {
   public:
    Call(KeptInputs& kept, uint64_t request_id) : kept_(kept), request_id_(request_id) {}
    std::shared_ptr<void> KeepInputs() override;
    // The answer comes next: whether something still keeps the inputs. If so the
    // request will be among TakeReleased's, once.
    bool Answered();

   private:
    KeptInputs& kept_;
    const uint64_t request_id_;
    std::weak_ptr<Token> token_;
  };

  KeptInputs();
  ~KeptInputs();
  KeptInputs(const KeptInputs&) = delete;
  KeptInputs& operator=(const KeptInputs&) = delete;

  // Who is told of releases; must outlive this.
  void Join(ServingHost& host);

  // Answered and still kept, or not yet taken.
  size_t count() const { return count_; }
  // The requests whose tokens have gone since the last call.
  std::vector<uint64_t> TakeReleased();

 private:
  // What tokens reach.
  struct Shared {
    std::mutex mutex;
    ServingHost* host = nullptr;     // guarded by mutex; nullptr: nobody listens
    std::vector<uint64_t> released;  // guarded by mutex
  };
  struct Token {
    Token(std::shared_ptr<Shared> shared, uint64_t request_id)
        : shared(std::move(shared)), request_id(request_id) {}
    ~Token();
    const std::shared_ptr<Shared> shared;
    const uint64_t request_id;
    bool answered = false;  // guarded by shared->mutex
  };

  const std::shared_ptr<Shared> shared_;
  size_t count_ = 0;
};

}  // namespace baton::runtime

#endif  // BATON_RUNTIME_WORKER_KEPT_INPUTS_H_
