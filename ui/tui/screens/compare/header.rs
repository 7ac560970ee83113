//! The result of the comparison, above the list.

use moim_core::score::Comparison;
use moim_core::score::compare::{MetricDeltas, Outcome};
use ratatui::text::{Line, Span};

use super::model::{letter, type_name};
use crate::tui::screens::ranking::words::{
    certainty, excludes_zero, number, probability, signed_interval,
};
use crate::tui::screens::words::without_ending;
use crate::tui::text;
use crate::tui::theme::Look;
use crate::tui::widgets::page::Page;

/// The files and how `other` differs from the baseline.
pub(super) fn write(page: &mut Page, comparison: &Comparison, other: usize, look: &Look) {
    let theme = &look.theme;
    page.lines
        .extend(files(comparison, other, page.cells, look));
    let Some(against) = comparison
        .files
        .get(other)
        .and_then(|file| file.against_baseline.as_ref())
    else {
        return;
    };
    let (a, b) = (letter(0), letter(other));
    let outcome = &against.outcome;
    let counts = &outcome.counts;
    let mut joined = format!("{b} against {a}: {} joined", counts.items);
    for (file, only) in [(&a, &against.only_baseline), (&b, &against.only_this)] {
        if !only.is_empty() {
            joined.push_str(&format!(", {} only in {file}", only.len()));
        }
    }
    joined.push_str(&format!(
        "; better {}, worse {}, equal {}, sign p {}",
        counts.wins,
        counts.losses,
        counts.ties,
        probability(outcome.sign_test_p_value)
    ));
    page.say(&joined, theme.text);
    let Some(metrics) = &outcome.metrics else {
        return;
    };
    let adjusted = comparison.files.len() > 2;
    let delta = &metrics.final_mean;
    page.say(
        final_mean(metrics, adjusted),
        certainty(delta.difference, delta.interval, theme),
    );
    let em = format!(
        "EM {}: {} fixed, {} broken, {} both right, {} both wrong; McNemar p {}",
        text::delta(metrics.em.difference, 4),
        counts.fixed,
        counts.broken,
        counts.both_right,
        counts.both_wrong,
        probability(if adjusted {
            metrics.em.p_holm
        } else {
            metrics.em.p_value
        })
    );
    page.say(&em, theme.text);
    let types: Vec<String> = against
        .types
        .iter()
        .map(|kind| of_type(&kind.question_type, &kind.outcome, adjusted))
        .collect();
    if types.len() > 1 {
        page.say(types.join("; "), theme.dim);
    }
}

/// Every file with its letter and the Final Mean over the items it answers; the one whose changes
/// are shown is marked.
fn files(comparison: &Comparison, other: usize, cells: usize, look: &Look) -> Vec<Line<'static>> {
    let mut lines = vec![Line::default()];
    let mut used = 0;
    let is_complete = comparison
        .files
        .iter()
        .all(|file| file.answered == comparison.items.len());
    for (index, file) in comparison.files.iter().enumerate() {
        let mut mean = file
            .means
            .map(|means| number(means.final_mean))
            .unwrap_or_default();
        if !is_complete {
            mean.push_str(&format!(" of {}", file.answered));
        }
        let sign = if index == other {
            look.glyphs.cursor
        } else {
            " "
        };
        let role = if index == 0 { " (baseline)" } else { "" };
        let name = text::single_line(without_ending(&file.file));
        let name = text::truncate(&name, cells.saturating_sub(24).max(8), look.glyphs.ellipsis);
        let words = format!("{sign}{} {name} {mean}{role}  ", letter(index));
        let width = text::width(&words);
        if used > 0 && used + width > cells {
            lines.push(Line::default());
            used = 0;
        }
        used += width;
        let style = if index == other || index == 0 {
            look.theme.title
        } else {
            look.theme.text
        };
        if let Some(line) = lines.last_mut() {
            line.spans.push(Span::styled(words, style));
        }
    }
    lines
}

fn final_mean(metrics: &MetricDeltas, adjusted: bool) -> String {
    let delta = &metrics.final_mean;
    let (name, p) = if adjusted {
        ("Holm p", delta.p_holm)
    } else {
        ("p", delta.p_value)
    };
    let verdict = if excludes_zero(delta.interval) {
        "more than chance"
    } else {
        "may be chance"
    };
    format!(
        "Final Mean {} ({}), {name} {}: {verdict}",
        text::delta(delta.difference, 4),
        signed_interval(delta.interval),
        probability(p)
    )
}

fn of_type(question_type: &str, outcome: &Outcome, adjusted: bool) -> String {
    let counts = &outcome.counts;
    let change = outcome.metrics.map(|metrics| {
        let delta = metrics.final_mean;
        let p = if adjusted {
            delta.p_holm
        } else {
            delta.p_value
        };
        format!(" {} p {}", text::delta(delta.difference, 4), probability(p))
    });
    format!(
        "{} ({}){} (+{} -{})",
        type_name(question_type),
        counts.items,
        change.unwrap_or_default(),
        counts.fixed,
        counts.broken
    )
}

/// Cells of [`metrics`].
pub(super) const METRICS_WIDTH: u16 = 54;

/// Every metric of the baseline and the other file with the difference: a table for screens
/// on which it fits next to the sentences.
pub(super) fn metrics(comparison: &Comparison, other: usize, look: &Look) -> Vec<Line<'static>> {
    let file = comparison.files.get(other);
    let Some(metrics) = file.and_then(|file| file.against_baseline.as_ref()?.outcome.metrics)
    else {
        return Vec::new();
    };
    let mut page = Page::new(METRICS_WIDTH.into());
    let mut row = |name: &str, cells: [&str; 4], style| {
        let [a, b, change, interval] = cells;
        page.row(name, &[(a, 6), (b, 6), (change, 8), (interval, 18)], style);
    };
    let (a, b) = (letter(0), letter(other));
    row("", [&a, &b, "change", "interval"], look.theme.header);
    for (name, delta) in metrics.named() {
        let cells = [
            &number(delta.baseline),
            &number(delta.this),
            &text::delta(delta.difference, 4),
            &signed_interval(delta.interval),
        ];
        row(name, cells.map(String::as_str), look.theme.text);
    }
    page.lines
}
