//! The list of items.

use moim_core::score::compare::ComparedItem;
use moim_core::score::{Comparison, Verdict};
use ratatui::style::Style;

use super::model::{self, Metric, Order, letter};
use crate::tui::text;
use crate::tui::theme::{Glyphs, Look, Theme};
use crate::tui::widgets::old_table::{Cell, Column, Row};

/// What the signs of the list mean.
pub(super) const LEGEND: &str = "+ fixed  - broken  = same answer  ~ other answer";

/// What a cell of the list shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    Verdict,
    Id,
    Type,
    Delta,
    /// The metric in this file.
    Value(usize),
    /// Right and wrong along the epochs.
    Course,
    FirstRight,
    Flips,
    Question,
}

/// The columns for a comparison.
pub(super) struct List<'a> {
    comparison: &'a Comparison,
    /// The file whose changes are shown.
    other: usize,
    metric: Metric,
    by_time: Vec<usize>,
    contents: Vec<Content>,
}

impl<'a> List<'a> {
    pub(super) fn new(comparison: &'a Comparison, other: usize, order: Order) -> Self {
        let files = comparison.files.len();
        let mut contents = vec![Content::Verdict, Content::Id, Content::Type, Content::Delta];
        if files > 2 {
            contents.extend([Content::Course, Content::FirstRight, Content::Flips]);
        }
        contents.extend((0..files).map(Content::Value));
        contents.push(Content::Question);
        Self {
            comparison,
            other,
            metric: order.metric(),
            by_time: model::by_time(comparison),
            contents,
        }
    }

    /// As a table takes them.
    pub(super) fn columns(&self) -> Vec<Column> {
        let fitting = |widest: Option<usize>, limit: usize| {
            u16::try_from(widest.unwrap_or(0).clamp(4, limit)).unwrap_or(u16::MAX)
        };
        let ids = self
            .comparison
            .items
            .iter()
            .map(|item| text::width(&item.id));
        let types = self.comparison.question_types().into_iter();
        let types = types.map(|kind| text::width(model::type_name(kind)));
        let (id, kind) = (fitting(ids.max(), 16), fitting(types.max(), 10));
        let change = match self.metric {
            Metric::FinalMean => "change",
            Metric::Em => "EM",
            Metric::Rouge1 => "ROUGE",
            Metric::BertScore => "BERT",
            Metric::Format => "form",
        };
        let column = |content: &Content| match content {
            Content::Verdict => Column::text("verdict", 8).minimum(8),
            Content::Id => Column::text("id", id),
            Content::Type => Column::text("type", kind).minimum(kind).priority(4),
            Content::Delta => Column::number(change, 7).priority(1),
            Content::Value(file) => {
                // The two that are set against each other come first.
                let is_shown = *file == 0 || *file == self.other;
                let priority = if is_shown { 5 } else { 6 };
                Column::number(&letter(*file), 5).priority(priority)
            }
            Content::Course => {
                let files = u16::try_from(self.by_time.len()).unwrap_or(u16::MAX);
                let cells = files.max(6);
                Column::text("course", cells).minimum(cells).priority(2)
            }
            Content::FirstRight => Column::number("first", 5).priority(3),
            Content::Flips => Column::number("flips", 5).priority(3),
            Content::Question => Column::text("question", 60)
                .minimum(8)
                .priority(u8::MAX)
                .growing(),
        };
        self.contents.iter().map(column).collect()
    }

    /// The column of the order.
    pub(super) fn sorted(&self) -> Option<usize> {
        self.contents
            .iter()
            .position(|content| *content == Content::Delta)
    }

    /// An item as the table draws it.
    pub(super) fn row(&self, item: &ComparedItem, look: &Look) -> Row {
        let theme = &look.theme;
        let style = verdict_style(item, self.other, theme);
        let course = model::course(item, &self.by_time);
        let cell = |content: &Content| match content {
            Content::Verdict => Cell::styled(verdict_words(item, self.other), style),
            Content::Id => Cell::from(item.id.as_str()),
            Content::Type => Cell::from(model::type_name(&item.question_type)),
            Content::Delta => {
                let delta = model::delta(item, self.other, self.metric);
                let words = delta.map(|delta| text::delta(delta, 4));
                Cell::styled(words.unwrap_or_default(), style)
            }
            Content::Value(file) => {
                let answer = item.answers.get(*file).and_then(Option::as_ref);
                let value = answer.map(|answer| self.metric.of(&answer.metrics));
                Cell::from(value.map(short_number).unwrap_or_default())
            }
            Content::Course => Cell::from(
                course
                    .marks
                    .iter()
                    .map(|(_, mark)| sign(*mark, &look.glyphs))
                    .collect::<String>(),
            ),
            Content::FirstRight => Cell::from(course.first_right.map(letter).unwrap_or_default()),
            Content::Flips => Cell::from(course.flips.to_string()),
            Content::Question => Cell::styled(last_line(&item.question), theme.dim),
        };
        Row::new(self.contents.iter().map(cell).collect())
    }
}

/// What tells a question from others: its last line, after the instruction that many share.
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
    match value.is_finite() {
        true => format!("{value:.3}"),
        false => "-".to_owned(),
    }
}

/// A sign and a word for what became of an item.
pub(super) fn verdict_words(item: &ComparedItem, other: usize) -> String {
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
