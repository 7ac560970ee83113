//! The panels next to the form: help, batch and memory.

use moim_core::experiment::{BatchArithmetic, BatchUnit, Experiment};
use moim_core::memory::{Component, Peak, Phase, Verdict};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Widget};

use super::draw::REQUIRED;
use super::edit::{Content, choices};
use super::form::{Form, FormLine};
use super::{Memory, Plan, facts};
use crate::tui::state::Context;
use crate::tui::text::{Align, aligned, bytes, fit, single_line, truncate, width, wrap};
use crate::tui::theme::Marker;
use crate::tui::widgets::page::Page;
use crate::tui::widgets::panel::Panel;
use crate::tui::widgets::scroll::wrapped;
use crate::tui::widgets::stacked_bar::{Part, StackedBar};

/// Panels lower than this have no box and show the essential only.
const LOWEST_BOX: u16 = 4;
/// A memory panel lower than this inside has a line per phase.
const LOWEST_LEGEND: u16 = 14;
/// From here on the parts of the memory panel have a blank line between them.
const ROOMY: u16 = 22;

/// Cells of a phase's name and of its bytes in front of a bar.
const PHASE: usize = 10;
const AMOUNT: usize = 10;

/// A text and how it is drawn.
type Words = (String, Style);

/// The key under the cursor: what it is, what may be written, what is wrong.
pub fn draw_help(screen: &Plan, form: &Form, context: &Context<'_>, buf: &mut Buffer, area: Rect) {
    let (meaning, faults, advice) = help(screen, form, context);
    if area.height < LOWEST_BOX {
        // What is wrong comes before what it is.
        let first = faults.into_iter().chain(meaning).take(1);
        let shown = first.chain(advice).take(area.height.into());
        let lines = shown.map(|(text, style)| {
            let ellipsis = context.glyphs().ellipsis;
            Line::styled(
                truncate(&single_line(&text), area.width.into(), ellipsis),
                style,
            )
        });
        Paragraph::new(lines.collect::<Vec<_>>()).render(area, buf);
        return;
    }
    let field = screen.line().and_then(|line| form.field(line));
    let title = field.map_or("Help", |field| field.path.as_str());
    let area = Panel::new(title, false).render(area, buf, context.look());
    let all = meaning.into_iter().chain(faults).chain(advice);
    let lines = all.flat_map(|(text, style)| wrapped(&text, area.width.into(), style));
    Paragraph::new(lines.collect::<Vec<_>>())
        .style(context.theme().text)
        .render(area, buf);
}

/// The line under the cursor: what it is; what is wrong with it; what may be written, and the keys
/// that do.
fn help(
    screen: &Plan,
    form: &Form,
    context: &Context<'_>,
) -> (Option<Words>, Vec<Words>, Vec<Words>) {
    let (bad, theme) = (context.glyphs().bad, context.theme());
    let line = screen.line();
    let Some(field) = line.and_then(|line| form.field(line)) else {
        let Some(FormLine::Loose(index)) = line else {
            return (None, Vec::new(), Vec::new());
        };
        let fault = form
            .loose
            .get(index)
            .map(|fault| (fault.to_string(), theme.bad));
        let advice = "This is in the file, not in the form; o opens an editor.";
        return (
            None,
            fault.into_iter().collect(),
            vec![(advice.to_owned(), theme.dim)],
        );
    };
    let entry = screen.entry.as_ref();
    let problem = entry.and_then(|entry| entry.problem.clone());
    let faults = field.faults.iter();
    let faults = faults.map(|fault| format!("{}; {}", fault.problem, fault.hint));
    let keys = match entry.map(|entry| &entry.content) {
        Some(Content::Choice { .. }) => "space or the arrows choose, enter keeps, esc cancels",
        Some(Content::Line(_)) => "enter keeps, esc cancels; empty means the default",
        None if choices(&field.key).is_empty() => "enter edits, d takes it out of the file",
        None => "left and right choose, d takes it out of the file",
    };
    let default = match field.key.default.as_deref() {
        Some(REQUIRED) => "required".to_owned(),
        Some(value) => format!("default {value}"),
        None => "not set by default".to_owned(),
    };
    let expected = format!("Write {} ({default}).", field.key.expected);
    let faults = problem.into_iter().chain(faults);
    (
        Some((field.key.help.clone(), theme.text)),
        faults
            .map(|words| (format!("{bad} {words}"), theme.bad))
            .collect(),
        vec![(expected, theme.dim), (keys.to_owned(), theme.dim)],
    )
}

/// Both conventions worked out, and the length of the run.
pub fn draw_batch(form: &Form, context: &Context<'_>, buf: &mut Buffer, area: Rect) {
    let BatchArithmetic {
        b, g, a, d, unit, ..
    } = form.experiment.batch();
    let note = format!("B {b}  G {g}  A {a}  D {d}  B in {unit}");
    let inside = Panel::new("Batch", false)
        .note(&note)
        .render(area, buf, context.look());
    if let Err(error) = &form.document {
        let lines = wrapped(&error.to_string(), inside.width.into(), context.theme().bad);
        return Paragraph::new(lines).render(inside, buf);
    }
    let room = usize::from(inside.width).saturating_sub(2);
    let mut lines = Vec::new();
    for (mark, style, mut text) in batch_lines(&form.experiment, context) {
        if context.glyphs().marker == Marker::Ascii {
            text = text.replace('×', "x").replace('÷', "/").replace('μ', "mu");
        }
        for (index, part) in wrap(&text, room).into_iter().enumerate() {
            let mark = if index == 0 { mark } else { " " };
            lines.push(Line::styled(format!("{mark} {part}"), style));
        }
    }
    Paragraph::new(lines).render(inside, buf);
}

/// The batch in numbers, each line with its mark: both conventions, a step, an epoch and the run.
fn batch_lines(
    experiment: &Experiment,
    context: &Context<'_>,
) -> Vec<(&'static str, Style, String)> {
    let (glyphs, theme) = (context.glyphs(), context.theme());
    let batch = experiment.batch();
    let mut lines: Vec<_> = BatchUnit::ALL
        .iter()
        .map(
            |unit| match (in_unit(&batch.in_unit(*unit)), *unit == batch.unit) {
                (Ok(text), true) => (glyphs.cursor, theme.accent, text),
                (Ok(text), false) => (" ", theme.dim, text),
                (Err(fault), true) => (glyphs.bad, theme.bad, format!("{unit}: {fault}")),
                (Err(fault), false) => {
                    let text = format!("{unit}: would not be possible: {fault}");
                    (" ", theme.dim, text)
                }
            },
        )
        .collect();
    if batch.is_legal() {
        let step = format!(
            "a step: {} prompts, {} completions, A×D = {} micro-batches of {}",
            batch.prompts_per_step(),
            batch.completions_per_step(),
            batch.a.saturating_mul(batch.d),
            batch.completions_per_micro_batch()
        );
        lines.push((" ", theme.text, step));
        lines.push(match prompts(experiment, context) {
            Err(unknown) => (glyphs.warn, theme.dim, unknown),
            Ok(prompts) => match batch.too_few(prompts) {
                Some(fault) => (glyphs.bad, theme.bad, fault),
                None => (" ", theme.text, length(experiment, &batch, prompts)),
            },
        });
    }
    lines
}

/// A convention worked out; an error if it breaks the rule of its unit.
fn in_unit(batch: &BatchArithmetic) -> Result<String, String> {
    if let Some(fault) = batch.fault() {
        return Err(fault.to_string());
    }
    let BatchArithmetic {
        b, g, a, d, unit, ..
    } = batch;
    let (completions, prompts) = (batch.completions_per_step(), batch.prompts_per_step());
    Ok(match unit {
        BatchUnit::Completions => format!(
            "{unit}: B×A×D = {b}×{a}×{d} = {completions}, \
             (B÷G)×A×D = ({b}÷{g})×{a}×{d} = {prompts} prompts"
        ),
        BatchUnit::Prompts => format!(
            "{unit}: B×G×A×D = {b}×{g}×{a}×{d} = {completions}, \
             B×A×D = {b}×{a}×{d} = {prompts} prompts"
        ),
    })
}

/// The number of training prompts; an error if it is not known, and why.
fn prompts(experiment: &Experiment, context: &Context<'_>) -> Result<usize, String> {
    let train = &experiment.data.train;
    if train.as_os_str().is_empty() {
        return Err("data.train names the file of prompts".to_owned());
    }
    let Some(facts) = facts(experiment, context) else {
        return Err(format!(
            "the prompts of {} are being counted",
            train.display()
        ));
    };
    let uncounted = || format!("the prompts are not counted: {}", facts.missing.join("; "));
    facts.records.clone().unwrap_or_else(|| Err(uncounted()))
}

/// The length of an epoch and of the run, in steps.
fn length(experiment: &Experiment, batch: &BatchArithmetic, prompts: usize) -> String {
    let horizon = experiment.horizon(Some(prompts));
    let batches = batch.steps_per_epoch(prompts);
    let iterations = horizon.num_iterations;
    let steps = batches.saturating_mul(iterations);
    let epoch = match iterations {
        1 => format!("{steps} steps/epoch"),
        _ => format!("{batches} batches × μ {iterations} = {steps} steps/epoch"),
    };
    let total = batch.total_steps(prompts, &horizon);
    let run = match horizon.max_steps {
        Some(_) => format!("max_steps: {total} steps in all"),
        None => format!("{} epochs = {total} steps", horizon.epochs),
    };
    let (division, dropped) = (batch.division(), batch.dropped_prompts(prompts));
    format!("{prompts} prompts {division} = {epoch}, {dropped} dropped; {run}")
}

/// The memory of each phase and the capacity.
pub fn draw_memory(
    memory: &Result<Memory, String>,
    context: &Context<'_>,
    buf: &mut Buffer,
    area: Rect,
) {
    let (look, theme) = (context.look(), context.theme());
    let capacity = memory.as_ref().ok().and_then(|memory| memory.plan.capacity);
    let note = capacity.map(|capacity| format!("of {}", bytes(capacity)));
    let inside = Panel::new("Memory", false)
        .note(&note.unwrap_or_default())
        .render(area, buf, look);
    let room = usize::from(inside.width);
    let memory = match memory {
        Ok(memory) => memory,
        Err(why) => {
            let lines = wrapped(&format!("No plan yet: {why}."), room, theme.dim);
            return Paragraph::new(lines).render(inside, buf);
        }
    };
    let verdict = memory.plan.verdict();
    let (sign, style) = match verdict {
        Verdict::Fits { .. } => (look.glyphs.good, theme.good),
        Verdict::Tight { .. } => (look.glyphs.warn, theme.warn),
        Verdict::TooLarge { .. } => (look.glyphs.bad, theme.bad),
        Verdict::Unknown => (" ", theme.dim),
    };
    let mut words = vec![(format!("{sign} {verdict}"), style)];
    words.extend(memory.sizes.clone().map(|sizes| (sizes, theme.text)));
    words.extend(
        memory
            .suggestion
            .clone()
            .map(|suggestion| (suggestion, theme.warn)),
    );
    if !memory.limits.is_empty() {
        words.push((format!("each on its own, {}", memory.limits), theme.text));
    }
    let (_, largest) = memory.plan.fullest();
    let bar = |peak: &Peak, cells: usize| {
        let parts = peak.parts.iter().map(|part| Part {
            label: part.component.name(),
            bytes: part.bytes,
            // The same component looks the same in every bar.
            style: part.component as usize,
        });
        // Every bar has the same scale, so that they can be compared.
        StackedBar::new(&parts.collect::<Vec<_>>(), memory.plan.capacity)
            .scale(largest)
            .line(cells, look)
    };
    let mut page = Page::new(room);
    if inside.height < LOWEST_LEGEND {
        // The phase of inference comes last, and only if it fits.
        let phases = if inside.height > 5 { 3 } else { 2 };
        for (phase, peak) in memory.plan.phases().into_iter().take(phases) {
            let amount = aligned(&bytes(peak.total()), AMOUNT, Align::Right, "");
            let head = format!("{}{amount} ", fit(phase.name(), PHASE));
            let mut line = bar(peak, room.saturating_sub(width(&head)));
            line.spans.insert(0, Span::styled(head, theme.text));
            page.lines.push(line);
        }
        if usize::from(inside.height) > phases + 1 {
            words
                .iter()
                .for_each(|(text, style)| page.say(text, *style));
        } else {
            let one: Vec<&str> = words.iter().map(|(text, _)| text.as_str()).collect();
            let line = truncate(&one.join("; "), room, look.glyphs.ellipsis);
            page.lines.push(Line::styled(line, style));
        }
    } else {
        words
            .iter()
            .for_each(|(text, style)| page.say(text, *style));
        if inside.height >= ROOMY {
            page.gap();
        }
        for (phase, peak) in memory.plan.phases() {
            let heading = format!("{} {}  {}", phase.name(), bytes(peak.total()), peak.moment);
            let heading = truncate(&heading, room, look.glyphs.ellipsis);
            page.lines.push(Line::styled(heading, theme.text));
            page.lines.push(bar(peak, room));
        }
        if inside.height >= ROOMY {
            page.gap();
        }
        page.lines
            .extend(legend(&memory.plan.phases(), room, context));
    }
    Paragraph::new(page.lines).render(inside, buf);
}

/// A line for each component: its pattern, and its bytes in every phase.
fn legend(phases: &[(Phase, &Peak)], room: usize, context: &Context<'_>) -> Vec<Line<'static>> {
    /// The longest name of a component, and `1023.9 MiB` with a space before it.
    const NAME: usize = 13;
    const CELL: usize = 11;

    let theme = context.theme();
    let cell = |text: &str| aligned(text, CELL, Align::Right, "");
    let columns = room.saturating_sub(NAME + 3) / CELL;
    let phases = phases.get(..columns).unwrap_or(phases);
    let heads: String = phases.iter().map(|(phase, _)| cell(phase.name())).collect();
    let head = format!("{}{heads}", " ".repeat(NAME + 3));
    let mut lines = vec![Line::styled(head, theme.header)];
    for component in Component::ALL {
        let amounts = || phases.iter().map(|(_, peak)| peak.of(component));
        if amounts().all(|amount| amount == 0) {
            continue;
        }
        let numbers = amounts().map(|amount| match amount {
            0 => cell(""),
            amount => cell(&bytes(amount)),
        });
        let name = fit(component.name(), NAME);
        let style = component as usize;
        lines.push(Line::from(vec![
            Span::styled(context.glyphs().part(style).repeat(2), theme.part(style)),
            Span::styled(
                format!(" {name}{}", numbers.collect::<String>()),
                theme.text,
            ),
        ]));
    }
    lines
}
