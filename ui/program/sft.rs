//! `moim sft`: runs the supervised warm-up of an experiment.

use std::time::Instant;

use anyhow::Result;
use indicatif::ProgressBar;
use moim_core::experiment::Experiment;
use moim_core::numbers::{decimal, duration};
use moim_core::run::{Event, Metrics, Step};
use moim_engine::device::Compute;
use moim_engine::sft::{self, SftOutcome, SftStep};
use serde_json::{Map, Value};

use moim_ui::cli::SftArguments;
use moim_ui::console::{Console, to_stdout};
use moim_ui::failure::{self, Outcome, exit};

/// Runs the command.
pub fn run(arguments: &SftArguments) -> Outcome {
    let experiment = Experiment::load(&arguments.experiment, &arguments.overrides.set)?;
    let faults: Vec<String> = experiment
        .check_sft_files()
        .iter()
        .map(ToString::to_string)
        .collect();
    if !faults.is_empty() {
        let path = arguments.experiment.display();
        return Err(failure::usage(format!(
            "{path}:\n  {}",
            faults.join("\n  ")
        )));
    }
    let compute = Compute::new(experiment.model.device, experiment.model.dtype)?;
    let mut report = Report {
        console: Console::new(arguments.quiet),
        is_json: arguments.json,
        logging_steps: experiment.run.logging_steps.max(1),
        bar: None,
        clock: Instant::now(),
    };
    let result = sft::train(&experiment, &compute, &mut |step| report.step(&step));
    let has_started = report.bar.is_some();
    if let Some(bar) = report.bar.take() {
        bar.finish_and_clear();
    }
    let outcome = result.map_err(|error| {
        if has_started {
            failure::of_work(error)
        } else {
            error.into()
        }
    })?;
    report.end(&outcome)?;
    Ok(exit::DONE)
}

/// Reports the progress of a warm-up.
struct Report {
    console: Console,
    is_json: bool,
    logging_steps: usize,
    /// Created by the first step.
    bar: Option<ProgressBar>,
    clock: Instant,
}

impl Report {
    fn step(&mut self, step: &SftStep) -> Result<()> {
        let bar = self
            .bar
            .get_or_insert_with(|| self.console.bar("sft", step.total_steps));
        bar.set_position(step.step as u64);
        if self.is_json {
            let event = Event::new(Step {
                step: step.step,
                total_steps: step.total_steps,
                metrics: Metrics::default()
                    .with("loss", step.loss)
                    .with("entropy", step.entropy)
                    .with("grad_norm", step.grad_norm)
                    .with("learning_rate", step.learning_rate)
                    .with("tokens", step.tokens),
            });
            to_stdout(&format!("{}\n", event.to_line()))?;
        }
        let is_due = step.step.is_multiple_of(self.logging_steps) || step.step == step.total_steps;
        if is_due {
            self.console.note(&format!(
                "step {}/{}  loss {}  grad_norm {}  entropy {}  learning_rate {:.2e}",
                step.step,
                step.total_steps,
                decimal(step.loss, 4),
                decimal(step.grad_norm, 4),
                decimal(step.entropy, 3),
                step.learning_rate
            ));
        }
        Ok(())
    }

    fn end(&self, outcome: &SftOutcome) -> Result<()> {
        if !outcome.dropped.is_empty() {
            self.console.report(&format!(
                "warning: {} record(s) were too long and were left out (data.max_prompt_length, sft.max_length); \
                 the first is {:?}",
                outcome.dropped.len(),
                outcome.dropped[0]
            ));
        }
        if self.is_json {
            let event = Event::other("done", Map::new())
                .with("output_dir", outcome.output_dir.display().to_string())
                .with("examples", outcome.examples)
                .with("dropped", outcome.dropped.len());
            let event = match &outcome.last {
                Some(step) => event.with("loss", step.loss),
                None => event.with("loss", Value::Null),
            };
            return to_stdout(&format!("{}\n", event.to_line()));
        }
        let loss = outcome.last.map_or_else(String::new, |step| {
            format!(", last loss {}", decimal(step.loss, 4))
        });
        to_stdout(&format!(
            "{}: trained on {} examples in {}{loss}\n",
            outcome.output_dir.display(),
            outcome.examples,
            duration(self.clock.elapsed().as_secs_f64())
        ))
    }
}
