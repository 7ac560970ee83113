//! `moim --no-ui`: trains, and after each epoch infers, scores and ranks.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::Context;
use moim_core::experiment::{Experiment, experiment_name};
use moim_core::numbers::{duration, grouped};
use moim_core::run::RunDir;
use moim_core::score::render;
use moim_engine::grpo;
use moim_engine::session::{self, Ending, Loaded, Ready, RunContext};
use moim_engine::setup::Questions;

use crate::loading::loading;
use crate::preflight;
use crate::progress::Progress;
use moim_ui::cli::TrainArguments;
use moim_ui::console::{Console, to_stdout};
use moim_ui::failure::{self, Outcome, exit};
use moim_ui::signals::StopSignal;

/// The training to do.
enum Job {
    New { name: String },
    Resume { run: RunDir },
}

/// Runs the command.
pub fn run(arguments: &TrainArguments) -> Outcome {
    let console = Console::with_log(arguments.quiet);
    let (experiment, job) = job(arguments, &console)?;
    let stop = StopSignal::listen(console.clone()).context("cannot listen for signals")?;
    let clock = Instant::now();
    let mut loaded = Loaded::load(&experiment)?;
    let resumed = match &job {
        Job::New { .. } => None,
        Job::Resume { run } => Some(run),
    };
    preflight::before_training(&mut loaded, resumed, arguments.force, &console)?;
    console.note(&format!("loading {}", experiment.model.path.display()));
    let ready = loaded.with_weights(&mut loading(&console))?;
    for line in header(&ready) {
        console.note(&line);
    }
    for warning in &ready.warnings {
        console.report(&format!("warning: {warning}"));
    }
    stop.arm();
    let progress = Progress::new(console.clone(), stop.clone(), experiment.run.logging_steps)
        .with_json(arguments.json);
    // The run owns its observer; what it saw is read here once the run has ended.
    let progress = Arc::new(Mutex::new(progress));
    let observer = Box::new(Arc::clone(&progress));
    let result = match job {
        Job::New { name } => grpo::train(ready, &name, observer),
        Job::Resume { run } => grpo::resume(ready, run, observer),
    };
    let mut progress = progress.lock().unwrap_or_else(PoisonError::into_inner);
    let stdout_error = progress.finish();
    let (mut run, ending) = result.map_err(|error| failed(error, &progress, &console))?;
    drop(progress);
    let directory = run.directory.path().display().to_string();
    match ending {
        Ending::Finished => console.note(&format!(
            "finished in {}: {directory}",
            duration(clock.elapsed().as_secs_f64())
        )),
        Ending::Stopped => console.note(&format!(
            "stopped and saved; to resume: moim --no-ui --resume {directory}"
        )),
    }
    if let Some(error) = stdout_error {
        return Err(failure::of_work(error));
    }
    report(&mut run, arguments.json, &console)?;
    Ok(match ending {
        Ending::Finished => exit::DONE,
        Ending::Stopped => stop.exit_code().unwrap_or(exit::DONE),
    })
}

fn job(
    arguments: &TrainArguments,
    console: &Console,
) -> Result<(Experiment, Job), failure::Failure> {
    let overrides = &arguments.overrides.set;
    match (&arguments.resume, &arguments.experiment) {
        (None, None) => Err(failure::usage(
            "no experiment given: run moim --no-ui EXPERIMENT, or moim --no-ui --resume RUN to resume a run",
        )),
        (None, Some(path)) => {
            let name = experiment_name(path);
            Ok((Experiment::load(path, overrides)?, Job::New { name }))
        }
        (Some(run), experiment) => {
            let (run, before) = session::experiment_of_run(run)?;
            let path = experiment.clone().unwrap_or_else(|| run.experiment_toml());
            let mut after = Experiment::load(&path, overrides)?;
            if after.data.date_string.is_none() {
                // The run recorded the date it started; an experiment without a date means that one.
                after.data.date_string = before.data.date_string.clone();
            }
            accept_differences(&run, &path, (&before, &after), console)?;
            Ok((after, Job::Resume { run }))
        }
    }
}

/// Accepts differences that do not change what a resumed run computes, and refuses others.
fn accept_differences(
    run: &RunDir,
    path: &Path,
    (before, after): (&Experiment, &Experiment),
    console: &Console,
) -> Result<(), failure::Failure> {
    let mut unsafe_ones = Experiment::differences_unsafe_on_resume(before, after);
    // Changed inputs are refused by the run, which knows their content.
    unsafe_ones.retain(|difference| !difference.is_path_of_input());
    if unsafe_ones.is_empty() {
        for difference in Experiment::differences(before, after) {
            console.note(&format!("changed since the run started: {difference}"));
        }
        return Ok(());
    }
    let mut message = format!(
        "cannot resume {}: these settings of {} differ from those the run started with and would change \
         what it computes:",
        run.path().display(),
        path.display()
    );
    for difference in unsafe_ones {
        message.push_str(&format!("\n  {difference}"));
    }
    message.push_str("\nrestore them to resume this run, or start a new one without --resume");
    Err(failure::usage(message))
}

/// The first lines of a run: the batch in both conventions, then device, model, data and reward.
fn header(ready: &Ready) -> Vec<String> {
    let experiment = &ready.experiment;
    let model = &ready.policy.model;
    let compute = &model.compute;
    let mut lines: Vec<String> = experiment
        .batch_lines(Some(ready.train.kept.len()))
        .into_iter()
        .map(|line| format!("batch    {line}"))
        .collect();
    let dtype = match format!("{:?}", compute.dtype).as_str() {
        "F32" => "float32".to_owned(),
        "BF16" => "bfloat16".to_owned(),
        other => other.to_lowercase(),
    };
    lines.push(format!("device   {} ({dtype})", compute.name));
    lines.push(format!(
        "model    {}, {} parameters",
        experiment.model.path.display(),
        grouped(model.config.parameter_count())
    ));
    lines.push(prompts_line("train", &experiment.data.train, &ready.train));
    lines.push(prompts_line("eval", &experiment.data.eval, &ready.eval));
    if let Some(sizes) = &ready.sizes_text {
        lines.push(format!("memory   {sizes}"));
    }
    let stop: Vec<String> = ready
        .policy
        .stop
        .tokens()
        .iter()
        .map(|token| {
            format!(
                "{} {:?} ({})",
                token.id,
                token.text,
                token.sources.join(", ")
            )
        })
        .collect();
    lines.push(format!("stop     {}", stop.join("; ")));
    lines.push(format!("reward   {}", ready.rewards.formula().text()));
    lines
}

fn prompts_line(name: &str, path: &Path, questions: &Questions) -> String {
    let longest = questions
        .kept
        .iter()
        .map(|question| question.prompt.tokens.len())
        .max()
        .unwrap_or_default();
    format!(
        "{name:<8} {}, {} prompts of up to {longest} tokens",
        path.display(),
        questions.kept.len()
    )
}

/// The ranked list: on stdout, or on stderr if stdout has the events.
fn report(run: &mut RunContext, is_json: bool, console: &Console) -> anyhow::Result<()> {
    let has_answers = std::fs::read_dir(run.directory.infer_results())
        .is_ok_and(|mut entries| entries.next().is_some());
    if !has_answers || !run.rewards.metrics().has_reason_scorer() {
        console.note("nothing to rank yet");
        return Ok(());
    }
    let text = render::text(&run.leaderboard()?);
    if is_json {
        console.note(text.trim_end());
        return Ok(());
    }
    console.log(text.trim_end());
    to_stdout(&text)
}

/// A run that failed before its first event had not started, so the settings are the problem.
fn failed(error: anyhow::Error, progress: &Progress, console: &Console) -> failure::Failure {
    if !progress.has_started() {
        return error.into();
    }
    console.log(&format!("error: {}", failure::describe(&error)));
    failure::of_work(match progress.directory() {
        Some(directory) => error.context(format!("the run {directory} failed")),
        None => error,
    })
}
