//! The text of a group: its prompt, and its completions next to each other or one alone.

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
/// Cells of a line that is not wrapped.
const UNLIMITED: usize = 1 << 24;
/// The finish reason of a completion that ended by itself.
const STOPPED: &str = "stop";

/// Where the completions that fit into an area are drawn.
pub(super) struct Columns {
    /// The area of each, by row.
    pub(super) areas: Vec<Rect>,
    /// Index of the first one in the order of the group.
    pub(super) first: usize,
    /// Whether a line separates numbers and text.
    pub(super) has_rule: bool,
    /// Lines of a column.
    pub(super) height: u16,
}

/// Lays the completions out: as many next to each other as fit, in several rows if they are short.
pub(super) fn columns(
    answers: &Answers,
    sorted: &[&CompletionRecord],
    look: &Look,
    area: Rect,
) -> Columns {
    let total = sorted.len();
    let (mut across, mut down) = (1, 1);
    if !answers.shows_one {
        across = usize::from((area.width + 1) / (NARROWEST + 1)).clamp(1, total.max(1));
    }
    let cells = |count: usize| u16::try_from(count).unwrap_or(u16::MAX);
    let width = area.width.saturating_sub(cells(across) - 1) / cells(across);
    if !answers.shows_one {
        down = rows(sorted, look, area.height.into(), width.into(), across);
    }
    let height = area.height / cells(down);
    let fitting = across * down;
    let first = answers.cursor / fitting * fitting;
    let first = first.min(total.saturating_sub(fitting));
    let areas = (0..fitting.min(total - first)).map(|index| Rect {
        x: area.x + cells(index % across) * (width + 1),
        y: area.y + cells(index / across) * height,
        width,
        height,
    });
    Columns {
        areas: areas.collect(),
        first,
        has_rule: height >= ROOMY || down > 1,
        // A row ends with an empty line if another follows.
        height: height.saturating_sub(u16::from(down > 1)),
    }
}

/// Rows of columns in which the whole group, or most of it, can be read without scrolling.
fn rows(
    sorted: &[&CompletionRecord],
    look: &Look,
    height: usize,
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
    (height / (longest + numbers).max(1)).clamp(1, sorted.len().div_ceil(across))
}

/// The numbers of a completion; what the group is sorted by is emphasised.
pub(super) fn head(
    record: &CompletionRecord,
    is_selected: bool,
    sort: &SortKey,
    look: &Look,
    cells: usize,
) -> Vec<Line<'static>> {
    let theme = &look.theme;
    let gap = if cells >= ONE_LINE { "  " } else { "\n" };
    let emphasis = |key: SortKey| {
        if *sort == key {
            theme.accent
        } else {
            theme.text
        }
    };
    let (cursor, name_style) = if is_selected {
        (look.glyphs.cursor, theme.accent)
    } else {
        (" ", theme.title)
    };
    let advantage_style = match record.advantage {
        Some(value) if value > 0.0 => theme.good,
        Some(value) if value < 0.0 => theme.bad,
        _ => theme.dim,
    };
    let number =
        |value: Option<f64>| value.map_or("none".to_owned(), |value| format!("{value:.3}"));
    let advantage = text::delta(record.advantage.unwrap_or(f64::NAN), 3);
    let sample = format!("#{}", record.sample);
    let mut runs: Vec<(Style, String)> = vec![
        (name_style, format!("{cursor}{sample:<3}")),
        (theme.dim, "reward ".to_owned()),
        (emphasis(SortKey::Total), number(record.reward)),
        (theme.dim, "  adv ".to_owned()),
        (advantage_style, advantage),
        (theme.text, gap.to_owned()),
        (emphasis(SortKey::Length), record.length.to_string()),
        (theme.dim, format!(" tokens {} ", look.glyphs.separator)),
        match record.finish_reason.as_str() {
            STOPPED => (theme.dim, STOPPED.to_owned()),
            other => (theme.warn, format!("{} {other}", look.glyphs.warn)),
        },
        (theme.text, gap.to_owned()),
    ];
    for (index, (name, value)) in record.rewards.iter().enumerate() {
        let gap = if index > 0 { " " } else { "" };
        // No space between them, so that a line does not break there.
        runs.push((theme.dim, format!("{gap}{name}=")));
        runs.push((emphasis(SortKey::Reward(name.clone())), number(*value)));
    }
    let runs = runs.iter().map(|(style, run)| (*style, run.as_str()));
    lines(&runs.collect::<Vec<_>>(), cells, true, look)
}

/// The text of a completion: alone, it is compared with the label.
pub(super) fn completion(
    answers: &Answers,
    record: &CompletionRecord,
    look: &Look,
    cells: usize,
) -> Vec<Line<'static>> {
    let Some(compared) = answers.compared.as_ref().filter(|_| answers.shows_one) else {
        let runs = [(look.theme.text, record.completion.as_str())];
        return lines(&runs, cells, !answers.cuts, look);
    };
    let letters = |kind| -> usize {
        let segments = compared
            .segments
            .iter()
            .filter(|segment| segment.kind == kind);
        segments
            .map(|segment| segment.text.graphemes(true).count())
            .sum()
    };
    let (missing, own) = (letters(SegmentKind::Removed), letters(SegmentKind::Added));
    let (words, mode) = match (missing, own) {
        (0, 0) => ("the same as the label".to_owned(), Mode::Inline),
        _ => (
            format!("{missing} characters of the label are missing (-), {own} are not in it (+)"),
            Mode::Stacked,
        ),
    };
    let mut text = vec![Line::styled(words, look.theme.dim)];
    let room = if answers.cuts { UNLIMITED } else { cells };
    let compared = diff::lines(&compared.segments, mode, room, look);
    text.extend(compared.iter().map(|line| cut(line, cells, look)));
    text
}

/// The prompt and the label of the group: whole, or only the question if it is folded.
pub(super) fn prompt(answers: &Answers, look: &Look, cells: usize) -> Vec<Line<'static>> {
    let group = answers.group();
    let Some((group, record)) = group.and_then(|group| Some((group, group.completions.first()?)))
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
    let neighbours = answers.page.iter().flat_map(|page| &page.neighbours);
    let mut shown = neighbours.filter(|line| line.place == group.place);
    let question = shown.next().map(|line| line.question.as_str());
    // A completion that is shown alone is compared with the label, which is shown there.
    let label = (!answers.shows_one).then_some(("label ", record.label.as_str()));
    let parts = [Some(("asked ", question.unwrap_or_default())), label];
    let folded = parts.into_iter().flatten().flat_map(|(title, content)| {
        let mut whole = part(title, content);
        if whole.len() > FOLDED_LINES {
            whole.truncate(FOLDED_LINES);
            if let Some(line) = whole.last_mut() {
                *line = cut(line, cells.saturating_sub(1), look);
                line.push_span(Span::styled(look.glyphs.ellipsis, theme.dim));
            }
        }
        whole
    });
    folded.collect()
}

/// Text in lines of at most `cells`: wrapped, or with what is longer cut off.
fn lines(runs: &[(Style, &str)], cells: usize, wraps: bool, look: &Look) -> Vec<Line<'static>> {
    let wrapped = text::wrap_runs(runs, if wraps { cells } else { UNLIMITED });
    let lines = wrapped.into_iter().map(|line| {
        let spans = line
            .into_iter()
            .map(|(style, run)| Span::styled(run, style));
        let line: Line<'_> = spans.collect();
        if wraps { line } else { cut(&line, cells, look) }
    });
    lines.collect()
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
