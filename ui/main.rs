//! `moim`, the command: what a person or a script types, and what it answers.
//!
//! Results go to stdout, everything else to stderr. [`failure`] says which exit
//! code stands for what.

mod cli;
mod compare;
mod console;
mod doctor;
mod failure;
mod headless;
mod infer;
mod lines;
mod log;
mod plan;
mod progress;
mod rank;
mod scoring;
mod sft;
mod signals;
mod watch;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};
use failure::{Outcome, exit};

fn main() -> ExitCode {
    let cli = Cli::parse();
    // A panic is a bug, and its message is printed already; the exit code still
    // has to tell a script that the work was not done.
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
        Some(Command::Infer(arguments)) => infer::run(arguments),
        Some(Command::Sft(arguments)) => sft::run(arguments),
        Some(Command::Doctor(arguments)) => doctor::run(arguments),
        None if cli.train.no_ui => headless::run(&cli.train),
        None => Err(failure::usage(cli::without_terminal_ui(&cli.train))),
    }
}
