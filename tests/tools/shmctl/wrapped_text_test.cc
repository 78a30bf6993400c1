#include "tools/shmctl/wrapped_text.h"

#include <gtest/gtest.h>

namespace baton::shmctl {
namespace {

TEST(WrappedTextTest, FurtherLinesAreIndented) {
  EXPECT_EQ(WrappedRow("  why", 8, "one two three four", 16),
            "  why   one two\n"
            "        three\n"
            "        four\n");
  EXPECT_EQ(WrappedRow("why", 4, "", 16), "why\n");
  EXPECT_EQ(WrappedRow("why", 4, "a\nb", 16), "why a\n    b\n");
}

TEST(WrappedTextTest, WhatIsTooLongStaysWhole) {
  EXPECT_EQ(WrappedRow("at", 3, "in /a/path/that/is/long here", 12),
            "at in\n"
            "   /a/path/that/is/long\n"
            "   here\n");
}

TEST(WrappedTextTest, NumbersStayWithTheirUnits) {
  EXPECT_EQ(WrappedRow("", 0, "a gap of 2.90 ms", 14), "a gap of\n2.90 ms\n");
  EXPECT_EQ(WrappedRow("", 0, "a gap of v2.90 ms", 14), "a gap of v2.90\nms\n");
}

TEST(WrappedTextTest, CharactersAreCountedNotBytes) {
  EXPECT_EQ(TextCells("\u00e4\u2588x"), 3u);
  EXPECT_EQ(WrappedRow("", 0, "\u00e4\u00e4\u00e4 \u00e4\u00e4\u00e4", 7),
            "\u00e4\u00e4\u00e4 \u00e4\u00e4\u00e4\n");
}

// A model's own words may stand in a reason: they must not drive the terminal.
TEST(WrappedTextTest, NothingThatATerminalObeys) {
  EXPECT_EQ(Printable("a\033[31mb\r\b\x7f\tc\nd"), "a?[31mb??? c\nd");
  EXPECT_EQ(Printable("\u009b31m\u00e4"), "?31m\u00e4");
  EXPECT_EQ(WrappedRow("x", 2, "\033]0;title\007", 40), "x ?]0;title?\n");
}

}  // namespace
}  // namespace baton::shmctl
