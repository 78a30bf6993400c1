#include "tools/shmctl/timeline_drawing.h"

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"

#include "tools/shmctl/quantity_text.h"
#include "tools/shmctl/reload_timeline.h"
#include "tools/shmctl/wrapped_text.h"

namespace baton::shmctl {
namespace {

namespace schema = ipc::schema;

// "  nobody served 2.90 ms  " stands before the bars.
constexpr int kNameCells = 13;
constexpr int kTimeCells = 7;
constexpr size_t kTextIndent = 2 + kNameCells + 1;
constexpr size_t kBarIndent = kTextIndent + kTimeCells + 2;
constexpr size_t kMinBarCells = 40 - kBarIndent;

struct Look {
  absl::string_view served;
  absl::string_view unserved;
  absl::string_view gap;
};

constexpr Look kAscii = {"-", "#", "^"};
constexpr Look kUtf8 = {"░", "█", "▀"};

constexpr absl::string_view kBold = "\033[1m";
constexpr absl::string_view kGreen = "\033[32m";
constexpr absl::string_view kRed = "\033[31m";
constexpr absl::string_view kPlain = "\033[0m";

std::string Coloured(const DrawingStyle& style, absl::string_view colour, absl::string_view text) {
  if (!style.colours || text.empty()) return std::string(text);
  return absl::StrCat(colour, text, kPlain);
}

std::string Repeated(absl::string_view glyph, size_t times) {
  std::string text;
  for (size_t i = 0; i < times; ++i) absl::StrAppend(&text, glyph);
  return text;
}

// Time to cells: every span of a timeline has a first and a last cell.
class Scale {
 public:
  Scale(const ReloadTimeline& timeline, size_t cells) : timeline_(timeline), cells_(cells) {
    const auto& spans = timeline.spans;
    if (spans.size() > cells) return;  // cells are shared: plain proportion
    // Those that would have less than a cell have one; the others share the rest.
    std::vector<bool> small(spans.size(), false);
    double rest_cells = static_cast<double>(cells);
    double rest_ns = static_cast<double>(timeline.total_ns);
    for (bool changed = true; changed;) {
      changed = false;
      for (size_t i = 0; i < spans.size(); ++i) {
        const double ns = static_cast<double>(spans[i].ns);
        if (small[i] || (rest_ns > 0 && ns * rest_cells >= rest_ns)) continue;
        small[i] = changed = true;
        rest_cells -= 1;
        rest_ns -= ns;
      }
    }
    double end = 0;
    ends_.push_back(0);
    for (size_t i = 0; i < spans.size(); ++i) {
      end += small[i] ? 1 : static_cast<double>(spans[i].ns) * rest_cells / rest_ns;
      ends_.push_back(static_cast<size_t>(std::llround(end)));
    }
  }

  size_t From(size_t span) const {
    if (!ends_.empty()) return ends_[span];
    return std::min(Proportion(timeline_.spans[span].start_ns), cells_ - 1);
  }
  size_t To(size_t span) const {
    if (!ends_.empty()) return ends_[span + 1];
    const ReloadTimeline::Span& it = timeline_.spans[span];
    return std::clamp(Proportion(it.start_ns + it.ns), From(span) + 1, cells_);
  }

 private:
  size_t Proportion(uint64_t ns) const {
    if (timeline_.total_ns == 0) return 0;
    return static_cast<size_t>(std::llround(static_cast<double>(ns) * static_cast<double>(cells_) /
                                            static_cast<double>(timeline_.total_ns)));
  }

  const ReloadTimeline& timeline_;
  const size_t cells_;
  std::vector<size_t> ends_;  // where each span ends, behind a 0; empty: there are too many
};

std::string Header(schema::Receipt::Reader receipt, const DrawingStyle& style) {
  std::string text = absl::StrCat(receipt.getGeneration(), " -> ");
  if (receipt.getSuccessor() == 0) {
    absl::StrAppend(&text, "none");
  } else {
    absl::StrAppend(&text, receipt.getSuccessor());
  }
  const size_t indent = text.size() + 2;
  std::string what =
      absl::StrCat(receipt.getTrigger().cStr(), ", ", receipt.getStrategy().cStr(), ": ",
                   receipt.getOutcome().cStr(), ", verdict ", receipt.getVerdict().cStr());
  if (receipt.getOverridden()) absl::StrAppend(&what, " (overridden)");
  if (receipt.getGapNs() > 0) {
    absl::StrAppend(&what, ", gap ", DurationText(receipt.getGapNs()));
  } else if (receipt.getOutcome() == "swapped" || receipt.getOutcome() == "kept-old") {
    absl::StrAppend(&what, ", no gap");
  }
  std::string row = WrappedRow(text, indent, what, style.width);
  row.pop_back();  // so that the line end is not coloured
  return Coloured(style, kBold, row) + "\n";
}

std::string LeftColumns(absl::string_view name, uint64_t ns) {
  return absl::StrFormat("  %-*s %*s  ", kNameCells, Printable(name), kTimeCells, DurationText(ns));
}

// The states' bars, and below them when nobody served.
std::string Bars(const ReloadTimeline& timeline, uint64_t gap_ns, const DrawingStyle& style) {
  const Look& look = style.utf8 ? kUtf8 : kAscii;
  const size_t cells = std::max(style.width, kBarIndent + kMinBarCells) - kBarIndent;
  const Scale scale(timeline, cells);
  size_t gap_from = cells;
  size_t gap_to = 0;
  std::string text;
  for (size_t i = 0; i < timeline.spans.size(); ++i) {
    const ReloadTimeline::Span& span = timeline.spans[i];
    const size_t from = scale.From(i);
    const size_t to = scale.To(i);
    if (!span.served) gap_from = std::min(gap_from, from);
    if (!span.served) gap_to = std::max(gap_to, to);
    absl::StrAppend(&text, LeftColumns(span.state, span.ns), std::string(from, ' '),
                    Coloured(style, span.served ? kGreen : kRed,
                             Repeated(span.served ? look.served : look.unserved, to - from)),
                    "\n");
  }
  if (gap_to > gap_from) {
    absl::StrAppend(&text, LeftColumns("nobody served", gap_ns), std::string(gap_from, ' '),
                    Coloured(style, kRed, Repeated(look.gap, gap_to - gap_from)), "\n");
  }
  return text;
}

std::string Lane(schema::Receipt::Reader receipt, const DrawingStyle& style) {
  const ReloadTimeline timeline = TimelineOf(receipt);
  std::string text = Header(receipt, style);
  const absl::Time started = absl::FromUnixMillis(static_cast<int64_t>(receipt.getStartedUnixMs()));
  std::string when = absl::FormatTime("%Y-%m-%d %H:%M:%E3S", started, style.zone);
  if (timeline.spans.empty()) {
    absl::StrAppend(&when, "; no states of its own: it was a try within the reload after it");
  } else {
    absl::StrAppend(&when, ", ", DurationText(timeline.total_ns));
  }
  absl::StrAppend(&text, WrappedRow("  started", kTextIndent, when, style.width));
  if (receipt.getReason().size() > 0) {
    absl::StrAppend(&text,
                    WrappedRow("  reason", kTextIndent, receipt.getReason().cStr(), style.width));
  }
  const uint64_t gap_ns =
      receipt.getGapNs() > 0 ? receipt.getGapNs() : timeline.gap_end_ns - timeline.gap_start_ns;
  return text + Bars(timeline, gap_ns, style);
}

std::string Legend(const DrawingStyle& style) {
  const Look& look = style.utf8 ? kUtf8 : kAscii;
  return absl::StrCat(Coloured(style, kGreen, look.served), " somebody serves  ",
                      Coloured(style, kRed, look.unserved), " nobody serves\n");
}

}  // namespace

std::string DrawTimeline(const std::vector<schema::Receipt::Reader>& receipts,
                         const DrawingStyle& style) {
  std::string text;
  for (const schema::Receipt::Reader receipt : receipts) {
    absl::StrAppend(&text, Lane(receipt, style), "\n");
  }
  return text + Legend(style);
}

}  // namespace baton::shmctl
