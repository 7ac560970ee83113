//! The list of items: its columns.

use moim_core::score::compare::ComparedItem;
use moim_core::score::{Comparison, Verdict};
use ratatui::style::Style;

use super::model::{self, Metric, letter};
use crate::tui::text;
use crate::tui::theme::{Glyphs, Theme};
use crate::tui::widgets::list::Item;
use crate::tui::widgets::table::{Cell, Column, Key, Order};

/// What the signs of the list mean.
pub(super) const LEGEND: &str = "+ fixed  - broken  = same answer  ~ other answer";

/// Index of the column of the change, by which the list is sorted.
pub(super) const CHANGE: usize = 3;

impl Item for ComparedItem {
    type Id = String;

    fn id(&self) -> Option<&String> {
        Some(&self.id)
    }
}

type OfItem<'a> = Column<'a, &'a ComparedItem>;

/// The columns for a comparison; changes are those of the file `other` in `metric`.
pub(super) fn columns<'a>(
    comparison: &'a Comparison,
    other: usize,
    metric: &'static Metric,
) -> Vec<OfItem<'a>> {
    let cells = |widest: Option<usize>, limit: usize| {
        u16::try_from(widest.unwrap_or(0).clamp(4, limit)).unwrap_or(u16::MAX)
    };
    let ids = comparison.items.iter().map(|item| text::width(&item.id));
    let types = comparison.question_types().into_iter();
    let types = types.map(|kind| text::width(model::type_name(kind)));
    let (id, kind) = (cells(ids.max(), 16), cells(types.max(), 10));
    let files = comparison.files.len();
    let mut columns = vec![
        OfItem::text("verdict", 8, move |item, look| {
            Cell::styled(
                verdict(item, other),
                verdict_style(item, other, &look.theme),
            )
        })
        .minimum(8),
        OfItem::text("id", id, |item, _| item.id.as_str()),
        OfItem::text("type", kind, |item, _| {
            model::type_name(&item.question_type)
        })
        .minimum(kind)
        .priority(4),
        OfItem::number(metric.heading, 7, move |item, look| {
            let delta = model::delta(item, other, metric).map(|delta| text::delta(delta, 4));
            let style = verdict_style(item, other, &look.theme);
            Cell::styled(delta.unwrap_or_default(), style)
        })
        .sorts(metric.name, Order::Ascending, move |item| {
            Key::number(model::delta(item, other, metric))
        })
        .priority(1),
    ];
    if files > 2 {
        let by_time = model::by_time(comparison);
        let course = move |item: &ComparedItem| model::course(item, &by_time);
        let (first, flips) = (course.clone(), course.clone());
        let width = u16::try_from(files).unwrap_or(u16::MAX).max(6);
        columns.extend([
            OfItem::text("course", width, move |item, look| {
                let marks = course(item).marks.into_iter();
                let signs = marks.map(|(_, mark)| sign(mark, &look.glyphs));
                signs.collect::<String>()
            })
            .minimum(width)
            .priority(2),
            OfItem::number("first", 5, move |item, _| {
                first(item).first_right.map(letter).unwrap_or_default()
            })
            .priority(3),
            OfItem::number("flips", 5, move |item, _| flips(item).flips.to_string()).priority(3),
        ]);
    }
    columns.extend((0..files).map(|file| {
        // The two that are compared come first.
        let priority = if file == 0 || file == other { 5 } else { 6 };
        OfItem::number(letter(file), 5, move |item, _| {
            let answer = item.answers.get(file).and_then(Option::as_ref);
            let value = answer.map(|answer| (metric.of)(&answer.metrics));
            value.map(short_number).unwrap_or_default()
        })
        .priority(priority)
    }));
    columns.push(
        OfItem::text("question", 60, |item, look| {
            Cell::styled(last_line(&item.question), look.theme.dim)
        })
        .minimum(8)
        .priority(u8::MAX)
        .growing(),
    );
    columns
}

/// What distinguishes a question from others: its last line, after the instruction that many
/// share.
fn last_line(question: &str) -> &str {
    let mut lines = question.lines().rev().map(str::trim);
    lines.find(|line| !line.is_empty()).unwrap_or_default()
}

/// Right, wrong or absent.
pub(super) fn sign(mark: Option<bool>, glyphs: &Glyphs) -> &'static str {
    match mark {
        Some(true) => glyphs.good,
        Some(false) => glyphs.bad,
        None => "-",
    }
}

/// A value in five cells.
fn short_number(value: f64) -> String {
    if value.is_finite() {
        format!("{value:.3}")
    } else {
        "-".to_owned()
    }
}

/// A sign and a word for the outcome of an item.
pub(super) fn verdict(item: &ComparedItem, other: usize) -> String {
    let Some(change) = model::change(item, other) else {
        let has = |file: usize| item.answers.get(file).is_some_and(Option::is_some);
        return match (has(0), has(other)) {
            (true, false) => format!("only {}", letter(0)),
            (false, true) => format!("only {}", letter(other)),
            _ => "neither".to_owned(),
        };
    };
    let same = if change.is_same { "=" } else { "~" };
    match change.verdict {
        Verdict::Fixed => "+ fixed".to_owned(),
        Verdict::Broken => "- broken".to_owned(),
        Verdict::BothRight => format!("{same} right"),
        Verdict::BothWrong => format!("{same} wrong"),
    }
}

pub(super) fn verdict_style(item: &ComparedItem, other: usize, theme: &Theme) -> Style {
    match model::change(item, other).map(|change| change.verdict) {
        Some(Verdict::Fixed) => theme.good,
        Some(Verdict::Broken) => theme.bad,
        Some(Verdict::BothRight) => theme.dim,
        Some(Verdict::BothWrong) => theme.text,
        None => theme.warn,
    }
}
