// The layout of a channel's segments: pinned byte by byte, and refused when it
// is not what it should be (R8).
#include "ipc/channel_layout.h"

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "gtest/gtest.h"

namespace baton::ipc {
namespace {

struct FreeAligned {
  void operator()(std::byte* bytes) const { ::operator delete[](bytes, std::align_val_t{4096}); }
};
using Bytes = std::unique_ptr<std::byte[], FreeAligned>;

Bytes Zeroed(uint64_t bytes) { return Bytes(new (std::align_val_t{4096}) std::byte[bytes]()); }

// Lines of 16 bytes that are not all zero, as "offset: bytes".
std::string Dump(const std::byte* bytes, uint64_t size) {
  std::string dump;
  for (uint64_t at = 0; at < size; at += 16) {
    std::string line;
    bool zero = true;
    for (uint64_t i = at; i < at + 16; ++i) {
      absl::StrAppendFormat(&line, "%s%02x", i % 4 == 0 ? " " : "", static_cast<int>(bytes[i]));
      zero = zero && bytes[i] == std::byte{0};
    }
    if (!zero) absl::StrAppendFormat(&dump, "%05x:%s\n", at, line);
  }
  return dump;
}

constexpr uint64_t kFirst = 0x1122'3344'5566'7788;

// R8. If this fails, programs built before can no longer talk to programs
// built now: raise kLayoutVersion's major half, then change the dump. The minor
// half where what was always zero has got a meaning that nobody has to know.
TEST(ChannelLayoutGolden, SubmissionSegment) {
  const SegmentPlan plan = *PlanSubmissionSegment(/*ring_entries=*/4, /*arena_bytes=*/1000);
  const Bytes bytes = Zeroed(plan.segment_bytes);
  InitSubmissionSegment(bytes.get(), plan, 4, kFirst);
  auto* state = reinterpret_cast<FrontState*>(bytes.get() + sizeof(SegmentHeader));
  state->sleeping.store(kFrontOnEventFd);
  state->one_at_a_time.store(1);
  state->cancellations.store(0xc1);
  state->completions_read.store(0xc2);
  auto* entry = reinterpret_cast<SubmissionEntry*>(bytes.get() + plan.ring_offset);
  entry->request_id = 0x0101010101010101;
  entry->deadline_ns = 0x0202020202020202;
  entry->descriptor_token = 0x0303030303030303;
  entry->request_granule = 0x04040404;
  entry->request_granules = 0x05050505;
  entry->response_granule = 0x06060606;
  entry->response_granules = 0x07070707;
  entry->descriptor_bytes = 0x08080808;
  entry->kind = static_cast<uint16_t>(RequestKind::kInfer);
  entry->method = 0x0909;
  entry->device_granule = 0x0a0a0a0a;
  entry->device_granules = 0x0b0b0b0b;
  auto* block = reinterpret_cast<RequestBlockHeader*>(bytes.get() + plan.arena_offset);
  block->cancelled.store(1);
  block->input_granule.store(0x0c0c0c0c);
  block->input_granules.store(0x0d0d0d0d);
  block->input_generation.store(0x0e0e0e0e);
  EXPECT_EQ(plan.segment_bytes, 8192u);
  EXPECT_EQ(Dump(bytes.get(), plan.segment_bytes),
            "00000: 4261746e 53756231 00200000 00000000\n"
            "00010: 00100000 00000000 00040000 00000000\n"
            "00020: 88776655 44332211 04000000 40000000\n"
            "00030: 00020000 00000000 00000000 00000000\n"
            "00070: 00000000 00000000 00000000 01000300\n"
            "00080: 02000000 01000000 00000000 00000000\n"
            "00100: c1000000 00000000 00000000 00000000\n"
            "00180: c2000000 00000000 00000000 00000000\n"
            "00200: 84776655 44332211 01010101 01010101\n"
            "00210: 02020202 02020202 03030303 03030303\n"
            "00220: 04040404 05050505 06060606 07070707\n"
            "00230: 08080808 01000909 0a0a0a0a 0b0b0b0b\n"
            "00240: 85776655 44332211 00000000 00000000\n"
            "00280: 86776655 44332211 00000000 00000000\n"
            "002c0: 87776655 44332211 00000000 00000000\n"
            "01000: 01000000 0c0c0c0c 0d0d0d0d 0e0e0e0e\n");
}

TEST(ChannelLayoutGolden, CompletionSegment) {  // R8
  const SegmentPlan plan = *PlanCompletionSegment(/*ring_entries=*/4, /*arena_bytes=*/1000);
  const Bytes bytes = Zeroed(plan.segment_bytes);
  InitCompletionSegment(bytes.get(), plan, 4, kFirst);
  auto* state = reinterpret_cast<WorkerState*>(bytes.get() + sizeof(SegmentHeader));
  state->resume_generation.store(0xd1);
  state->resume_taken.store(0xd2);
  state->resume_published.store(0xd3);
  state->wake_count.store(0xd4);
  auto* entry = reinterpret_cast<CompletionEntry*>(bytes.get() + plan.ring_offset);
  entry->request_id = 0x0101010101010101;
  entry->generation = 0x0202020202020202;
  entry->descriptor_token = 0x0303030303030303;
  entry->needed_bytes = 0x0404040404040404;
  entry->descriptor_bytes = 0x05050505;
  entry->status_code = 0x0606;
  entry->flags = 0x0707;
  entry->service_ns = 0x0808080808080808;
  entry->needed_device_bytes = 0x0909090909090909;
  EXPECT_EQ(plan.segment_bytes, 8192u);
  EXPECT_EQ(Dump(bytes.get(), plan.segment_bytes),
            "00000: 4261746e 436d7031 00200000 00000000\n"
            "00010: 00100000 00000000 00040000 00000000\n"
            "00020: 88776655 44332211 04000000 40000000\n"
            "00030: 00020000 00000000 00000000 00000000\n"
            "00070: 00000000 00000000 00000000 01000300\n"
            "00080: 88776655 44332211 88776655 44332211\n"
            "00100: d1000000 00000000 d2000000 00000000\n"
            "00110: d3000000 00000000 00000000 00000000\n"
            "00180: d4000000 00000000 00000000 00000000\n"
            "00200: 84776655 44332211 01010101 01010101\n"
            "00210: 02020202 02020202 03030303 03030303\n"
            "00220: 04040404 04040404 05050505 06060707\n"
            "00230: 08080808 08080808 09090909 09090909\n"
            "00240: 85776655 44332211 00000000 00000000\n"
            "00280: 86776655 44332211 00000000 00000000\n"
            "002c0: 87776655 44332211 00000000 00000000\n");
}

TEST(ChannelLayoutPlan, RefusesImpossibleSizes) {
  for (const uint32_t entries : {0u, 1u, 3u, 6u, 1000u, (1u << 16) + 1, 1u << 17, 1u << 31}) {
    EXPECT_TRUE(absl::IsInvalidArgument(PlanSubmissionSegment(entries, 4096).status())) << entries;
    const uint32_t owed = entries == 1u << 17 ? 1u << 18 : entries;  // two a place
    EXPECT_TRUE(absl::IsInvalidArgument(PlanCompletionSegment(owed, 4096).status())) << owed;
  }
  EXPECT_TRUE(PlanCompletionSegment(CompletionEntries(kMaxRingEntries), 4096).ok());
  for (const uint64_t arena : {uint64_t{0}, (uint64_t{128} << 32) + 1, ~uint64_t{0}}) {
    EXPECT_TRUE(absl::IsInvalidArgument(PlanSubmissionSegment(2, arena).status())) << arena;
  }
}

TEST(ChannelLayoutPlan, PartsDoNotOverlapAndAreAligned) {
  for (uint32_t entries = kMinRingEntries; entries <= kMaxRingEntries; entries *= 2) {
    for (const uint64_t arena : {uint64_t{1}, uint64_t{128}, uint64_t{4097}, uint64_t{128} << 32}) {
      const SegmentPlan submission = *PlanSubmissionSegment(entries, arena);
      const SegmentPlan completion = *PlanCompletionSegment(entries, arena);
      EXPECT_GE(submission.ring_offset, sizeof(SegmentHeader) + sizeof(FrontState));
      EXPECT_GE(completion.ring_offset, sizeof(SegmentHeader) + sizeof(WorkerState));
      for (const SegmentPlan& plan : {submission, completion}) {
        EXPECT_EQ(plan.ring_offset % kSharedAlignment, 0u);
        EXPECT_GE(plan.arena_offset, plan.ring_offset + uint64_t{entries} * 64);
        EXPECT_EQ(plan.arena_offset % 4096, 0u);
        EXPECT_GE(plan.arena_bytes, arena);
        EXPECT_EQ(plan.arena_bytes % kGranuleBytes, 0u);
        EXPECT_GE(plan.segment_bytes, plan.arena_offset + plan.arena_bytes);
      }
    }
  }
}

// ---- Refusals ----------------------------------------------------------------------------------

enum class Which { kSubmission, kCompletion };

class ChannelLayoutRefuses : public ::testing::TestWithParam<Which> {
 protected:
  ChannelLayoutRefuses() {
    plan_ = *(submission() ? PlanSubmissionSegment(8, 4096) : PlanCompletionSegment(8, 4096));
    bytes_ = Zeroed(plan_.segment_bytes);
    Init(plan_);
  }
  bool submission() const { return GetParam() == Which::kSubmission; }
  void Init(const SegmentPlan& plan) {
    if (submission()) {
      InitSubmissionSegment(bytes_.get(), plan, 8, 7);
    } else {
      InitCompletionSegment(bytes_.get(), plan, 8, 7);
    }
  }
  absl::StatusOr<SegmentView> Read(uint64_t mapped) {
    return submission() ? ReadSubmissionHeader(bytes_.get(), mapped)
                        : ReadCompletionHeader(bytes_.get(), mapped);
  }
  absl::Status Read() { return Read(plan_.segment_bytes).status(); }
  SegmentHeader& header() { return *reinterpret_cast<SegmentHeader*>(bytes_.get()); }

  SegmentPlan plan_;
  Bytes bytes_;
};

TEST_P(ChannelLayoutRefuses, NothingThatIsRight) {
  const absl::StatusOr<SegmentView> view = Read(plan_.segment_bytes);
  ASSERT_TRUE(view.ok()) << view.status();
  EXPECT_EQ(view->ring_entries, 8u);
  EXPECT_EQ(view->first_sequence, 7u);
  EXPECT_EQ(view->plan.ring_offset, plan_.ring_offset);
  EXPECT_EQ(view->plan.arena_offset, plan_.arena_offset);
  EXPECT_EQ(view->plan.arena_bytes, plan_.arena_bytes);
  EXPECT_TRUE(Read(plan_.segment_bytes + 4096).ok());
}

TEST_P(ChannelLayoutRefuses, ASegmentThatWasNeverFinished) {  // R8
  header().version.store(0);
  EXPECT_TRUE(absl::IsFailedPrecondition(Read()));
  std::memset(bytes_.get(), 0, plan_.segment_bytes);
  EXPECT_TRUE(absl::IsFailedPrecondition(Read()));
}

TEST_P(ChannelLayoutRefuses, AnotherMajorVersionButNotAnotherMinor) {  // R8
  header().version.store(kLayoutVersion + (1u << 16));
  EXPECT_TRUE(absl::IsFailedPrecondition(Read()));
  header().version.store(0xffff);
  EXPECT_TRUE(absl::IsFailedPrecondition(Read()));
  header().version.store(kLayoutVersion | 9);
  EXPECT_TRUE(Read().ok());
}

TEST_P(ChannelLayoutRefuses, AnotherMagic) {  // R8
  header().magic = submission() ? kCompletionMagic : kSubmissionMagic;
  EXPECT_TRUE(absl::IsFailedPrecondition(Read()));
  header().magic = 0;
  EXPECT_TRUE(absl::IsFailedPrecondition(Read()));
}

TEST_P(ChannelLayoutRefuses, EverySizeThatDoesNotFit) {  // R8
  const std::function<void(SegmentHeader&)> lies[] = {
      [](SegmentHeader& h) { h.segment_bytes += 4096; },
      [](SegmentHeader& h) { h.segment_bytes = 0; },
      [](SegmentHeader& h) { h.arena_offset += 128; },
      [](SegmentHeader& h) { h.arena_offset = ~uint64_t{0} - 4095; },
      [](SegmentHeader& h) { h.arena_bytes += 128; },
      [](SegmentHeader& h) { h.arena_bytes += 4096; },
      [](SegmentHeader& h) { h.arena_bytes = 0; },
      [](SegmentHeader& h) { h.arena_bytes = 100; },
      [](SegmentHeader& h) { h.arena_bytes = ~uint64_t{0}; },
      [](SegmentHeader& h) { h.ring_entries = 1024; },
      [](SegmentHeader& h) { h.ring_entries = 7; },
      [](SegmentHeader& h) { h.ring_entries = 0; },
      [](SegmentHeader& h) { h.ring_entries = 1u << 31; },
      [](SegmentHeader& h) { h.entry_bytes = 128; },
      [](SegmentHeader& h) { h.entry_bytes = 0; },
      [](SegmentHeader& h) { h.ring_offset -= 64; },
      [](SegmentHeader& h) { h.ring_offset = ~0u; },
  };
  for (size_t i = 0; i < std::size(lies); ++i) {
    Init(plan_);
    ASSERT_TRUE(Read().ok());
    lies[i](header());
    EXPECT_TRUE(absl::IsInvalidArgument(Read())) << "lie " << i << ": " << Read();
  }
}

TEST_P(ChannelLayoutRefuses, AMappingThatIsTooSmall) {  // R8
  for (const uint64_t mapped : {uint64_t{0}, uint64_t{64}, sizeof(SegmentHeader), uint64_t{256},
                                plan_.arena_offset, plan_.segment_bytes - 1}) {
    EXPECT_TRUE(absl::IsInvalidArgument(Read(mapped).status())) << mapped;
  }
}

INSTANTIATE_TEST_SUITE_P(Both, ChannelLayoutRefuses,
                         ::testing::Values(Which::kSubmission, Which::kCompletion),
                         [](const auto& info) {
                           return info.param == Which::kSubmission ? "Submission" : "Completion";
                         });

}  // namespace
}  // namespace baton::ipc
