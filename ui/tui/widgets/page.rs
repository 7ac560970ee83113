//! Lines of text, put together from the top.

use ratatui::style::Style;
use ratatui::text::Line;

use super::scroll::wrapped;
use crate::tui::text::{Align, aligned, fit, truncate};

/// Lines of at most `cells`.
#[derive(Clone, Debug, Default)]
pub struct Page {
    pub lines: Vec<Line<'static>>,
    pub cells: usize,
}

/// Cells of the names of a small table.
const NAME: usize = 11;

impl Page {
    /// No lines yet.
    pub fn new(cells: usize) -> Self {
        Self {
            lines: Vec::new(),
            cells,
        }
    }

    /// Any text, wrapped.
    pub fn say(&mut self, text: impl AsRef<str>, style: Style) {
        self.lines.extend(wrapped(text.as_ref(), self.cells, style));
    }

    /// A blank line.
    pub fn gap(&mut self) {
        self.lines.push(Line::default());
    }

    /// A line of a small table: a name, and values with their widths, aligned right.
    pub fn row(&mut self, name: &str, values: &[(&str, usize)], style: Style) {
        let mut line = fit(name, NAME);
        for (value, width) in values {
            line.push_str(&aligned(value, width + 1, Align::Right, ""));
        }
        let line = truncate(line.trim_end(), self.cells, "");
        self.lines.push(Line::styled(line, style));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_wrap_and_tables_are_cut() {
        let mut page = Page::new(18);
        page.say("긴 문장은 다음 줄로 간다", Style::new());
        page.gap();
        page.row("평균", &[("0.5", 6), ("longer", 9)], Style::new());
        let lines: Vec<String> = page.lines.iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            ["긴 문장은 다음", "줄로 간다", "", "평균           0.5"]
        );
    }
}
