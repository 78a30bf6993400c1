// What a front says of how its requests come, which its worker makes use of.
#include <vector>

#include "gtest/gtest.h"

#include "runtime/front/channel_core.h"
#include "tests/runtime/front/fake_server.h"

namespace baton::test {
namespace {

class PaceTest : public ::testing::Test {
 protected:
  void CallOnce() {
    ASSERT_TRUE(channel_.Submit(Vector(channel_, 2, 1)).ok());
    worker_.StepAll();
    ASSERT_TRUE(channel_.Wait(absl::Minutes(1)));
  }
  bool says_one_at_a_time() const { return raw_.front().one_at_a_time.load() != 0; }

  FakeServer server_;
  FunctionModel model_{Double};
  Channel channel_ = server_.Open({});
  StepWorker worker_{server_, 0, 1, model_};
  const RawWorker raw_{server_, 0};
};

TEST_F(PaceTest, OneAtATimeCountsWhenItHasLasted) {
  for (uint32_t i = 1; i < internal::kAloneInARow; ++i) {
    CallOnce();
    EXPECT_FALSE(says_one_at_a_time()) << i;
  }
  for (int i = 0; i < 20; ++i) {
    CallOnce();
    EXPECT_TRUE(says_one_at_a_time()) << i;
  }
}

TEST_F(PaceTest, ASecondOneUnderWayEndsIt) {
  for (int lap = 0; lap < 3; ++lap) {
    for (uint32_t i = 0; i < internal::kAloneInARow; ++i) CallOnce();
    EXPECT_TRUE(says_one_at_a_time());
    ASSERT_TRUE(channel_.Submit(Vector(channel_, 2, 1)).ok());
    EXPECT_TRUE(says_one_at_a_time());
    CallOnce();
    EXPECT_FALSE(says_one_at_a_time());
    ASSERT_TRUE(channel_.Wait(absl::Minutes(1)));
  }
}

// Of each pair the first is alone when it is submitted, the second never is.
TEST_F(PaceTest, PairsAreNotOneAtATime) {
  for (int pair = 0; pair < 20; ++pair) {
    std::vector<Request> requests;
    for (int i = 0; i < 2; ++i) requests.push_back(Vector(channel_, 2, 1));
    ASSERT_EQ(*channel_.SubmitBatch(requests), 2u);
    worker_.StepAll();
    for (int i = 0; i < 2; ++i) ASSERT_TRUE(channel_.Wait(absl::Minutes(1)));
    EXPECT_FALSE(says_one_at_a_time()) << pair;
  }
}

}  // namespace
}  // namespace baton::test
