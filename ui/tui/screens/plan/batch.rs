//! The batch in numbers: both conventions, and the length of the run.

use moim_core::experiment::{BatchArithmetic, BatchUnit, Experiment, Horizon};

use super::facts::facts_of;
use super::form::Form;
use crate::tui::data::plan::PlanFacts;
use crate::tui::theme::{Look, Marker};

/// A line of the batch panel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchLine {
    pub text: String,
    pub kind: LineKind,
}

/// What a line of the batch panel says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineKind {
    /// The convention in force.
    InForce,
    /// The convention in force, whose rule is broken.
    Broken,
    /// The other convention.
    Other,
    /// What follows from it.
    Result,
    /// Why something is not known.
    Unknown,
}

/// B, G, A and D, and what B counts.
pub fn head(experiment: &Experiment) -> String {
    let BatchArithmetic {
        b, g, a, d, unit, ..
    } = experiment.batch();
    format!("B {b}  G {g}  A {a}  D {d}  B in {unit}")
}

/// The panel's lines, in the signs of the look.
pub fn lines(form: &Form, facts: Option<&PlanFacts>, look: &Look) -> Vec<BatchLine> {
    let experiment = form.experiment();
    let batch = experiment.batch();
    let mut lines: Vec<BatchLine> = BatchUnit::ALL
        .iter()
        .map(|unit| row(&batch.in_unit(*unit), *unit == batch.unit))
        .collect();
    if batch.is_legal() {
        lines.push(line(LineKind::Result, a_step(&batch)));
        lines.push(length(experiment, facts));
    }
    for line in &mut lines {
        line.text = plain(&line.text, look);
    }
    lines
}

fn line(kind: LineKind, text: String) -> BatchLine {
    BatchLine { text, kind }
}

/// A convention worked out.
fn row(batch: &BatchArithmetic, in_force: bool) -> BatchLine {
    let BatchArithmetic {
        b, g, a, d, unit, ..
    } = *batch;
    match (batch.fault(), in_force) {
        (Some(fault), true) => return line(LineKind::Broken, format!("{unit}: {fault}")),
        (Some(fault), false) => {
            return line(
                LineKind::Other,
                format!("{unit}: would not be possible: {fault}"),
            );
        }
        (None, _) => {}
    }
    let (completions, prompts) = (batch.completions_per_step(), batch.prompts_per_step());
    let text = match unit {
        BatchUnit::Completions => format!(
            "{unit}: B×A×D = {b}×{a}×{d} = {completions}, \
             (B÷G)×A×D = ({b}÷{g})×{a}×{d} = {prompts} prompts"
        ),
        BatchUnit::Prompts => format!(
            "{unit}: B×G×A×D = {b}×{g}×{a}×{d} = {completions}, \
             B×A×D = {b}×{a}×{d} = {prompts} prompts"
        ),
    };
    let kind = if in_force {
        LineKind::InForce
    } else {
        LineKind::Other
    };
    line(kind, text)
}

fn a_step(batch: &BatchArithmetic) -> String {
    let micro_batches = batch.a.saturating_mul(batch.d);
    format!(
        "a step: {} prompts, {} completions, A×D = {micro_batches} micro-batches of {}",
        batch.prompts_per_step(),
        batch.completions_per_step(),
        batch.completions_per_micro_batch()
    )
}

/// The length of an epoch and of the run.
fn length(experiment: &Experiment, facts: Option<&PlanFacts>) -> BatchLine {
    let train = experiment.data.train.display();
    let facts = facts_of(experiment, facts);
    let unknown = |text: String| line(LineKind::Unknown, text);
    let prompts = match facts.map(|facts| (&facts.records, &facts.missing)) {
        _ if experiment.data.train.as_os_str().is_empty() => {
            return unknown("data.train says how many prompts there are".to_owned());
        }
        None => return unknown(format!("the prompts of {train} are being counted")),
        Some((Some(Ok(records)), _)) => *records,
        Some((Some(Err(problem)), _)) => return unknown(problem.clone()),
        Some((None, missing)) => {
            return unknown(format!(
                "the prompts are not counted: {}",
                missing.join("; ")
            ));
        }
    };
    let horizon = experiment.horizon(Some(prompts));
    match worked_out(&experiment.batch(), prompts, &horizon) {
        Ok(text) => line(LineKind::Result, text),
        Err(text) => line(LineKind::Broken, text),
    }
}

/// Steps of an epoch and of the run; an error where there is not one.
fn worked_out(
    batch: &BatchArithmetic,
    prompts: usize,
    horizon: &Horizon,
) -> Result<String, String> {
    let batches = batch.steps_per_epoch(prompts);
    if let Some(fault) = batch.too_few(prompts) {
        return Err(fault);
    }
    let iterations = horizon.num_iterations;
    let steps = batches.saturating_mul(iterations);
    let per_epoch = match iterations {
        1 => format!("{steps} steps/epoch"),
        _ => format!("{batches} batches × μ {iterations} = {steps} steps/epoch"),
    };
    let dropped = batch.dropped_prompts(prompts);
    let total = batch.total_steps(prompts, horizon);
    let whole = match horizon.max_steps {
        Some(_) => format!("max_steps: {total} steps in all"),
        None => format!("{} epochs = {total} steps", horizon.epochs),
    };
    Ok(format!(
        "{prompts} prompts {} = {per_epoch}, {dropped} dropped; {whole}",
        batch.division()
    ))
}

/// The arithmetic in ASCII where the look asks for that.
fn plain(text: &str, look: &Look) -> String {
    match look.glyphs.marker {
        Marker::Braille => text.to_owned(),
        Marker::Ascii => text.replace('×', "x").replace('÷', "/").replace('μ', "mu"),
    }
}
