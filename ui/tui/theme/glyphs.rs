//! Marks, borders and patterns, in Unicode and in ASCII.

use ratatui::symbols::border;

/// How charts draw points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marker {
    /// Braille patterns: two by four dots a cell.
    Braille,
    /// A letter or sign of the line: one point a cell.
    Ascii,
}

/// The marks of one character set. Each is one cell wide unless it says otherwise.
///
/// Of [`Glyphs::UNICODE`] many are of ambiguous width in Unicode (… ★ ▲ and the box
/// lines): terminals set up for Korean, Japanese or Chinese may draw those two cells wide,
/// which breaks every border. [`Glyphs::ASCII`] has nothing but ASCII, so nothing wide or
/// ambiguous, and also serves fonts that lack these signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Glyphs {
    /// It went well.
    pub good: &'static str,
    /// It went wrong.
    pub bad: &'static str,
    /// It needs a look.
    pub warn: &'static str,
    /// The best of a ranking.
    pub best: &'static str,
    /// The row under the cursor.
    pub cursor: &'static str,
    /// A row that the user marked.
    pub marked: &'static str,
    /// Sorted with the smallest first.
    pub ascending: &'static str,
    /// Sorted with the largest first.
    pub descending: &'static str,
    /// From one value to another; more is above or to the right.
    pub arrow_right: &'static str,
    /// A value above the edge.
    pub arrow_up: &'static str,
    /// A value below the edge.
    pub arrow_down: &'static str,
    /// Text was cut here.
    pub ellipsis: &'static str,
    /// Between items of one line.
    pub separator: &'static str,
    /// Between two columns, and the axis and crosshair of a chart.
    pub vertical: &'static str,
    /// Between two parts of a pane.
    pub horizontal: &'static str,
    /// A reference line of a chart.
    pub dashed: &'static str,
    /// Before a text that only the newer side has; two cells.
    pub added_open: &'static str,
    /// After it; two cells.
    pub added_close: &'static str,
    /// Before a text that only the older side has; two cells.
    pub removed_open: &'static str,
    /// After it; two cells.
    pub removed_close: &'static str,
    /// The done part of a gauge.
    pub bar_full: &'static str,
    /// The open part of a gauge, the free part of a stacked bar.
    pub bar_empty: &'static str,
    /// Where the capacity of a stacked bar ends.
    pub capacity: &'static str,
    /// What does not fit into the capacity.
    pub overflow: &'static str,
    /// Parts of a stacked bar, distinguishable without colour.
    pub parts: [&'static str; 11],
    /// A sparkline's levels, lowest first.
    pub spark: [&'static str; 8],
    /// A scrollbar's track.
    pub scroll_track: &'static str,
    /// The part of a scrollbar that is on the screen.
    pub scroll_thumb: &'static str,
    /// The box of a pane.
    pub border: border::Set<'static>,
    /// The box of the pane that has the keyboard.
    pub border_focused: border::Set<'static>,
    /// Between factors.
    pub times: &'static str,
    /// How charts draw points.
    pub marker: Marker,
}

impl Glyphs {
    /// For terminals with a good font.
    pub const UNICODE: Self = Self {
        good: "✓",
        bad: "✗",
        warn: "!",
        best: "★",
        cursor: "▸",
        marked: "●",
        ascending: "▲",
        descending: "▼",
        arrow_right: "→",
        arrow_up: "↑",
        arrow_down: "↓",
        ellipsis: "…",
        separator: "·",
        vertical: "│",
        horizontal: "─",
        dashed: "╌",
        added_open: "{+",
        added_close: "+}",
        removed_open: "[-",
        removed_close: "-]",
        bar_full: "█",
        bar_empty: "░",
        capacity: "┃",
        overflow: "╳",
        parts: ["█", "▒", "▚", "▓", "▤", "▥", "▞", "▦", "▧", "▩", "▨"],
        spark: ["▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"],
        scroll_track: "│",
        scroll_thumb: "█",
        border: border::PLAIN,
        border_focused: border::THICK,
        times: "×",
        marker: Marker::Braille,
    };

    /// For every terminal: nothing outside ASCII.
    pub const ASCII: Self = Self {
        good: "+",
        bad: "x",
        warn: "!",
        best: "*",
        cursor: ">",
        marked: "#",
        ascending: "^",
        descending: "v",
        arrow_right: ">",
        arrow_up: "^",
        arrow_down: "v",
        ellipsis: "~",
        separator: "|",
        vertical: "|",
        horizontal: "-",
        dashed: "-",
        added_open: "{+",
        added_close: "+}",
        removed_open: "[-",
        removed_close: "-]",
        bar_full: "#",
        bar_empty: ".",
        capacity: "|",
        overflow: "!",
        parts: ["#", "=", "%", "+", "o", "*", ":", "@", "x", "&", "~"],
        spark: ["_", ".", ":", "-", "=", "+", "*", "#"],
        scroll_track: "|",
        scroll_thumb: "#",
        border: box_of("+", "-", "|"),
        border_focused: box_of("#", "=", "|"),
        times: "x",
        marker: Marker::Ascii,
    };

    /// [`Glyphs::ASCII`] where `is_ascii`, else [`Glyphs::UNICODE`].
    pub fn new(is_ascii: bool) -> Self {
        if is_ascii { Self::ASCII } else { Self::UNICODE }
    }

    /// The pattern of the part of a bar with this style index; patterns repeat after eleven.
    pub fn part(&self, index: usize) -> &'static str {
        let position = index % self.parts.len();
        self.parts.get(position).copied().unwrap_or(self.bar_full)
    }
}

const fn box_of(
    corner: &'static str,
    horizontal: &'static str,
    vertical: &'static str,
) -> border::Set<'static> {
    border::Set {
        top_left: corner,
        top_right: corner,
        bottom_left: corner,
        bottom_right: corner,
        vertical_left: vertical,
        vertical_right: vertical,
        horizontal_top: horizontal,
        horizontal_bottom: horizontal,
    }
}

#[cfg(test)]
mod tests {
    use unicode_width::UnicodeWidthStr;

    use super::*;

    /// Every string of the set, taken from its `Debug` form so that a new field cannot
    /// be forgotten here.
    fn all(glyphs: &Glyphs) -> Vec<String> {
        let written = format!("{glyphs:?}");
        let texts: Vec<String> = written
            .split('"')
            .skip(1)
            .step_by(2)
            .map(str::to_owned)
            .collect();
        assert_eq!(texts.len(), 62, "one string for each glyph");
        texts
    }

    #[test]
    fn ascii_set_has_neither_wide_nor_ambiguous_signs() {
        for glyph in all(&Glyphs::ASCII) {
            assert!(glyph.chars().all(|sign| sign.is_ascii_graphic()), "{glyph}");
            assert_eq!(glyph.width(), glyph.width_cjk(), "{glyph}");
        }
    }

    #[test]
    fn every_glyph_has_the_width_it_says() {
        for set in [Glyphs::UNICODE, Glyphs::ASCII] {
            let pairs = [
                set.added_open,
                set.added_close,
                set.removed_open,
                set.removed_close,
            ];
            for glyph in all(&set) {
                let expected = if pairs.contains(&glyph.as_str()) {
                    2
                } else {
                    1
                };
                assert_eq!(glyph.width(), expected, "{glyph}");
            }
        }
    }

    #[test]
    fn parts_and_levels_differ_without_colour() {
        for set in [Glyphs::UNICODE, Glyphs::ASCII] {
            let distinct = |glyphs: &[&str]| {
                let mut sorted = glyphs.to_vec();
                sorted.sort_unstable();
                sorted.dedup();
                sorted.len() == glyphs.len()
            };
            assert!(distinct(&set.parts) && distinct(&set.spark));
            assert!(!set.parts.contains(&set.bar_empty));
            assert!(!set.parts.contains(&set.overflow));
            assert_ne!(set.good, set.bad);
            assert_ne!(set.ascending, set.descending);
            assert_ne!(set.border, set.border_focused);
        }
    }
}
