//! All details of one file.

use moim_core::score::render::state_in_words;
use moim_core::score::{Averaging, Delta, Difference, FileState, Leaderboard, Row};
use ratatui::text::Line;

use super::table::Reference;
use super::words::{
    certainty, interval, marked_difference, number, percent, probability, provenance,
    signed_interval,
};
use crate::tui::text;
use crate::tui::theme::{Look, Theme};
use crate::tui::widgets::page::Page;

/// At most this many ids are listed; the export has them all.
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
    let mut page = Page::new(cells);
    page.say(&row.scored.file, theme.title);
    for sentence in about(row, board, revision) {
        page.say(&sentence, theme.text);
    }
    if let FileState::Broken(_) = row.scored.state {
        page.say("Press o to open the file in your editor.", theme.dim);
    }
    means(&mut page, row, board, theme);
    for other in [reference, reference.other()] {
        match other.of(row) {
            Some(difference) => self::difference(&mut page, difference, other, board, theme),
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
    types(&mut page, row, theme);
    coverage(&mut page, row, theme);
    page.gap();
    page.say(format!("{}.", provenance(board).join("; ")), theme.dim);
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

fn means(page: &mut Page, row: &Row, board: &Leaderboard, theme: &Theme) {
    let Some(means) = &row.means else {
        return;
    };
    page.gap();
    let heading = format!("{} % interval", percent(board));
    page.row("", &[("mean", 7), (&heading, 14)], theme.header);
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
        page.row(name, &[(&number(mean), 7), (&range, 14)], theme.text);
    }
    if board.provenance.averaging == Averaging::Contest {
        page.say(
            "ROUGE-1 and BERTScore are over the items with both reasons.",
            theme.dim,
        );
    }
}

fn difference(
    page: &mut Page,
    difference: &Difference,
    reference: Reference,
    board: &Leaderboard,
    theme: &Theme,
) {
    page.gap();
    let title = format!("Against {}, {}:", reference.name(), difference.file);
    page.say(&title, theme.title);
    let heading = format!("{} % interval", percent(board));
    let heads = [("differs", 8), (heading.as_str(), 18), ("Holm p", 7)];
    page.row("", &heads, theme.header);
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
        let style = certainty(delta.difference, delta.interval, theme);
        page.row(name, &columns, style);
    }
    let items = format!(
        "EM: {} items won, {} lost.",
        difference.em_won, difference.em_lost
    );
    page.say(&items, theme.text);
}

fn types(page: &mut Page, row: &Row, theme: &Theme) {
    if row.types.is_empty() {
        return;
    }
    page.gap();
    let heads = [
        ("items", 6),
        ("Final", 6),
        ("ROUGE", 6),
        ("BERT", 6),
        ("EM", 6),
    ];
    page.row("By type", &heads, theme.header);
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
        page.row(&name, &columns, theme.text);
    }
}

fn coverage(page: &mut Page, row: &Row, theme: &Theme) {
    let Some(coverage) = &row.scored.coverage else {
        return;
    };
    page.gap();
    let answered = format!(
        "{} of {} labels are answered.",
        coverage.answered, coverage.expected
    );
    page.say(&answered, theme.text);
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
        page.say(&words, theme.warn);
    }
}

/// A question type as reports spell it.
pub(in crate::tui::screens) fn type_name(question_type: &str) -> &str {
    match question_type {
        "" => "(no type)",
        named => named,
    }
}
