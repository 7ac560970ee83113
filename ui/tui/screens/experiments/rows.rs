//! The lines of both lists.

use moim_core::experiment::Experiment;

use super::Experiments;
use super::lists::{RunSort, progress, run_id};
use crate::tui::data::index::{ExperimentFile, RunSummary};
use crate::tui::screens::condition::sign;
use crate::tui::screens::words::{count, point_of};
use crate::tui::state::Context;
use crate::tui::text::{age, compact};
use crate::tui::theme::Look;
use crate::tui::widgets::old_table::{Cell, Column, Order, Row};

/// Cells of the small bar of a run's progress.
const BAR: usize = 6;

/// The columns of experiment files.
pub fn file_columns() -> Vec<Column> {
    vec![
        Column::text("experiment", 24).minimum(10).growing(),
        Column::text("", 10).minimum(10).priority(1),
        Column::text("model", 20).minimum(8).priority(3),
        Column::text("BxGxAxD", 11).minimum(7).priority(2),
        Column::number("epochs", 6).priority(4),
    ]
}

/// The columns of runs.
pub fn run_columns() -> Vec<Column> {
    vec![
        Column::text("run", 24).minimum(16).growing(),
        Column::text("state", 12).minimum(12).priority(1),
        Column::text("step", 18).minimum(16).priority(2),
        Column::number("reward", 7).priority(3),
        Column::text("best", 15).minimum(14).priority(4),
        Column::text("device", 8).minimum(6).priority(6),
        Column::number("since", 8).priority(5),
        Column::text("process", 18).minimum(12).priority(7),
    ]
}

/// The heads that runs are sorted by when they are clicked, in the order of the columns.
pub const SORTS: [Option<RunSort>; 8] = [
    Some(RunSort::Name),
    Some(RunSort::Condition),
    Some(RunSort::Progress),
    Some(RunSort::Reward),
    Some(RunSort::Best),
    None,
    Some(RunSort::Started),
    None,
];

/// The column that runs are sorted by.
pub fn sorted(sort: RunSort) -> Option<(usize, Order)> {
    let column = SORTS
        .iter()
        .position(|of_column| *of_column == Some(sort))?;
    let order = match sort {
        RunSort::Name | RunSort::Condition => Order::Ascending,
        RunSort::Started | RunSort::Progress | RunSort::Reward | RunSort::Best => Order::Descending,
    };
    Some((column, order))
}

/// B×G×A×D.
pub fn batch(experiment: &Experiment, look: &Look) -> String {
    let batch = experiment.batch();
    let numbers = [batch.b, batch.g, batch.a, batch.d].map(|number| number.to_string());
    numbers.join(look.glyphs.times)
}

/// The line of an experiment file.
pub fn file_row(screen: &Experiments, file: &ExperimentFile, context: &Context<'_>) -> Row {
    let (look, theme) = (context.look(), context.theme());
    let place = context
        .world
        .queue
        .iter()
        .position(|queued| *queued == file.path);
    let name = match place {
        Some(place) => format!("{} (queued {})", file.name, place + 1),
        None => file.name.clone(),
    };
    let mut cells = vec![name_cell(screen, &name, &file.path, context)];
    match &file.experiment {
        Ok(experiment) => {
            let model = experiment.model.path.file_name();
            let model = model.map(|name| name.to_string_lossy().into_owned());
            cells.extend([
                Cell::styled(format!("{} valid", look.glyphs.good), theme.good),
                model.unwrap_or_default().into(),
                batch(experiment, look).into(),
                experiment.grpo.num_train_epochs.to_string().into(),
            ]);
        }
        Err(faults) => {
            let words = format!("{} {}", look.glyphs.bad, count(faults.len(), "fault"));
            cells.push(Cell::styled(words, theme.bad));
            cells.extend(std::iter::repeat_n(Cell::default(), 3));
        }
    }
    Row {
        is_marked: screen.marks.contains(&file.path),
        ..Row::new(cells)
    }
}

/// The line of a run.
pub fn run_row(screen: &Experiments, run: &RunSummary, context: &Context<'_>) -> Row {
    let look = context.look();
    let condition = run.condition();
    let (sign, style) = sign(condition, look);
    let mut cells = vec![
        name_cell(screen, &run_id(run), &run.path, context),
        Cell::styled(format!("{sign} {}", condition.name()), style),
    ];
    match &run.state {
        Ok(state) => {
            let best = state.best.as_ref();
            let best = best.map(|best| format!("{:.4} {}", best.final_mean, point_of(&best.file)));
            cells.extend([
                step(run, look).into(),
                state.reward.map(compact).unwrap_or_default().into(),
                best.unwrap_or_default().into(),
                state.device.as_str().into(),
                age(context.now, state.started).into(),
                format!("{}@{}", state.pid, state.host).into(),
            ]);
        }
        Err(_) => cells.extend(std::iter::repeat_n(Cell::default(), 6)),
    }
    Row {
        is_marked: screen.marks.contains(&run.path),
        ..Row::new(cells)
    }
}

/// A name, with a star before it where the line has changed lately.
fn name_cell(
    screen: &Experiments,
    name: &str,
    path: &std::path::Path,
    context: &Context<'_>,
) -> Cell {
    match screen.changes.of(path, context.now) {
        Some(_) => Cell::styled(format!("* {name}"), context.theme().accent),
        None => name.into(),
    }
}

/// A small bar, and steps taken of all: `███░░░ 53/106`.
fn step(run: &RunSummary, look: &Look) -> String {
    let Ok(state) = &run.state else {
        return String::new();
    };
    let Some(done) = progress(run) else {
        return format!("step {}", state.step);
    };
    // Whole only when it is done.
    let full = ((done.clamp(0.0, 1.0) * BAR as f64) as usize).min(BAR);
    format!(
        "{}{} {}/{}",
        look.glyphs.bar_full.repeat(full),
        look.glyphs.bar_empty.repeat(BAR - full),
        state.step,
        state.total_steps
    )
}
