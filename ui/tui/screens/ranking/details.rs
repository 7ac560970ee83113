//! Everything that is known of one file.

use moim_core::score::render::state_in_words;
use moim_core::score::{Averaging, Delta, Difference, FileState, Leaderboard, Row};
use ratatui::style::Style;
use ratatui::text::Line;

use super::table::Reference;
use super::words::{
    excludes_zero, interval, marked_difference, number, percent, probability, provenance,
    signed_interval,
};
use crate::tui::text::{self, Align};
use crate::tui::theme::{Look, Theme};
use crate::tui::widgets::scroll::wrapped;

/// Ids that are listed at most; the export has them all.
const IDS: usize = 40;

/// The details as lines of at most `cells`.
pub(super) fn lines(
    row: &Row,
    board: &Leaderboard,
    revision: u32,
    reference: Reference,
    cells: usize,
    look: &Look,
) -> Vec<Line<'static>> {
    let theme = &look.theme;
    let mut page = Page {
        lines: Vec::new(),
        cells,
    };
    page.say(&row.scored.file, theme.title);
    for sentence in about(row, board, revision) {
        page.say(&sentence, theme.text);
    }
    if let FileState::Broken(_) = row.scored.state {
        page.say("Press o to open the file in your editor.", theme.dim);
    }
    page.means(row, board, theme);
    for other in [reference, reference.other()] {
        match other.of(row) {
            Some(difference) => page.difference(difference, other, board, theme),
            None if other == Reference::EpochZero && row.scored.epoch != Some(0) => {
                page.gap();
                page.say(
                    "There is no complete file of epoch 0 to compare with.",
                    theme.dim,
                );
            }
            None => {}
        }
    }
    page.types(row, theme);
    page.coverage(row, theme);
    page.gap();
    page.say(&format!("{}.", provenance(board).join("; ")), theme.dim);
    page.lines
}

/// Rank, state and ties in sentences.
fn about(row: &Row, board: &Leaderboard, revision: u32) -> Vec<String> {
    let ranked = board.ranked().count();
    let mut sentences = vec![match row.rank {
        Some(rank) => format!("Rank {rank} of {ranked}."),
        None => "Ranked apart: only files that answer every label are ranked.".to_owned(),
    }];
    let mut state = format!("State: {}", state_in_words(row));
    if revision > 1 {
        state.push_str(&format!("; updated, {revision} good versions were read"));
    }
    sentences.push(state + ".");
    if !row.tied_with.is_empty() {
        sentences.push(format!("Tied with {}.", row.tied_with.join(", ")));
    }
    sentences
}

struct Page {
    lines: Vec<Line<'static>>,
    cells: usize,
}

impl Page {
    fn say(&mut self, words: &str, style: Style) {
        self.lines.extend(wrapped(words, self.cells, style));
    }

    fn gap(&mut self) {
        self.lines.push(Line::default());
    }

    /// A line of a small table: a name and columns of numbers.
    fn row(&mut self, name: &str, columns: &[(&str, usize)], style: Style) {
        let mut line = text::fit(name, 11);
        for (value, width) in columns {
            line.push_str(&text::aligned(value, width + 1, Align::Right, ""));
        }
        let line = text::truncate(&line, self.cells, "");
        self.lines.push(Line::styled(line, style));
    }

    fn means(&mut self, row: &Row, board: &Leaderboard, theme: &Theme) {
        let Some(means) = &row.means else {
            return;
        };
        self.gap();
        let heading = format!("{} % interval", percent(board));
        self.row("", &[("mean", 7), (&heading, 14)], theme.header);
        let intervals = row.intervals.as_ref();
        let rows = [
            (
                "Final Mean",
                means.final_mean,
                intervals.map(|all| all.final_mean),
            ),
            ("ROUGE-1", means.rouge1, intervals.map(|all| all.rouge1)),
            (
                "BERTScore",
                means.bertscore,
                intervals.map(|all| all.bertscore),
            ),
            ("EM", means.em, intervals.map(|all| all.em)),
            ("Format", means.format, None),
        ];
        for (name, mean, range) in rows {
            let range = range.map(interval).unwrap_or_default();
            self.row(name, &[(&number(mean), 7), (&range, 14)], theme.text);
        }
        if board.provenance.averaging == Averaging::Contest {
            self.say(
                "ROUGE-1 and BERTScore are over the items with both reasons.",
                theme.dim,
            );
        }
    }

    fn difference(
        &mut self,
        difference: &Difference,
        reference: Reference,
        board: &Leaderboard,
        theme: &Theme,
    ) {
        self.gap();
        let title = format!("Against {}, {}:", reference.name(), difference.file);
        self.say(&title, theme.title);
        let heading = format!("{} % interval", percent(board));
        let heads = [("differs", 8), (heading.as_str(), 18), ("Holm p", 7)];
        self.row("", &heads, theme.header);
        let rows: [(&str, &Delta); 4] = [
            ("Final Mean", &difference.final_mean),
            ("ROUGE-1", &difference.rouge1),
            ("BERTScore", &difference.bertscore),
            ("EM", &difference.em),
        ];
        for (name, delta) in rows {
            let columns = [
                (marked_difference(delta), 8),
                (signed_interval(delta.interval), 18),
                (probability(delta.p_holm), 7),
            ];
            let columns = columns
                .each_ref()
                .map(|(value, width)| (value.as_str(), *width));
            let style = match excludes_zero(delta.interval) {
                true if delta.difference > 0.0 => theme.good,
                true => theme.bad,
                false => theme.text,
            };
            self.row(name, &columns, style);
        }
        let items = format!(
            "EM: {} items won, {} lost.",
            difference.em_won, difference.em_lost
        );
        self.say(&items, theme.text);
    }

    fn types(&mut self, row: &Row, theme: &Theme) {
        if row.types.is_empty() {
            return;
        }
        self.gap();
        let heads = [
            ("items", 6),
            ("Final", 6),
            ("ROUGE", 6),
            ("BERT", 6),
            ("EM", 6),
        ];
        self.row("By type", &heads, theme.header);
        for kind in &row.types {
            let means = &kind.means;
            let columns = [
                kind.items.to_string(),
                number(means.final_mean),
                number(means.rouge1),
                number(means.bertscore),
                number(means.em),
            ];
            let columns = columns.each_ref().map(|value| (value.as_str(), 6));
            let name = text::single_line(type_name(&kind.question_type));
            self.row(&name, &columns, theme.text);
        }
    }

    fn coverage(&mut self, row: &Row, theme: &Theme) {
        let Some(coverage) = &row.scored.coverage else {
            return;
        };
        self.gap();
        let answered = format!(
            "{} of {} labels are answered.",
            coverage.answered, coverage.expected
        );
        self.say(&answered, theme.text);
        let lists = [
            ("Without an answer", &coverage.missing),
            ("Extra, not among the labels", &coverage.extra),
        ];
        for (what, ids) in lists {
            if ids.is_empty() {
                continue;
            }
            let listed: Vec<&str> = ids.iter().take(IDS).map(String::as_str).collect();
            let more = match ids.len().saturating_sub(IDS) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            let words = format!("{what} ({}): {}{more}", ids.len(), listed.join(", "));
            self.say(&words, theme.warn);
        }
    }
}

/// A question type as reports spell it.
pub(in crate::tui::screens) fn type_name(question_type: &str) -> &str {
    match question_type {
        "" => "(no type)",
        named => named,
    }
}
