#include "ipc/redact.h"

#include <gtest/gtest.h>

#include <vector>

namespace baton::ipc {
namespace {

std::string Hide(std::string_view text, std::vector<std::string_view> values) {
  return Redacted(text, values);
}

TEST(Redacted, A16_EveryOccurrenceOfEveryValueIsHidden) {
  EXPECT_EQ(Hide("bad token hunter2, hunter2! pass", {"hunter2", "pass"}),
            "bad token ***, ***! ***");
  EXPECT_EQ(Hide("nothing here", {"hunter2"}), "nothing here");
  EXPECT_EQ(Hide("", {"hunter2"}), "");
}

TEST(Redacted, A16_OverlappingValuesLeaveNoRest) {
  EXPECT_EQ(Hide("<abcdefgh>", {"abcdef", "cdefgh"}), "<***>");
  EXPECT_EQ(Hide("<long-secret>", {"long", "long-secret"}), "<***>");
  EXPECT_EQ(Hide("<abababab>", {"ababab"}), "<***>");
}

TEST(Redacted, A16_ALineOfAValueIsHidden) {
  const char* key = "-----BEGIN KEY-----\nMIIEpAIBAAKC\r\nshort\nlast line";
  EXPECT_EQ(Hide("cannot parse MIIEpAIBAAKC: last line, short", {key}),
            "cannot parse ***: ***, short");
  EXPECT_EQ(Hide(std::string("<") + key + ">", {key}), "<***>");
  EXPECT_EQ(Hide("one line", {"one line and no more"}), "one line");
}

TEST(Redacted, ShortValuesStay) { EXPECT_EQ(Hide("yes, 123", {"yes", "123", ""}), "yes, 123"); }

}  // namespace
}  // namespace baton::ipc
