// Memory nodes: what a thread prefers, what comes of it, and what is said of a node that there is
// not. On a machine with one node, that one.
#include "ipc/numa_node.h"

#include <linux/mempolicy.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "ipc/segment.h"

namespace baton::ipc {
namespace {

using ::testing::HasSubstr;

constexpr int kNoSuchNode = 1023;
constexpr size_t kNodes = 4096;
using Mask = std::array<unsigned long, kNodes / 64>;

// Mode and nodes, as the kernel has them for this thread.
std::pair<int, Mask> Policy(unsigned long flags = 0) {
  std::pair<int, Mask> policy{-1, Mask{}};
  int* const mode = flags == 0 ? &policy.first : nullptr;
  EXPECT_EQ(::syscall(SYS_get_mempolicy, mode, policy.second.data(), kNodes, nullptr, flags), 0);
  return policy;
}

std::vector<int> UsableNodes() {
  const Mask mask = Policy(MPOL_F_MEMS_ALLOWED).second;
  std::vector<int> nodes;
  for (int node = 0; node < static_cast<int>(kNodes); ++node) {
    if ((mask[static_cast<size_t>(node) / 64] >> (node % 64) & 1) != 0) nodes.push_back(node);
  }
  return nodes;
}

Mask Only(int node) {
  Mask mask{};
  mask[static_cast<size_t>(node) / 64] = 1ul << (node % 64);
  return mask;
}

// What is preferred is a thread's: each test has its own.
class NumaNode : public ::testing::Test {
 protected:
  template <typename Body>
  static void OnAThread(Body&& body) {
    std::thread(std::forward<Body>(body)).join();
  }
};

TEST_F(NumaNode, IsPreferredByThisThreadAndThoseThatItStarts) {
  for (const int node : UsableNodes()) {
    OnAThread([node] {
      ASSERT_TRUE(PreferNumaNode(node, "worker.numa_node").ok());
      EXPECT_EQ(Policy(), std::pair(int{MPOL_PREFERRED}, Only(node)));
      OnAThread([node] { EXPECT_EQ(Policy(), std::pair(int{MPOL_PREFERRED}, Only(node))); });
    });
  }
  EXPECT_EQ(Policy().first, MPOL_DEFAULT);
}

TEST_F(NumaNode, ThatThereIsNotIsRefusedWithThoseThereAre) {
  OnAThread([] {
    for (const int node : {kNoSuchNode, -2, 1 << 20}) {
      const absl::Status status = PreferNumaNode(node, "worker.numa_node");
      EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
      const std::string text(status.message());
      EXPECT_THAT(text, HasSubstr("worker.numa_node: NUMA node " + std::to_string(node)));
      EXPECT_THAT(text, HasSubstr("there are " + std::to_string(UsableNodes().front())));
    }
    EXPECT_EQ(Policy().first, MPOL_DEFAULT);
  });
}

TEST_F(NumaNode, APreferenceEndsWithItsObject) {
  OnAThread([] {
    const int node = UsableNodes().back();
    Mask mask = Only(node);
    for (const int mode : {MPOL_DEFAULT, MPOL_INTERLEAVE}) {
      Mask before = mode == MPOL_DEFAULT ? Mask{} : mask;
      ASSERT_EQ(::syscall(SYS_set_mempolicy, mode, before.data(), kNodes), 0);
      {
        absl::StatusOr<NumaPreference> preference = NumaPreference::OfThisThread(node, "numa_node");
        ASSERT_TRUE(preference.ok()) << preference.status();
        const NumaPreference moved = *std::move(preference);
        EXPECT_EQ(Policy(), std::pair(int{MPOL_PREFERRED}, mask));
      }
      EXPECT_EQ(Policy(), std::pair(mode, before));
      EXPECT_FALSE(NumaPreference::OfThisThread(kNoSuchNode, "numa_node").ok());
      EXPECT_EQ(Policy(), std::pair(mode, before));
    }
  });
}

TEST_F(NumaNode, ASegmentsPagesAreTakenFromIt) {
  constexpr uint64_t kPage = 4096;
  constexpr size_t kPages = 64;
  for (const SegmentBacking backing : {SegmentBacking::kMemfd, SegmentBacking::kPosixShm}) {
    for (const int node : UsableNodes()) {
      const absl::StatusOr<SegmentHandles> handles =
          CreateSegment({.bytes = kPages * kPage, .backing = backing, .numa_node = node});
      ASSERT_TRUE(handles.ok()) << handles.status();
      EXPECT_EQ(Policy().first, MPOL_DEFAULT);
      const absl::StatusOr<Segment> segment =
          Segment::Map(handles->read_write.get(), handles->bytes, SegmentAccess::kReadWrite);
      ASSERT_TRUE(segment.ok()) << segment.status();
      std::array<void*, kPages> pages;
      std::array<int, kPages> nodes;
      for (size_t i = 0; i < kPages; ++i) pages[i] = segment->data() + i * kPage;
      // Moves nothing: it says where they are.
      ASSERT_EQ(::syscall(SYS_move_pages, 0, kPages, pages.data(), nullptr, nodes.data(), 0), 0);
      EXPECT_THAT(nodes, ::testing::Each(node));
    }
    const absl::Status status =
        CreateSegment({.bytes = kPage, .backing = backing, .numa_node = kNoSuchNode}).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("NUMA node 1023"));
  }
}

}  // namespace
}  // namespace baton::ipc
