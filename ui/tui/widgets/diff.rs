//! Two texts and what differs between them.

use moim_core::score::{Segment, SegmentKind};
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use crate::tui::text::{width, wrap_runs};
use crate::tui::theme::Look;

/// How two texts are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// One text with both: `나는 [-학교-]{+병원+}에 간다`.
    #[default]
    Inline,
    /// The older at the left, the newer at the right.
    SideBySide,
    /// The older above the newer.
    Stacked,
}

/// Both texts as lines of at most `cells`, for [`super::scroll::ScrollText`]. What is
/// removed is in `[-` and `-]`, what is added in `{+` and `+}`, in every mode, so
/// that nothing is lost without colour.
pub fn lines(segments: &[Segment], mode: Mode, cells: usize, look: &Look) -> Vec<Line<'static>> {
    match mode {
        Mode::Inline => side(segments, None, cells, look),
        Mode::SideBySide => side_by_side(segments, cells, look),
        Mode::Stacked => stacked(segments, cells, look),
    }
}

fn side_by_side(segments: &[Segment], cells: usize, look: &Look) -> Vec<Line<'static>> {
    // The line between the columns and a space at either side of it.
    let column = cells.saturating_sub(3) / 2;
    let older = side(segments, Some(SegmentKind::Removed), column, look);
    let newer = side(segments, Some(SegmentKind::Added), column, look);
    let rows = older.len().max(newer.len());
    let mut newer = newer.into_iter();
    let mut older = older.into_iter();
    (0..rows)
        .map(|_| {
            let mut line = older.next().unwrap_or_default();
            let used: usize = line.spans.iter().map(|span| width(&span.content)).sum();
            let gap = " ".repeat(column.saturating_sub(used));
            line.spans.push(Span::raw(gap));
            let between = format!(" {} ", look.glyphs.vertical);
            if column > 0 {
                line.spans.push(Span::styled(between, look.theme.dim));
            }
            line.spans.extend(newer.next().unwrap_or_default().spans);
            line
        })
        .collect()
}

fn stacked(segments: &[Segment], cells: usize, look: &Look) -> Vec<Line<'static>> {
    let room = cells.saturating_sub(2);
    let signed = |kind, sign: &str, style: Style| {
        let sign = sign.to_owned();
        side(segments, Some(kind), room, look)
            .into_iter()
            .enumerate()
            .map(move |(row, mut line)| {
                // The sign is before the first line, the others are indented.
                let sign = if row == 0 {
                    format!("{sign} ")
                } else {
                    "  ".to_owned()
                };
                if cells >= 2 {
                    line.spans.insert(0, Span::styled(sign, style));
                }
                line
            })
    };
    signed(SegmentKind::Removed, "-", look.theme.bad)
        .chain(signed(SegmentKind::Added, "+", look.theme.good))
        .collect()
}

/// One side of the texts, or both for `None`.
fn side(
    segments: &[Segment],
    only: Option<SegmentKind>,
    cells: usize,
    look: &Look,
) -> Vec<Line<'static>> {
    let glyphs = &look.glyphs;
    let mut runs: Vec<(Style, &str)> = Vec::new();
    for segment in segments.iter().filter(|segment| !segment.text.is_empty()) {
        let (style, open, close) = match segment.kind {
            SegmentKind::Equal => (look.theme.text, "", ""),
            kind if only.is_some_and(|side| side != kind) => continue,
            SegmentKind::Removed => (
                look.theme.removed,
                glyphs.removed_open,
                glyphs.removed_close,
            ),
            SegmentKind::Added => (look.theme.added, glyphs.added_open, glyphs.added_close),
        };
        runs.extend([
            (style, open),
            (style, segment.text.as_str()),
            (style, close),
        ]);
    }
    wrap_runs(&runs, cells)
        .into_iter()
        .map(|line| {
            line.into_iter()
                .map(|(style, text)| Span::styled(text, style))
                .collect()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tui::widgets::scroll::ScrollText;
    use crate::tui::widgets::testing::{ascii, colored, drawn, plain};

    fn segment(kind: SegmentKind, text: &str) -> Segment {
        Segment {
            kind,
            text: text.to_owned(),
        }
    }

    fn example() -> Vec<Segment> {
        vec![
            segment(SegmentKind::Equal, "나는 "),
            segment(SegmentKind::Removed, "학교"),
            segment(SegmentKind::Added, "병원"),
            segment(SegmentKind::Equal, "에 간다."),
        ]
    }

    fn shown(mode: Mode, width: u16, look: &Look) -> Vec<String> {
        let lines = lines(&example(), mode, usize::from(width), look);
        drawn(width, 4, |area, buf| {
            ScrollText {
                lines: &lines,
                offset: 0,
            }
            .render(area, buf, look);
        })
    }

    #[test]
    fn both_sides_are_told_apart_without_colour() {
        assert_eq!(
            shown(Mode::Inline, 40, &plain())[0],
            "나는 [-학교-]{+병원+}에 간다."
        );
        assert_eq!(
            shown(Mode::SideBySide, 45, &ascii())[0],
            "나는 [-학교-]에 간다. | 나는 {+병원+}에 간다."
        );
        assert_eq!(
            shown(Mode::Stacked, 24, &ascii())[..2],
            ["- 나는 [-학교-]에 간다.", "+ 나는 {+병원+}에 간다."]
        );
    }

    #[test]
    fn columns_wrap_on_their_own() {
        assert_eq!(
            shown(Mode::SideBySide, 27, &plain()),
            [
                "나는         │ 나는",
                "[-학교-]에   │ {+병원+}에",
                "간다.        │ 간다.",
                "",
            ]
        );
    }

    #[test]
    fn colours_follow_the_words_over_a_break() {
        let look = colored();
        let segments = [segment(SegmentKind::Added, "하나 둘")];
        let lines = lines(&segments, Mode::Inline, 6, &look);
        assert_eq!(lines.len(), 2);
        for line in lines {
            assert!(line.spans.iter().all(|span| span.style == look.theme.added));
        }
    }

    proptest! {
        #[test]
        fn any_text_at_any_width(
            texts in prop::collection::vec((0_usize..3, "[가-힣 a-z\\n\u{1b}👍]{0,12}"), 0..8),
            cells in 0_usize..40,
        ) {
            let kinds = [SegmentKind::Equal, SegmentKind::Removed, SegmentKind::Added];
            let segments: Vec<Segment> = texts.iter().map(|(kind, text)| segment(kinds[*kind], text)).collect();
            for mode in [Mode::Inline, Mode::SideBySide, Mode::Stacked] {
                for line in lines(&segments, mode, cells, &plain()) {
                    prop_assert!(line.width() <= cells, "{mode:?} {line:?}");
                }
            }
        }
    }
}
