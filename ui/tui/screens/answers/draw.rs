//! Draws the Answers screen.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span, Text};

use super::layout::{self, Areas, Pane, inner};
use super::{Answers, group};
use crate::tui::data::answers::{AnswersPage, GroupLine};
use crate::tui::screens::NO_RUN;
use crate::tui::state::Context;
use crate::tui::text::{self, Align};
use crate::tui::theme::Look;
use crate::tui::widgets::panel::{Panel, explain, tell};

/// Cells of a question's id in the list, at most.
const LONGEST_ID: usize = 12;

pub(super) fn draw(answers: &Answers, context: &Context<'_>, frame: &mut Frame<'_>, area: Rect) {
    let look = context.look();
    if context.world.open.is_none() {
        let sentences = [
            "The completions of a run are shown here, group by group, as they are sampled.",
            NO_RUN,
        ]
        .map(str::to_owned);
        return explain("Answers", &sentences, area, frame.buffer_mut(), look);
    }
    let Some(page) = &answers.page else {
        let sentences = ["Completions are being read.".to_owned()];
        return explain("Answers", &sentences, area, frame.buffer_mut(), look);
    };
    let areas = layout::areas(answers, look, area);
    draw_groups(answers, page, look, frame, areas.groups);
    if page.group.is_none() {
        let empty = Rect {
            height: area.bottom().saturating_sub(areas.prompt.y),
            ..areas.prompt
        };
        let note = page.note.as_deref().unwrap_or_default();
        let lines = match restrictions(answers).is_empty() {
            true => [
                "Nothing has been sampled yet: completions appear with the first step.",
                note,
            ],
            false => [
                "No completion matches. esc takes the restrictions back one by one.",
                note,
            ],
        };
        return tell(&lines, empty, frame.buffer_mut(), look);
    }
    draw_prompt(answers, look, frame, &areas);
    draw_completions(answers, look, frame, areas.completions);
}

fn draw_groups(
    answers: &Answers,
    page: &AnswersPage,
    look: &Look,
    frame: &mut Frame<'_>,
    area: Rect,
) {
    let mut title = vec!["Groups".to_owned()];
    title.push(
        if answers.follows {
            "following"
        } else {
            "staying"
        }
        .to_owned(),
    );
    title.extend(restrictions(answers));
    if answers.is_waiting() {
        title.push("reading".to_owned());
    }
    let title = title.join(&format!(" {} ", look.glyphs.separator));
    let has_constant = page.neighbours.iter().any(|line| line.is_constant);
    let meaning = if has_constant {
        "= all rewards the same"
    } else {
        ""
    };
    let list = Panel::new(&title, answers.pane == Pane::Groups)
        .note(page.note.as_deref().unwrap_or(meaning))
        .render(area, frame.buffer_mut(), look);
    let rows = usize::from(list.height);
    let target = answers.target();
    let longest = page
        .neighbours
        .iter()
        .map(|line| text::width(&line.id))
        .max();
    let id_cells = longest.unwrap_or(0).min(LONGEST_ID);
    let lines: Vec<Line<'_>> = page
        .neighbours
        .iter()
        .skip(answers.first_row(rows))
        .take(rows)
        .map(|line| {
            row(
                line,
                Some(line.place) == target,
                id_cells,
                look,
                list.width.into(),
            )
        })
        .collect();
    frame.render_widget(Text::from(lines), list);
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
    let question = fit(&line.question, free, Align::Left);
    let row = Line::from(vec![
        Span::raw(start),
        Span::styled(constant, theme.warn),
        Span::styled(question, theme.dim),
    ]);
    match is_selected {
        true => row.style(theme.selection),
        false => row,
    }
}

fn draw_prompt(answers: &Answers, look: &Look, frame: &mut Frame<'_>, areas: &Areas) {
    let Some(group) = answers.group() else {
        return;
    };
    let fold = if answers.unfolds_prompt {
        "folds"
    } else {
        "unfolds"
    };
    let separator = look.glyphs.separator;
    let mut title = format!(
        "Step {} {separator} epoch {} {separator} question {} {separator} {}",
        group.step, group.epoch, group.id, group.question_type
    );
    if answers.pane == Pane::Prompt {
        title.push_str(&format!(" {separator} enter {fold} the prompt"));
    }
    let area = Panel::new(&title, answers.pane == Pane::Prompt).render(
        areas.prompt,
        frame.buffer_mut(),
        look,
    );
    let lines = group::prompt_lines(answers, look, area.width.into());
    let lines: Vec<Line<'_>> = lines.into_iter().skip(answers.prompt_scroll).collect();
    frame.render_widget(Text::from(lines), area);
}

fn draw_completions(answers: &Answers, look: &Look, frame: &mut Frame<'_>, area: Rect) {
    let shown = group::shown(answers, look, inner(area));
    let separator = look.glyphs.separator;
    let order = if answers.is_reversed { " reversed" } else { "" };
    let last = shown.first + shown.columns.len();
    let place = match shown.columns.len() {
        1 => format!("Completion {last} of {}", shown.total),
        _ => format!(
            "Completions {} to {last} of {}",
            shown.first + 1,
            shown.total
        ),
    };
    let title = format!("{place} {separator} by {}{order}", answers.sort.title());
    let more = match shown.overhang().saturating_sub(answers.scroll) {
        0 => String::new(),
        lines => format!("{} {lines} more", look.glyphs.arrow_down),
    };
    Panel::new(&title, answers.pane == Pane::Completions)
        .note(&more)
        .render(area, frame.buffer_mut(), look);
    for column in &shown.columns {
        let mut lines = column.head.clone();
        if lines.len() < shown.head_lines {
            lines.resize(shown.head_lines.saturating_sub(1), Line::default());
            let rule = look.glyphs.horizontal.repeat(column.area.width.into());
            lines.push(Line::styled(rule, look.theme.border));
        }
        let text = column.text.iter().skip(answers.scroll);
        lines.extend(text.take(shown.text_height()).cloned());
        frame.render_widget(Text::from(lines), column.area);
        if column.area.x > inner(area).x {
            let rule = Rect {
                x: column.area.x.saturating_sub(1),
                width: 1,
                ..column.area
            };
            let bars = vec![Line::raw(look.glyphs.vertical); rule.height.into()];
            frame.render_widget(Text::from(bars).style(look.theme.border), rule);
        }
    }
}

/// What narrows the list down, in words.
fn restrictions(answers: &Answers) -> Vec<String> {
    let query = &answers.query;
    let mut words = Vec::new();
    words.extend(query.id.as_ref().map(|id| format!("history of {id}")));
    words.extend(query.question_type.clone());
    words.extend(query.filter.as_ref().map(|filter| format!("/{filter}")));
    words
}
