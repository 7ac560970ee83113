//! The text of a group: its prompt, and its completions side by side or one alone.

use moim_core::run::CompletionRecord;
use moim_core::score::SegmentKind;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use unicode_segmentation::UnicodeSegmentation;

use super::Answers;
use super::order::SortKey;
use crate::tui::text;
use crate::tui::theme::Look;
use crate::tui::widgets::diff::{self, Mode};

/// Cells of the narrowest column that a completion is shown in.
const NARROWEST: u16 = 30;
/// From this width on the numbers of a completion follow each other on one line.
const ONE_LINE: usize = 60;
/// Lines of a folded question, and of a folded label.
const FOLDED_LINES: usize = 2;
/// From this height on a line separates numbers and text.
const ROOMY: u16 = 14;
/// Lines that a text may take beyond its cells: one that is not full, one lost to long words, the
/// rule above and the empty line below.
const SPARE_LINES: usize = 4;
/// Cells of no line.
const UNLIMITED: usize = 1 << 24;
/// The finish reason of a completion that ended by itself.
const STOPPED: &str = "stop";

/// The completions that fit into an area.
pub(super) struct Shown {
    pub(super) columns: Vec<Column>,
    /// The place of the first column in the order of the group.
    pub(super) first: usize,
    /// Completions of the group.
    pub(super) total: usize,
    /// Lines above the texts, the same for every column.
    pub(super) head_lines: usize,
    /// Lines of a column.
    text_room: usize,
}

/// A completion in a column of its own.
pub(super) struct Column {
    pub(super) area: Rect,
    /// Numbers.
    pub(super) head: Vec<Line<'static>>,
    /// What was written.
    pub(super) text: Vec<Line<'static>>,
}

impl Shown {
    /// Lines that the texts have.
    pub(super) fn text_height(&self) -> usize {
        self.text_room.saturating_sub(self.head_lines)
    }

    /// Lines of the longest text that do not fit.
    pub(super) fn overhang(&self) -> usize {
        let longest = self.columns.iter().map(|column| column.text.len()).max();
        longest.unwrap_or(0).saturating_sub(self.text_height())
    }
}

/// Lays the completions out in `area`: as many side by side as fit, in several rows where they are
/// short.
pub(super) fn shown(answers: &Answers, look: &Look, area: Rect) -> Shown {
    let sorted = answers.sorted();
    let across = match answers.shows_one {
        true => 1,
        false => usize::from((area.width + 1) / (NARROWEST + 1)).clamp(1, sorted.len().max(1)),
    };
    let count = u16::try_from(across).unwrap_or(1);
    let width = area.width.saturating_sub(count - 1) / count;
    let cells = usize::from(width);
    let down = match answers.shows_one {
        true => 1,
        false => rows(&sorted, look, area, cells, across),
    };
    let cell_height = area.height / u16::try_from(down).unwrap_or(1);
    let fitting = across * down;
    let last_first = sorted.len().saturating_sub(fitting);
    let first = (answers.cursor / fitting * fitting).min(last_first);
    let mut columns: Vec<Column> = Vec::new();
    for (index, record) in sorted.iter().skip(first).take(fitting).enumerate() {
        let is_selected = first + index == answers.cursor;
        let place = |index: usize| u16::try_from(index).unwrap_or(u16::MAX);
        columns.push(Column {
            area: Rect {
                x: area.x + place(index % across) * (width + 1),
                y: area.y + place(index / across) * cell_height,
                width,
                height: cell_height,
            },
            head: head(record, is_selected, &answers.sort, look, cells),
            text: match answers.shows_one {
                true => compared_text(answers, record, look, cells),
                false => lines(
                    &[(look.theme.text, &record.completion)],
                    cells,
                    answers.wraps,
                    look,
                ),
            },
        });
    }
    let numbers = columns.iter().map(|column| column.head.len()).max();
    let separator = usize::from(cell_height >= ROOMY || down > 1);
    Shown {
        columns,
        first,
        total: sorted.len(),
        head_lines: numbers.map_or(0, |lines| lines + separator),
        // A row ends with an empty line where another follows.
        text_room: usize::from(cell_height.saturating_sub(u16::from(down > 1))),
    }
}

/// Rows of columns in which the whole group, or most of it, can be read without scrolling.
fn rows(
    sorted: &[&CompletionRecord],
    look: &Look,
    area: Rect,
    cells: usize,
    across: usize,
) -> usize {
    let Some(first) = sorted.first() else {
        return 1;
    };
    // Wrapping every text for this would cost more than drawing those that are shown.
    let lines_of = |record: &&CompletionRecord| {
        let breaks = record.completion.matches('\n').count();
        text::width(&record.completion) / cells.max(1) + breaks + SPARE_LINES
    };
    let longest = sorted.iter().map(lines_of).max().unwrap_or(0);
    let numbers = head(first, false, &SortKey::Sample, look, cells).len();
    let wanted = sorted.len().div_ceil(across);
    (usize::from(area.height) / (longest + numbers).max(1)).clamp(1, wanted)
}

/// The numbers of a completion; what the group is sorted by stands out.
fn head(
    record: &CompletionRecord,
    is_selected: bool,
    sort: &SortKey,
    look: &Look,
    cells: usize,
) -> Vec<Line<'static>> {
    let theme = &look.theme;
    let apart = if cells >= ONE_LINE { "  " } else { "\n" };
    let emphasis = |key: SortKey| {
        if *sort == key {
            theme.accent
        } else {
            theme.text
        }
    };
    let cursor = if is_selected { look.glyphs.cursor } else { " " };
    let name_style = if is_selected {
        theme.accent
    } else {
        theme.title
    };
    let advantage_style = match record.advantage {
        Some(value) if value > 0.0 => theme.good,
        Some(value) if value < 0.0 => theme.bad,
        _ => theme.dim,
    };
    let reward = record
        .reward
        .map_or("none".to_owned(), |value| format!("{value:.3}"));
    let advantage = text::delta(record.advantage.unwrap_or(f64::NAN), 3);
    let sample = format!("#{}", record.sample);
    let mut runs: Vec<(Style, String)> = vec![
        (name_style, format!("{cursor}{sample:<3}")),
        (theme.dim, "reward ".to_owned()),
        (emphasis(SortKey::Total), reward),
        (theme.dim, "  adv ".to_owned()),
        (advantage_style, advantage),
        (theme.text, apart.to_owned()),
        (emphasis(SortKey::Length), record.length.to_string()),
        (theme.dim, format!(" tokens {} ", look.glyphs.separator)),
        match record.finish_reason.as_str() {
            STOPPED => (theme.dim, STOPPED.to_owned()),
            other => (theme.warn, format!("{} {other}", look.glyphs.warn)),
        },
        (theme.text, apart.to_owned()),
    ];
    for (index, (name, value)) in record.rewards.iter().enumerate() {
        let gap = if index > 0 { " " } else { "" };
        let value = value.map_or("none".to_owned(), |value| format!("{value:.3}"));
        // No space between them, so that a line does not break there.
        runs.push((theme.dim, format!("{gap}{name}=")));
        runs.push((emphasis(SortKey::Reward(name.clone())), value));
    }
    let runs: Vec<(Style, &str)> = runs
        .iter()
        .map(|(style, run)| (*style, run.as_str()))
        .collect();
    lines(&runs, cells, true, look)
}

/// The label above the completion, with what each has alone.
fn compared_text(
    answers: &Answers,
    record: &CompletionRecord,
    look: &Look,
    cells: usize,
) -> Vec<Line<'static>> {
    let Some(compared) = &answers.compared else {
        return lines(
            &[(look.theme.text, &record.completion)],
            cells,
            answers.wraps,
            look,
        );
    };
    let of = |kind| {
        let segments = compared.segments.iter();
        let alone = segments.filter(|segment| segment.kind == kind);
        alone
            .map(|segment| segment.text.graphemes(true).count())
            .sum()
    };
    let (missing, own) = (of(SegmentKind::Removed), of(SegmentKind::Added));
    let (words, mode) = match (missing, own) {
        (0, 0) => ("the same as the label".to_owned(), Mode::Inline),
        _ => (
            format!("{missing} characters of the label are missing (-), {own} are not in it (+)"),
            Mode::Stacked,
        ),
    };
    let mut text = vec![Line::styled(words, look.theme.dim)];
    let room = if answers.wraps { cells } else { UNLIMITED };
    let compared = diff::lines(&compared.segments, mode, room, look);
    text.extend(compared.iter().map(|line| cut(line, cells, look)));
    text
}

/// The prompt and the label of the group: whole, or the question alone where it is folded.
pub(super) fn prompt_lines(answers: &Answers, look: &Look, cells: usize) -> Vec<Line<'static>> {
    let Some((page, record)) = answers
        .page
        .as_ref()
        .zip(answers.group().and_then(|group| group.completions.first()))
    else {
        return Vec::new();
    };
    let theme = &look.theme;
    let part = |title: &'static str, content: &str| {
        let runs = [(theme.dim, title), (theme.text, content)];
        lines(&runs, cells, true, look)
    };
    if answers.unfolds_prompt {
        let mut whole = part("", &record.prompt);
        whole.extend(part("label ", &record.label));
        return whole;
    }
    let place = answers.group().map(|group| group.place);
    let shown = page
        .neighbours
        .iter()
        .find(|line| Some(line.place) == place);
    let question = shown.map(|line| line.question.as_str()).unwrap_or_default();
    let mut folded = Vec::new();
    // Where one completion is shown alone it is compared with the label, which stands there.
    let label = (!answers.shows_one).then_some(("label ", record.label.as_str()));
    for (title, content) in [Some(("asked ", question)), label].into_iter().flatten() {
        let mut whole = part(title, content);
        if whole.len() > FOLDED_LINES {
            whole.truncate(FOLDED_LINES);
            if let Some(line) = whole.last_mut() {
                *line = cut(line, cells.saturating_sub(1), look);
                line.push_span(Span::styled(look.glyphs.ellipsis, theme.dim));
            }
        }
        folded.extend(whole);
    }
    folded
}

/// Text in lines of at most `cells`: wrapped, or with what is longer cut off.
pub(super) fn lines(
    runs: &[(Style, &str)],
    cells: usize,
    wraps: bool,
    look: &Look,
) -> Vec<Line<'static>> {
    let wrapped = text::wrap_runs(runs, if wraps { cells } else { UNLIMITED });
    let styled = wrapped.into_iter().map(|line| {
        Line::from_iter(
            line.into_iter()
                .map(|(style, run)| Span::styled(run, style)),
        )
    });
    match wraps {
        true => styled.collect(),
        false => styled.map(|line| cut(&line, cells, look)).collect(),
    }
}

/// The line in at most `cells`.
fn cut(line: &Line<'_>, cells: usize, look: &Look) -> Line<'static> {
    let mut free = cells;
    let mut kept = Line::default();
    for span in &line.spans {
        let run = text::truncate(&span.content, free, look.glyphs.ellipsis);
        free = free.saturating_sub(text::width(&run));
        let is_cut = run != span.content;
        kept.push_span(Span::styled(run, span.style));
        if is_cut {
            break;
        }
    }
    kept
}
