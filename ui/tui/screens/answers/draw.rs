//! The layout of the Answers screen, and its drawing.

use ratatui::buffer::Buffer;
use ratatui::layout::Constraint::{Fill, Length};
use ratatui::layout::{Layout, Rect};
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::Widget;

use super::{Answers, Part, group};
use crate::tui::data::answers::{AnswersPage, GroupLine};
use crate::tui::screens::NO_RUN;
use crate::tui::state::Context;
use crate::tui::text::{self, Align};
use crate::tui::theme::Look;
use crate::tui::widgets::focus::{Areas, inside};
use crate::tui::widgets::panel::{Panel, explain, tell};

/// From this width on the list is next to the group, else above it.
const WIDE: u16 = 120;
/// From this width on the question fits into the list.
const VERY_WIDE: u16 = 160;
/// Lines of the list above the group, its box included.
const LIST_LINES: u16 = 6;
/// Lines of a folded prompt.
const FOLDED_LINES: u16 = 4;
/// Cells of a question's id in the list, at most.
const LONGEST_ID: usize = 12;

/// The areas of the parts, boxes included.
pub(super) fn areas(answers: &Answers, look: &Look, body: Rect) -> Areas<Part> {
    let [groups, rest] = if body.width >= WIDE {
        let cells = if body.width >= VERY_WIDE { 52 } else { 36 };
        Layout::horizontal([Length(cells), Fill(1)]).areas(body)
    } else {
        Layout::vertical([Length(LIST_LINES), Fill(1)]).areas(body)
    };
    let lines = group::prompt(answers, look, inside(rest).width.into()).len();
    let most = if answers.unfolds_prompt {
        rest.height / 2
    } else {
        FOLDED_LINES + 2
    };
    let height = u16::try_from(lines + 2).unwrap_or(u16::MAX).min(most);
    let [prompt, completions] = Layout::vertical([Length(height), Fill(1)]).areas(rest);
    Areas::new([
        (Part::Groups, groups),
        (Part::Prompt, prompt),
        (Part::Completions, completions),
    ])
}

pub(super) fn draw(answers: &Answers, context: &Context<'_>, buf: &mut Buffer, area: Rect) {
    let look = context.look();
    let explanation = match (&context.world.open, &answers.page) {
        (None, _) => vec![
            "The completions of a run are shown here, group by group, as they are sampled.",
            NO_RUN,
        ],
        (_, None) => vec!["Completions are being read."],
        (Some(_), Some(page)) => return draw_page(answers, page, look, buf, area),
    };
    let sentences: Vec<String> = explanation.into_iter().map(str::to_owned).collect();
    explain("Answers", &sentences, area, buf, look);
}

fn draw_page(answers: &Answers, page: &AnswersPage, look: &Look, buf: &mut Buffer, area: Rect) {
    let areas = areas(answers, look, area);
    draw_groups(answers, page, look, buf, areas.of(Part::Groups));
    let prompt = areas.of(Part::Prompt);
    if page.group.is_some() {
        draw_prompt(answers, look, buf, prompt);
        return draw_completions(answers, look, buf, areas.of(Part::Completions));
    }
    let empty = Rect {
        height: area.bottom().saturating_sub(prompt.y),
        ..prompt
    };
    let words = if restrictions(answers).is_empty() {
        "Nothing has been sampled yet: completions appear with the first step."
    } else {
        "No completion matches. esc removes the restrictions one by one."
    };
    tell(
        &[words, page.note.as_deref().unwrap_or_default()],
        empty,
        buf,
        look,
    );
}

fn draw_groups(answers: &Answers, page: &AnswersPage, look: &Look, buf: &mut Buffer, area: Rect) {
    let follows = if answers.stays {
        "staying"
    } else {
        "following"
    };
    let mut title = vec!["Groups".to_owned(), follows.to_owned()];
    title.extend(restrictions(answers));
    if answers.is_waiting() {
        title.push("reading".to_owned());
    }
    let title = title.join(&format!(" {} ", look.glyphs.separator));
    let has_constant = page.neighbours.iter().any(|line| line.is_constant);
    let legend = if has_constant {
        "= all rewards the same"
    } else {
        ""
    };
    let list = Panel::new(&title, answers.focus.is(Part::Groups))
        .note(page.note.as_deref().unwrap_or(legend))
        .render(area, buf, look);
    let target = answers.target();
    let ids = page.neighbours.iter().map(|line| text::width(&line.id));
    let id_cells = ids.max().unwrap_or(0).min(LONGEST_ID);
    let height = usize::from(list.height);
    let shown = page
        .neighbours
        .iter()
        .skip(answers.first_row(height))
        .take(height);
    let lines = shown.map(|line| {
        let is_selected = Some(line.place) == target;
        row(line, is_selected, id_cells, look, list.width.into())
    });
    Text::from_iter(lines).render(list, buf);
}

/// A line of the list: step, id, type, mean reward, whether all are the same, question.
fn row(
    line: &GroupLine,
    is_selected: bool,
    id_cells: usize,
    look: &Look,
    cells: usize,
) -> Line<'static> {
    let (theme, glyphs) = (&look.theme, &look.glyphs);
    let fit = |words: &str, cells, align| {
        text::aligned(&text::single_line(words), cells, align, glyphs.ellipsis)
    };
    let mean = line
        .mean_reward
        .map_or("none".to_owned(), |mean| format!("{mean:.3}"));
    let cursor = if is_selected { glyphs.cursor } else { " " };
    let step = line.step.to_string();
    let start = format!(
        "{cursor}{} {} {} {} ",
        fit(&step, step.len().max(4), Align::Right),
        fit(&line.id, id_cells, Align::Right),
        fit(&line.question_type, 6, Align::Left),
        fit(&mean, 6, Align::Right),
    );
    let constant = if line.is_constant { "= " } else { "  " };
    let free = cells.saturating_sub(text::width(&start) + 2);
    let row = Line::from(vec![
        Span::raw(start),
        Span::styled(constant, theme.warn),
        Span::styled(fit(&line.question, free, Align::Left), theme.dim),
    ]);
    if is_selected {
        row.style(theme.selection)
    } else {
        row
    }
}

fn draw_prompt(answers: &Answers, look: &Look, buf: &mut Buffer, area: Rect) {
    let Some(group) = answers.group() else {
        return;
    };
    let separator = look.glyphs.separator;
    let mut title = format!(
        "Step {} {separator} epoch {} {separator} question {} {separator} {}",
        group.step, group.epoch, group.id, group.question_type
    );
    let is_focused = answers.focus.is(Part::Prompt);
    if is_focused {
        let fold = if answers.unfolds_prompt {
            "folds"
        } else {
            "unfolds"
        };
        title.push_str(&format!(" {separator} enter {fold} the prompt"));
    }
    let area = Panel::new(&title, is_focused).render(area, buf, look);
    let lines = group::prompt(answers, look, area.width.into());
    let shown = answers.prompt.shown(lines.len(), area.height.into());
    Text::from_iter(lines.into_iter().skip(shown.start)).render(area, buf);
}

fn draw_completions(answers: &Answers, look: &Look, buf: &mut Buffer, area: Rect) {
    let sorted = answers.sorted();
    let shown = group::columns(answers, &sorted, look, inside(area));
    let mut columns = Vec::new();
    for (area, index) in shown.areas.into_iter().zip(shown.first..) {
        if let Some(record) = sorted.get(index) {
            let (cells, is_selected) = (area.width.into(), index == answers.cursor);
            let head = group::head(record, is_selected, &answers.sort, look, cells);
            columns.push((area, head, group::completion(answers, record, look, cells)));
        }
    }
    let numbers = columns.iter().map(|(_, head, _)| head.len()).max();
    let head_lines = numbers.map_or(0, |lines| lines + usize::from(shown.has_rule));
    let height = usize::from(shown.height).saturating_sub(head_lines);
    let longest = columns
        .iter()
        .map(|(.., text)| text.len())
        .max()
        .unwrap_or(0);
    let window = answers.texts.shown(longest, height);

    let separator = look.glyphs.separator;
    let (first, last, total) = (shown.first + 1, shown.first + columns.len(), sorted.len());
    let place = match columns.len() {
        1 => format!("Completion {last} of {total}"),
        _ => format!("Completions {first} to {last} of {total}"),
    };
    let order = if answers.is_reversed { " reversed" } else { "" };
    let title = format!("{place} {separator} by {}{order}", answers.sort.title());
    let more = match longest - window.end {
        0 => String::new(),
        lines => format!("{} {lines} more", look.glyphs.arrow_down),
    };
    let panel = Panel::new(&title, answers.focus.is(Part::Completions)).note(&more);
    let left = panel.render(area, buf, look).x;
    for (area, mut lines, text) in columns {
        if lines.len() < head_lines {
            lines.resize(head_lines.saturating_sub(1), Line::default());
            let rule = look.glyphs.horizontal.repeat(area.width.into());
            lines.push(Line::styled(rule, look.theme.border));
        }
        lines.extend(text.into_iter().skip(window.start).take(height));
        Text::from(lines).render(area, buf);
        if area.x > left {
            let rule = Rect {
                x: area.x - 1,
                width: 1,
                ..area
            };
            let bars = vec![Line::raw(look.glyphs.vertical); rule.height.into()];
            Text::from(bars).style(look.theme.border).render(rule, buf);
        }
    }
}

/// The active restrictions of the list, as text.
fn restrictions(answers: &Answers) -> Vec<String> {
    let query = &answers.query;
    let id = query.id.as_ref().map(|id| format!("history of {id}"));
    let filter = query.filter.as_ref().map(|filter| format!("/{filter}"));
    [id, query.question_type.clone(), filter]
        .into_iter()
        .flatten()
        .collect()
}
