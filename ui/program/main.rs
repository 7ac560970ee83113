//! The command `moim`.
//!
//! Results are written to stdout, everything else to stderr. [`failure`] lists the exit codes.

mod compare;
mod doctor;
mod headless;
mod infer;
mod loading;
mod plan;
mod preflight;
mod progress;
mod rank;
mod scoring;
mod sft;
mod watch;

use std::io::IsTerminal;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use clap::Parser;
use moim_ui::{cli, console, export, failure, manual, tui};

use moim_ui::cli::{Cli, Command, TrainArguments};
use moim_ui::failure::{Outcome, exit};
use moim_ui::tui::Opening;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let show = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        // A device that runs out of memory panics too, and that panic is caught.
        if !moim_engine::device::is_caught(panic) && !moim_core::text::is_caught() {
            show(panic);
        }
    }));
    // A panic is a bug. Its message is already printed; the exit code tells a script that the work was
    // not done.
    let outcome = catch_unwind(AssertUnwindSafe(|| run(&cli)));
    match outcome {
        Ok(Ok(code)) => ExitCode::from(code),
        Ok(Err(failure)) => {
            if let Some(text) = failure.text() {
                console::to_stderr(&format!("error: {text}"));
            }
            ExitCode::from(failure.code())
        }
        Err(_) => ExitCode::from(exit::FAILED),
    }
}

fn run(cli: &Cli) -> Outcome {
    match &cli.command {
        Some(Command::Plan(arguments)) => plan::run(arguments),
        Some(Command::Rank(arguments)) => rank::run(arguments),
        Some(Command::Watch(arguments)) => watch::run(arguments),
        Some(Command::Compare(arguments)) => compare::run(arguments),
        Some(Command::Export(arguments)) => export::run(arguments),
        Some(Command::Infer(arguments)) => infer::run(arguments),
        Some(Command::Sft(arguments)) => sft::run(arguments),
        Some(Command::Doctor(arguments)) => doctor::run(arguments),
        Some(Command::Completions(arguments)) => manual::completions(arguments.shell),
        Some(Command::Man) => manual::page(),
        None => train(&cli.train),
    }
}

/// Runs the terminal UI, or without a terminal the same as `--no-ui`.
fn train(arguments: &TrainArguments) -> Outcome {
    if let Some(word) = &arguments.experiment
        && let Some(problem) = cli::not_a_command(word)
    {
        return Err(failure::usage(problem));
    }
    let has_terminal = std::io::stdout().is_terminal() && std::io::stdin().is_terminal();
    if has_terminal && !arguments.no_ui && !arguments.json {
        terminal(arguments)
    } else {
        headless::run(arguments)
    }
}

/// Runs the terminal UI.
fn terminal(arguments: &TrainArguments) -> Outcome {
    if !arguments.overrides.set.is_empty() {
        return Err(failure::usage(
            "--set needs --no-ui: in the terminal UI, change the experiment on the Plan screen",
        ));
    }
    if arguments.force {
        return Err(failure::usage(
            "--force needs --no-ui: the terminal UI shows the errors of the checks before the first step",
        ));
    }
    if let (Some(_), Some(experiment)) = (&arguments.resume, &arguments.experiment) {
        return Err(failure::usage(format!(
            "{} together with --resume needs --no-ui: in the terminal UI a run resumes with its own experiment.toml",
            experiment.display()
        )));
    }
    let opening = match (&arguments.resume, &arguments.experiment) {
        (Some(run), _) => Opening::Resume(run.clone()),
        (None, None) => Opening::List,
        (None, Some(path)) if path.is_dir() => Opening::Attach(path.clone()),
        (None, Some(path)) => Opening::Start(path.clone()),
    };
    let terminal = &arguments.terminal;
    Ok(tui::run(&tui::Options {
        experiments: terminal.experiments.clone(),
        outputs: terminal.outputs.clone(),
        theme: terminal.theme,
        is_ascii: terminal.ascii,
        has_mouse: !terminal.no_mouse,
        is_polling: terminal.poll,
        opening,
    })?)
}
