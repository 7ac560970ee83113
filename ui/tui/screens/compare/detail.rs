//! The selected item: question, gold answer, every file's answer and what differs.

use moim_core::score::compare::{ComparedItem, ItemAnswer};
use moim_core::score::{Comparison, DiffUnit, SegmentKind, diff};
use ratatui::text::{Line, Span};

use super::list::{sign, verdict, verdict_style};
use super::model::{self, FINAL_MEAN, METRICS, Metric, letter, type_name};
use crate::tui::screens::ranking::words::number;
use crate::tui::screens::words::without_ending;
use crate::tui::text;
use crate::tui::theme::Look;
use crate::tui::widgets::diff as shown_diff;
use crate::tui::widgets::focus::after;
use crate::tui::widgets::page::Page;
use crate::tui::widgets::scroll::wrapped;

/// What an answer is compared with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Against {
    #[default]
    Baseline,
    Gold,
}

/// How differences between texts are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DiffMode {
    Inline(Against),
    SideBySide(Against),
    /// Every answer unchanged.
    Off,
}

impl Default for DiffMode {
    fn default() -> Self {
        Self::Inline(Against::Baseline)
    }
}

impl DiffMode {
    pub(super) fn next(self) -> Self {
        const ALL: [DiffMode; 5] = [
            DiffMode::Inline(Against::Baseline),
            DiffMode::SideBySide(Against::Baseline),
            DiffMode::Inline(Against::Gold),
            DiffMode::SideBySide(Against::Gold),
            DiffMode::Off,
        ];
        after(&ALL, self, 1)
    }

    /// Its name in the title.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Inline(Against::Baseline) => "inline against A",
            Self::SideBySide(Against::Baseline) => "side by side with A",
            Self::Inline(Against::Gold) => "inline against the gold answer",
            Self::SideBySide(Against::Gold) => "side by side with the gold answer",
            Self::Off => "no differences marked",
        }
    }

    fn against(self) -> Option<Against> {
        match self {
            Self::Inline(against) | Self::SideBySide(against) => Some(against),
            Self::Off => None,
        }
    }
}

/// How the detail is laid out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form {
    /// The file whose change is in the first line.
    pub(super) other: usize,
    pub(super) mode: DiffMode,
    /// Long lines are cut instead of wrapped.
    pub(super) cuts: bool,
    pub(super) cells: usize,
    /// There is little space: no blank lines.
    pub(super) is_tight: bool,
}

/// Wider than any text: lines break only where the text does.
const UNBOUNDED: usize = 1 << 20;

/// The item as lines.
pub(super) fn lines(
    item: &ComparedItem,
    comparison: &Comparison,
    form: Form,
    look: &Look,
) -> Vec<Line<'static>> {
    let mut page = ItemPage {
        page: Page::new(form.cells),
        form,
        look,
    };
    page.summary(item, comparison);
    if !item.question.is_empty() {
        page.heading("Question");
        page.text(&item.question);
    }
    page.heading("Gold answer");
    page.text(&item.label);
    for (index, file) in comparison.files.iter().enumerate() {
        let answer = item.answers.get(index).and_then(Option::as_ref);
        page.answer(item, index, &file.file, answer);
    }
    page.metrics(item);
    page.page.lines
}

struct ItemPage<'a> {
    page: Page,
    form: Form,
    look: &'a Look,
}

impl ItemPage<'_> {
    fn text_cells(&self) -> usize {
        if self.form.cuts {
            UNBOUNDED
        } else {
            self.form.cells
        }
    }

    fn text(&mut self, words: &str) {
        let lines = wrapped(words, self.text_cells(), self.look.theme.text);
        self.page.lines.extend(lines);
    }

    fn heading(&mut self, words: &str) {
        if !self.form.is_tight {
            self.page.gap();
        }
        self.page.say(words, self.look.theme.header);
    }

    fn summary(&mut self, item: &ComparedItem, comparison: &Comparison) {
        let other = self.form.other;
        let change = model::delta(item, other, FINAL_MEAN);
        let change = change.map(|change| format!(", Final Mean {}", text::delta(change, 4)));
        let words = format!(
            "{} against {}: {}{}",
            letter(other),
            letter(0),
            verdict(item, other),
            change.unwrap_or_default()
        );
        self.page
            .say(&words, verdict_style(item, other, &self.look.theme));
        if comparison.files.len() > 2 {
            let course = model::course(item, &model::by_time(comparison));
            let marks: Vec<String> = course
                .marks
                .iter()
                .map(|(file, mark)| format!("{}{}", letter(*file), sign(*mark, &self.look.glyphs)))
                .collect();
            let first = match course
                .first_right
                .and_then(|first| comparison.files.get(first))
            {
                Some(file) => format!("first right in {}", without_ending(&file.file)),
                None => "right in none".to_owned(),
            };
            let words = format!(
                "{}; {first}; flipped {} times",
                marks.join(" "),
                course.flips
            );
            self.page.say(&words, self.look.theme.text);
        }
    }

    fn answer(
        &mut self,
        item: &ComparedItem,
        index: usize,
        file: &str,
        answer: Option<&ItemAnswer>,
    ) {
        let role = if index == 0 { ", the baseline" } else { "" };
        let name = text::single_line(without_ending(file));
        let Some(answer) = answer else {
            self.heading(&format!("{} {name}{role}", letter(index)));
            self.page
                .say("It has no answer to this item.", self.look.theme.warn);
            return;
        };
        let is_right = answer.metrics.is_right();
        let sign = sign(Some(is_right), &self.look.glyphs);
        let word = if is_right { "right" } else { "wrong" };
        self.heading(&format!("{} {name}{role}: {sign} {word}", letter(index)));
        self.difference(item, index, answer);
    }

    /// Every metric of every file, with its change against the baseline.
    fn metrics(&mut self, item: &ComparedItem) {
        let row = |name: &str, cells: &[String]| {
            let mut line = text::fit(name, 2);
            for (cell, metric) in cells.iter().zip(&METRICS) {
                line.push(' ');
                line.push_str(&text::fit(cell, if metric.is_binary { 4 } else { 12 }));
            }
            line.trim_end().to_owned()
        };
        self.heading(&row(
            "",
            &METRICS.each_ref().map(|metric| metric.name.to_owned()),
        ));
        for (index, answer) in item.answers.iter().enumerate() {
            let cell = |metric: &Metric| {
                let Some(answer) = answer else {
                    return String::new();
                };
                let decimals = if metric.is_binary { 0 } else { 3 };
                let value = (metric.of)(&answer.metrics);
                if !value.is_finite() {
                    return "-".to_owned();
                }
                let change = match index {
                    0 => None,
                    _ => model::delta(item, index, metric).filter(|change| *change != 0.0),
                };
                let change = change.map(|change| format!(" {}", text::delta(change, decimals)));
                format!("{value:.decimals$}{}", change.unwrap_or_default())
            };
            let cells = METRICS.each_ref().map(cell);
            let line = text::truncate(&row(&letter(index), &cells), self.form.cells, "");
            self.page
                .lines
                .push(Line::styled(line, self.look.theme.text));
        }
    }

    /// The answer with what differs from the text it is compared with.
    fn difference(&mut self, item: &ComparedItem, index: usize, answer: &ItemAnswer) {
        let baseline = item.answers.first().and_then(Option::as_ref);
        let (name, old) = match self.form.mode.against() {
            Some(Against::Gold) => ("the gold answer".to_owned(), Some(item.label.as_str())),
            Some(Against::Baseline) if index > 0 => {
                (letter(0), baseline.map(|baseline| baseline.text.as_str()))
            }
            _ => (String::new(), None),
        };
        let Some(old) = old else {
            self.text(&answer.text);
            return;
        };
        let segments = diff(old, &answer.text, DiffUnit::Grapheme);
        if segments
            .iter()
            .all(|segment| segment.kind == SegmentKind::Equal)
        {
            self.page
                .say(format!("The same text as {name}:"), self.look.theme.dim);
            self.text(&answer.text);
            return;
        }
        let look = self.look;
        if let DiffMode::SideBySide(_) = self.form.mode {
            let left = text::fit(&name, self.form.cells.saturating_sub(3) / 2);
            let heads = format!("{left} {} {}", look.glyphs.vertical, letter(index));
            self.page
                .lines
                .push(Line::from(Span::styled(heads, look.theme.dim)));
            let mode = shown_diff::Mode::SideBySide;
            let lines = shown_diff::lines(&segments, mode, self.form.cells, look);
            self.page.lines.extend(lines);
        } else {
            let mode = shown_diff::Mode::Inline;
            let lines = shown_diff::lines(&segments, mode, self.text_cells(), look);
            self.page.lines.extend(lines);
        }
    }
}

/// The item as Markdown, for the clipboard.
pub(super) fn markdown(item: &ComparedItem, comparison: &Comparison, other: usize) -> String {
    let mut out = format!(
        "### {} ({}): {}\n\n",
        item.id,
        type_name(&item.question_type),
        verdict(item, other)
    );
    let mut section = |title: &str, body: &str| {
        out.push_str(&format!("**{title}**\n\n{}\n\n", quoted(body)));
    };
    if !item.question.is_empty() {
        section("Question", &item.question);
    }
    section("Gold answer", &item.label);
    for (index, file) in comparison.files.iter().enumerate() {
        let title = format!("{} {}", letter(index), file.file);
        match item.answers.get(index).and_then(Option::as_ref) {
            Some(answer) => {
                let values: Vec<String> = METRICS
                    .iter()
                    .map(|metric| {
                        format!("{} {}", metric.name, number((metric.of)(&answer.metrics)))
                    })
                    .collect();
                section(
                    &format!("{title}** ({})**", values.join(", ")),
                    &answer.text,
                );
            }
            None => section(&title, "no answer"),
        }
    }
    out
}

/// A text as a block quote, so that nothing in it becomes markup of the whole.
fn quoted(body: &str) -> String {
    let lines: Vec<String> = text::nfc(body)
        .lines()
        .map(|line| format!("> {line}"))
        .collect();
    lines.join("\n")
}
