// A worker that writes whatever it likes into what it can write (A33, R6): the
// front gives statuses. It never crashes, never hangs, never hands out bytes
// that are not its block's.
//
// Most of it is worth most under the address sanitizer.
#include <fcntl.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "ipc/descriptor.h"
#include "ipc/futex.h"
#include "tests/runtime/front/fake_server.h"

namespace baton::test {
namespace {

using ::testing::HasSubstr;

ChannelOptions Small() {
  return {.ring_entries = 8,
          .request_arena_bytes = 64 << 10,
          .response_arena_bytes = 1 << 20,
          .max_handles = 24};
}
constexpr CallOptions kSoon{.timeout = absl::Milliseconds(5)};
constexpr CallOptions kNever{.timeout = absl::Minutes(10)};

// Reads every byte that a response shows, and looks at every number in it.
uint64_t Touch(const Response& response) {
  uint64_t sum = response.generation();
  EXPECT_EQ(response.outputs().size(), 1u);
  for (const TensorView& view : response.outputs()) {
    EXPECT_EQ(view.name, "y");
    EXPECT_EQ(view.dtype, DType::kFloat32);
    EXPECT_EQ(view.shape.size(), 1u);
    EXPECT_EQ(TensorBytes(view.dtype, view.shape), view.bytes.size());
    EXPECT_EQ(reinterpret_cast<uintptr_t>(view.bytes.data()) % 128, 0u);
    for (const std::byte byte : view.bytes) sum += static_cast<uint64_t>(byte);
  }
  return sum;
}

// Every request ends, by its deadline at the latest.
int Drain(Channel& channel) {
  int ends = 0;
  while (channel.outstanding() > 0) {
    const std::optional<Outcome> outcome = channel.Wait(absl::Seconds(1));
    if (!outcome) continue;
    ++ends;
    if (outcome->response.ok()) Touch(*outcome->response);
  }
  return ends;
}

// ---- Lies, one at a time -----------------------------------------------------------------------

class Lies : public ::testing::Test {
 protected:
  Lies() : channel_(server_.Open(Small())), raw_(server_, 0) {}

  // An answer to request `sequence` that is right but for what `lie` does.
  void Answer(uint64_t sequence, const std::function<void(ipc::CompletionEntry&)>& lie) {
    const ipc::SubmissionEntry& asked = raw_.submission(sequence);
    const std::vector<ipc::TensorLayout> layouts = {
        {.name = "y", .dtype = DType::kFloat32, .shape = {4}, .offset = 512, .bytes = 16}};
    Describe(sequence, *ipc::EncodeResponse(layouts));
    ipc::CompletionEntry& entry = raw_.completion(published_);
    entry.request_id = asked.request_id;
    entry.generation = 1;
    entry.descriptor_token = 0;
    entry.needed_bytes = 0;
    entry.descriptor_bytes = described_;
    entry.status_code = 0;
    entry.flags = 0;
    entry.service_ns = 1;
    lie(entry);
    entry.stamp.store(published_++, std::memory_order_release);
  }
  void Describe(uint64_t sequence, const ipc::DescriptorBytes& bytes) {
    std::ranges::copy(bytes, raw_.response_block(raw_.submission(sequence)).begin());
    described_ = static_cast<uint32_t>(bytes.size());
  }
  void Submit() { ASSERT_TRUE(channel_.Submit(Vector(channel_, 4, 1), kNever).ok()); }

  // The channel is poisoned: what was outstanding failed, nothing more starts.
  void ExpectPoisoned(const std::string& why) {
    int lost = 0;
    while (const std::optional<Outcome> outcome = channel_.Poll()) {
      EXPECT_TRUE(absl::IsDataLoss(outcome->response.status())) << outcome->response.status();
      EXPECT_THAT(std::string(outcome->response.status().message()), HasSubstr(why));
      ++lost;
    }
    EXPECT_GT(lost, 0);
    EXPECT_EQ(channel_.outstanding(), 0u);
    const TensorSpec spec{"x", DType::kFloat32, {1}};
    EXPECT_TRUE(absl::IsDataLoss(channel_.NewRequest(std::span(&spec, 1)).status()));
    EXPECT_FALSE(channel_.Wait(absl::Seconds(1)));
  }

  FakeServer server_;
  Channel channel_;
  RawWorker raw_;
  uint64_t published_ = 0;
  uint32_t described_ = 0;
};

TEST_F(Lies, TheTruthIsBelieved) {
  Submit();
  Answer(0, [](auto&) {});
  const std::optional<Outcome> outcome = channel_.Poll();
  ASSERT_TRUE(outcome && outcome->response.ok());
  Touch(*outcome->response);
}

TEST_F(Lies, AboutWhichRequest) {
  const std::function<uint64_t(uint64_t)> ids[] = {
      [](uint64_t) { return 0; },
      [](uint64_t) { return ~uint64_t{0}; },
      [](uint64_t id) { return id + (uint64_t{1} << 20); },  // right slot, later serial
      [](uint64_t id) { return id ^ 1; },                    // a slot that was never used
      [](uint64_t id) { return id | 0xfffff; },              // a slot that does not exist
  };
  for (const auto& id : ids) {
    SCOPED_TRACE(id(uint64_t{1} << 20));
    Channel channel = server_.Open(Small());
    std::swap(channel, channel_);
    raw_ = RawWorker(server_, server_.opened_channels() - 1);
    published_ = 0;
    Submit();
    Answer(0, [&](ipc::CompletionEntry& e) { e.request_id = id(e.request_id); });
    ExpectPoisoned("not there");
  }
}

TEST_F(Lies, ARequestThatWasOnlyLoaned) {
  Submit();
  const Request loaned = Vector(channel_, 4, 1);
  Answer(0, [](ipc::CompletionEntry& e) { e.request_id = 1; });  // the loaned slot's first id
  ExpectPoisoned("not there");
}

TEST_F(Lies, TheSameAnswerTwice) {
  Submit();
  Submit();
  Answer(0, [](auto&) {});
  Answer(0, [](auto&) {});
  const std::optional<Outcome> first = channel_.Poll();
  ASSERT_TRUE(first && first->response.ok()) << "the first was right";
  ExpectPoisoned("not there");
  Touch(*first->response);  // a lease from before stays what it was
}

TEST_F(Lies, AStatusThatDoesNotExist) {
  Submit();
  Answer(0, [](ipc::CompletionEntry& e) { e.status_code = 17; });
  ExpectPoisoned("status that does not exist");
}

TEST_F(Lies, ADescriptionLargerThanItsBlock) {
  Submit();
  Answer(0, [](ipc::CompletionEntry& e) { e.descriptor_bytes = ~0u; });
  ExpectPoisoned("larger than its block");
}

TEST_F(Lies, ADescriptionThatIsNone) {
  Submit();
  Answer(0, [](ipc::CompletionEntry& e) { e.descriptor_bytes = 0; });
  ExpectPoisoned("description");
}

TEST_F(Lies, AnErrorTextLargerThanItsBlock) {
  Submit();
  Answer(0, [](ipc::CompletionEntry& e) {
    e.status_code = static_cast<uint16_t>(absl::StatusCode::kInternal);
    e.descriptor_bytes = ~0u;
  });
  const std::optional<Outcome> outcome = channel_.Poll();
  ASSERT_TRUE(outcome);
  EXPECT_TRUE(absl::IsInternal(outcome->response.status()));
  EXPECT_LE(outcome->response.status().message().size(), 4096u);
}

TEST_F(Lies, TensorsOutsideTheirBlock) {
  const uint64_t block = [&] {
    Submit();
    return raw_.response_block(raw_.submission(0)).size();
  }();
  Answer(0, [](auto&) {});
  ASSERT_TRUE(channel_.Poll()->response.ok());
  Submit();
  const std::vector<ipc::TensorLayout> outside = {
      {.name = "y", .dtype = DType::kFloat32, .shape = {4}, .offset = block, .bytes = 16}};
  Answer(1, [&](ipc::CompletionEntry& e) {
    Describe(1, *ipc::EncodeResponse(outside));
    e.descriptor_bytes = described_;
  });
  ExpectPoisoned("outside its block");
}

TEST_F(Lies, OutputsThatAreNotTheModels) {
  Submit();
  const std::vector<ipc::TensorLayout> other = {
      {.name = "z", .dtype = DType::kFloat32, .shape = {4}, .offset = 512, .bytes = 16}};
  Answer(0, [&](ipc::CompletionEntry& e) {
    Describe(0, *ipc::EncodeResponse(other));
    e.descriptor_bytes = described_;
  });
  ExpectPoisoned("no such tensor");
}

// A description that was checked for a large block is named again for a small
// one, in which its tensors would not lie.
TEST_F(Lies, AKnownNameForASmallerBlock) {
  const TensorSpec spec{"x", DType::kFloat32, {4}};
  const RequestPlan large = *channel_.Plan(std::span(&spec, 1), 64 << 10);
  const RequestPlan small = *channel_.Plan(std::span(&spec, 1), 128);
  const std::vector<ipc::TensorLayout> far = {
      {.name = "y", .dtype = DType::kFloat32, .shape = {4}, .offset = 60 << 10, .bytes = 16}};
  ASSERT_TRUE(channel_.Submit(*channel_.Loan(large), kNever).ok());
  Answer(0, [&](ipc::CompletionEntry& e) {
    Describe(0, *ipc::EncodeResponse(far));
    e.descriptor_bytes = described_;
    e.descriptor_token = 5;
  });
  ASSERT_TRUE(channel_.Poll()->response.ok());
  ASSERT_TRUE(channel_.Submit(*channel_.Loan(small), kNever).ok());
  ipc::CompletionEntry& entry = raw_.completion(published_);
  entry.request_id = raw_.submission(1).request_id;
  entry.generation = 1;
  entry.descriptor_token = 5;
  entry.status_code = 0;
  entry.descriptor_bytes = described_;
  entry.stamp.store(published_++, std::memory_order_release);
  ExpectPoisoned("does not fit the block");
}

TEST_F(Lies, SizesThatWouldDo) {
  const uint64_t lies[] = {1,
                           127,
                           uint64_t{1} << 20,
                           (uint64_t{1} << 20) + 1,
                           uint64_t{1} << 40,
                           ~uint64_t{0},
                           ~uint64_t{0} - 126};
  for (const uint64_t needed : lies) {
    Channel channel = server_.Open(Small());
    std::swap(channel, channel_);
    raw_ = RawWorker(server_, server_.opened_channels() - 1);
    published_ = 0;
    Submit();
    // Again and again: it is asked for again a few times, then the request ends.
    for (uint64_t sequence = 0; sequence < 6 && raw_.Submitted(sequence); ++sequence) {
      Answer(sequence, [&](ipc::CompletionEntry& e) {
        e.status_code = static_cast<uint16_t>(absl::StatusCode::kResourceExhausted);
        e.needed_bytes = needed + 70'000 * (sequence + 1) * (needed == 1 ? 1 : 0);
        e.descriptor_bytes = 0;
      });
      if (const std::optional<Outcome> outcome = channel_.Poll()) {
        EXPECT_TRUE(absl::IsResourceExhausted(outcome->response.status()));
      }
    }
    EXPECT_EQ(channel_.outstanding(), 0u) << needed;
    EXPECT_EQ(channel_.free_response_bytes(), Small().response_arena_bytes) << needed;
  }
}

TEST_F(Lies, AStampFromTheFutureIsNotAnAnswer) {
  Submit();
  for (const uint64_t stamp : {uint64_t{8}, uint64_t{16}, ~uint64_t{0}, uint64_t{1}}) {
    raw_.completion(0).stamp.store(stamp);
    EXPECT_FALSE(channel_.Poll());
  }
}

TEST_F(Lies, PositionsThatNobodyReached) {
  Submit();
  raw_.state().taken.store(1'000'000);
  EXPECT_FALSE(channel_.Poll());  // believed only of the dead
  server_.ShowReaped(1);
  ExpectPoisoned("never submitted");
}

TEST_F(Lies, ARecordThatNobodyReached) {
  Submit();
  raw_.state().resume_taken.store(uint64_t{1} << 40);
  raw_.state().resume_generation.store(9);
  ExpectPoisoned("never submitted");
}

TEST_F(Lies, ARecordThatNeverStandsStill) {
  ASSERT_TRUE(channel_.Submit(Vector(channel_, 4, 1), kSoon).ok());
  std::atomic<bool> stop{false};
  std::thread scribbler([&] {
    for (uint64_t i = 1; !stop; ++i) {
      raw_.state().resume_generation.store(i, std::memory_order_relaxed);
      raw_.state().resume_taken.store(0, std::memory_order_relaxed);
    }
  });
  EXPECT_EQ(Drain(channel_), 1);
  stop = true;
  scribbler.join();
}

// The worker claims to be asleep, always: the front pays a system call, no more.
TEST_F(Lies, AWorkerThatSaysItSleeps) {
  server_.worker_page().sleeping.store(~0u);
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(channel_.Submit(Vector(channel_, 4, 1), kNever).ok());
    Answer(static_cast<uint64_t>(i), [](auto&) {});
    ASSERT_TRUE(channel_.Poll()->response.ok());
  }
}

TEST_F(Lies, ErrorTextsCarryNoControlCharacters) {
  Submit();
  Answer(0, [&](ipc::CompletionEntry& e) {
    e.status_code = static_cast<uint16_t>(absl::StatusCode::kInternal);
    const auto block = raw_.response_block(raw_.submission(0));
    for (size_t i = 0; i < 256; ++i) block[i] = static_cast<std::byte>(i);
    e.descriptor_bytes = 256;
  });
  const std::optional<Outcome> outcome = channel_.Poll();
  ASSERT_TRUE(outcome);
  for (const char c : outcome->response.status().message()) {
    EXPECT_TRUE(static_cast<unsigned char>(c) >= 0x20 || c == '\n' || c == '\t');
  }
}

// ---- Garbage -----------------------------------------------------------------------------------

// What a worker that is not quite right would write: plausible numbers, and
// some that are not.
class Scribbler {
 public:
  Scribbler(RawWorker& raw, uint64_t seed) : raw_(raw), random_(seed) {}

  void Scribble() {
    switch (random_() % 8) {
      case 0:
        Word(sizeof(ipc::SegmentHeader), sizeof(ipc::WorkerState));  // the state lines
        break;
      case 1:
        Word(raw_.completion_view().plan.ring_offset, 8 * sizeof(ipc::CompletionEntry));
        break;
      case 2:
        Word(raw_.completion_view().plan.arena_offset, 64 << 10);
        break;
      case 3:
        Word(0, sizeof(ipc::SegmentHeader));
        break;
      default:
        Entry();
    }
  }

 private:
  uint64_t Number() {
    switch (random_() % 5) {
      case 0:
        return random_() % 16;
      case 1:
        return uint64_t{0} - random_() % 16;
      case 2:
        return uint64_t{1} << random_() % 64;
      case 3:
        return random_();
      default:
        return 1 << 16;
    }
  }
  void Word(uint64_t from, uint64_t bytes) {
    const uint64_t value = Number();
    std::byte* at = raw_.completion_segment().data() + from + random_() % (bytes / 8) * 8;
    // As the peer's stores are: whole, and in no order that is promised.
    reinterpret_cast<std::atomic<uint64_t>*>(at)->store(value, std::memory_order_relaxed);
  }
  // A completion of some request, mostly right, published at the right place
  // or one of its neighbours.
  void Entry() {
    const ipc::SubmissionEntry& asked = raw_.submission(random_() % 8);
    ipc::CompletionEntry& entry = raw_.completion(next_);
    entry.request_id = random_() % 8 == 0 ? Number() : asked.request_id;
    entry.generation = random_() % 4;
    entry.descriptor_token = random_() % 4;
    entry.needed_bytes = random_() % 2 == 0 ? 0 : Number();
    entry.status_code = static_cast<uint16_t>(random_() % 4 != 0   ? 0
                                              : random_() % 2 == 0 ? 8
                                                                   : Number());
    if (uint64_t{asked.response_granule} + asked.response_granules <= 8192) {
      const int64_t count = 1 + static_cast<int64_t>(random_() % 64);
      const std::vector<ipc::TensorLayout> layouts = {{.name = "y",
                                                       .dtype = DType::kFloat32,
                                                       .shape = {count},
                                                       .offset = 128 * (random_() % 600),
                                                       .bytes = 4 * static_cast<uint64_t>(count)}};
      const ipc::DescriptorBytes bytes = *ipc::EncodeResponse(layouts);
      entry.descriptor_bytes = random_() % 8 == 0 ? static_cast<uint32_t>(Number())
                                                  : static_cast<uint32_t>(bytes.size());
      const std::span<std::byte> block = raw_.response_block(asked);
      if (bytes.size() <= block.size()) std::ranges::copy(bytes, block.begin());
    }
    entry.stamp.store(random_() % 8 == 0 ? next_ + Number() : next_, std::memory_order_release);
    ++next_;
  }

  RawWorker& raw_;
  std::mt19937_64 random_;
  uint64_t next_ = 0;
};

TEST(Garbage, BetweenTheFrontsLooks) {  // A33, R6
  FakeServer server;
  int ends = 0;
  int submitted = 0;
  for (uint64_t seed = 0; seed < 400; ++seed) {
    Channel channel = server.Open(Small());
    RawWorker raw(server, seed);
    Scribbler scribbler(raw, seed);
    std::mt19937_64 random(seed + 1000);
    std::vector<Response> leases;
    for (int step = 0; step < 40; ++step) {
      const TensorSpec spec{"x", DType::kFloat32, {4}};
      absl::StatusOr<Request> request = channel.NewRequest(std::span(&spec, 1));
      if (request.ok()) {
        const CallOptions options{.timeout = absl::Milliseconds(2),
                                  .idempotent = random() % 2 == 0};
        submitted += channel.Submit(*std::move(request), options).ok() ? 1 : 0;
      }
      for (uint64_t i = random() % 6; i > 0; --i) scribbler.Scribble();
      if (random() % 10 == 0) server.ShowReaped(random() % 4);
      while (std::optional<Outcome> outcome = channel.Poll()) {
        ++ends;
        if (!outcome->response.ok()) continue;
        Touch(*outcome->response);
        leases.push_back(*std::move(outcome->response));
      }
      if (leases.size() > 8) leases.erase(leases.begin());
      for (const Response& lease : leases) Touch(lease);
    }
    ends += Drain(channel);
    server.status_page().reaped_generation.store(0);
  }
  EXPECT_EQ(ends, submitted) << "each request ends once";  // R2
}

// While the front reads: what it checked must be what it uses.
TEST(Garbage, WhileTheFrontReads) {  // A33, R6
  FakeServer server;
  for (uint64_t seed = 0; seed < 100; ++seed) {
    Channel channel = server.Open(Small());
    RawWorker raw(server, seed);
    std::atomic<bool> stop{false};
    std::thread worker([&] {
      Scribbler scribbler(raw, seed);
      while (!stop) scribbler.Scribble();
    });
    int ends = 0;
    int submitted = 0;
    for (int i = 0; i < 20; ++i) {
      const TensorSpec spec{"x", DType::kFloat32, {4}};
      absl::StatusOr<Request> request = channel.NewRequest(std::span(&spec, 1));
      if (!request.ok()) break;
      if (i % 4 == 3) {
        // The call's own deadline bounds it.
        const absl::StatusOr<Response> response = channel.Call(*std::move(request), kSoon);
        if (response.ok()) Touch(*response);
      } else {
        submitted += channel.Submit(*std::move(request), kSoon).ok() ? 1 : 0;
      }
      while (const std::optional<Outcome> outcome = channel.Poll()) {
        ++ends;
        if (outcome->response.ok()) Touch(*outcome->response);
      }
    }
    ends += Drain(channel);
    EXPECT_EQ(ends, submitted) << "seed " << seed;
    stop = true;
    worker.join();
  }
}

// ---- The other direction: a front that lies ----------------------------------------------------

// The submission segment, mapped for writing behind the front's back.
class RawFront {
 public:
  RawFront(FakeServer& server, size_t index) {
    const runtime::ChannelServer::Descriptors fds = server.Descriptors(index);
    // A process of the same user can reopen what it was given read-only: that
    // descriptor guards against accidents.
    const std::string path = absl::StrCat("/proc/self/fd/", fds.submission);
    const ipc::UniqueFd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    absl::StatusOr<ipc::Segment> segment =
        ipc::Segment::Map(fd.get(), fds.submission_bytes, ipc::SegmentAccess::kReadWrite);
    EXPECT_TRUE(segment.ok()) << segment.status();
    segment_ = *std::move(segment);
    view_ = *ipc::ReadSubmissionHeader(segment_.data(), segment_.bytes());
  }
  uint64_t arena_bytes() const { return view_.plan.arena_bytes; }
  ipc::SubmissionEntry& entry(uint64_t sequence) const {
    return reinterpret_cast<ipc::SubmissionEntry*>(
        segment_.data() + view_.plan.ring_offset)[sequence & (view_.ring_entries - 1)];
  }
  // Writes a description of `count` floats at `offset` into a block, and says
  // so in the entry.
  void Describe(ipc::SubmissionEntry& entry, int64_t count, uint64_t offset) const {
    const std::vector<ipc::TensorLayout> layouts = {{.name = "x",
                                                     .dtype = DType::kFloat32,
                                                     .shape = {count},
                                                     .offset = offset,
                                                     .bytes = 4 * static_cast<uint64_t>(count)}};
    const ipc::DescriptorBytes bytes = *ipc::EncodeRequest(layouts);
    entry.descriptor_bytes = static_cast<uint32_t>(bytes.size());
    std::byte* at =
        segment_.data() + view_.plan.arena_offset + entry.request_granule * ipc::kGranuleBytes;
    std::memset(at, 0, ipc::kBlockHeaderBytes);
    std::ranges::copy(bytes, at + ipc::kBlockHeaderBytes);
  }

 private:
  ipc::Segment segment_;
  ipc::SegmentView view_;
};

// A description that was checked for a large block is named again for a small
// one: the model must not be shown another request's bytes.
TEST(FrontLies, AKnownNameForASmallerBlock) {  // R6
  FakeServer server;
  FunctionModel model(Double);
  Channel channel = server.Open(Small());
  StepWorker worker(server, 0, 1, model);
  const RawFront front(server, 0);
  const RawWorker raw(server, 0);
  for (const uint64_t sequence : {0, 1}) {
    ipc::SubmissionEntry& entry = front.entry(sequence);
    entry.request_id = sequence;
    entry.deadline_ns = 0;
    entry.descriptor_token = 3;
    entry.request_granule = 0;
    entry.request_granules = sequence == 0 ? 64 : 4;
    entry.response_granule = 0;
    entry.response_granules = 64;
    entry.kind = 1;
    front.Describe(entry, 1000, 1024);
    entry.stamp.store(sequence, std::memory_order_release);
    ASSERT_TRUE(worker.Step());
  }
  EXPECT_EQ(model.runs(), 1);
  EXPECT_EQ(raw.completion(0).status_code, 0);
  EXPECT_EQ(raw.completion(1).status_code,
            static_cast<uint16_t>(absl::StatusCode::kInvalidArgument));
}

// A front that writes garbage gets answers, and the worker lives.
TEST(Garbage, FromTheFront) {  // R6
  FakeServer server;
  FunctionModel model(Double);
  for (uint64_t seed = 0; seed < 200; ++seed) {
    Channel channel = server.Open(Small());
    StepWorker worker(server, seed, 1, model);
    const RawFront front(server, seed);
    std::mt19937_64 random(seed);
    const uint64_t granules = front.arena_bytes() / ipc::kGranuleBytes;
    for (uint64_t sequence = 0; sequence < 30; ++sequence) {
      ipc::SubmissionEntry& entry = front.entry(sequence);
      const auto number = [&] {
        return static_cast<uint32_t>(random() % 3 == 0 ? random() : random() % (granules + 2));
      };
      entry.request_id = random();
      entry.deadline_ns = random() % 4 == 0 ? static_cast<int64_t>(random()) : 0;
      entry.descriptor_token = random() % 4;
      entry.request_granule = number();
      entry.request_granules = number();
      entry.response_granule = number();
      entry.response_granules = number();
      entry.descriptor_bytes = random() % 4 == 0 ? number() : 120;
      entry.kind = random() % 8 == 0 ? static_cast<uint16_t>(random()) : 1;
      // Some requests are nearly right.
      if (entry.request_granule + uint64_t{4} <= granules && random() % 4 != 0) {
        front.Describe(entry, 1 + static_cast<int64_t>(random() % 5000), 128 * (random() % 64));
      }
      entry.stamp.store(sequence, std::memory_order_release);
      EXPECT_TRUE(worker.Step()) << "every request is answered";
    }
  }
}

}  // namespace
}  // namespace baton::test
