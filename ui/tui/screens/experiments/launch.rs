//! Starting an experiment: what forbids it, and what is asked first.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::tui::data::index::{Condition, ExperimentFile, RunEntry};
use crate::tui::message::{Choice, Command, Dialog, Effect, Input, InputPurpose, Notice};
use crate::tui::screens::words::{count, name};
use crate::tui::state::{Context, Screen};

/// Runs that are named in a question; more are counted.
const NAMED: usize = 5;

/// A search for runs with the same configuration, whose result decides what follows.
#[derive(Debug, Default)]
pub struct Launch {
    waiting: Option<(PathBuf, Purpose)>,
}

/// What follows when the runs with the same configuration are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Start,
    Look,
}

impl Launch {
    /// Starts an experiment file after a search for runs with the same configuration; one with
    /// faults is refused.
    pub fn start(&mut self, path: &Path, context: &Context<'_>) -> Vec<Command> {
        let Some(file) = file(context, path) else {
            return vec![Notice::error(format!(
                "{} no longer exists; r reads the folder again",
                path.display()
            ))];
        };
        if let Err(faults) = &file.experiment {
            let hint = "Correct them on the Plan screen (e), or in an editor (o).";
            let faults_and_hint = faults.iter().map(ToString::to_string);
            let lines = faults_and_hint
                .chain(["", hint].map(str::to_owned))
                .collect();
            let title = format!(
                "{} cannot start: {}",
                file.name,
                count(faults.len(), "fault")
            );
            return vec![Command::Read { title, lines }];
        }
        let wanted = Some((path.to_owned(), Purpose::Start));
        if self.waiting == wanted {
            self.waiting = None;
            return vec![start(path, None, context)];
        }
        self.search(path, Purpose::Start)
    }

    /// Searches for runs with the configuration of an experiment file, to show them.
    pub fn find_duplicates(&mut self, path: &Path) -> Vec<Command> {
        self.search(path, Purpose::Look)
    }

    fn search(&mut self, path: &Path, purpose: Purpose) -> Vec<Command> {
        self.waiting = Some((path.to_owned(), purpose));
        let experiment = path.to_owned();
        vec![
            Notice::info("looking for runs with the same configuration"),
            Effect::FindDuplicates { experiment }.into(),
        ]
    }

    /// Continues when the runs that were searched for are known.
    pub fn refresh(&mut self, context: &Context<'_>) -> Vec<Command> {
        let (Some((path, purpose)), Some((of, runs))) = (&self.waiting, &context.world.duplicates)
        else {
            return Vec::new();
        };
        if of != path {
            return Vec::new();
        }
        let command = match purpose {
            Purpose::Start => start(path, Some(runs), context),
            Purpose::Look => shown(path, runs, context),
        };
        self.waiting = None;
        vec![command]
    }
}

/// Asks for the name of a new experiment with the text of this one.
pub fn new_experiment(name: &str, text: &str) -> Command {
    Command::Input(Input {
        title: "Name of the new experiment".to_owned(),
        initial: format!("{name}-2"),
        purpose: InputPurpose::NewExperiment {
            text: text.to_owned(),
        },
    })
}

/// `<experiment>/<run>`.
pub fn run_id(run: &RunEntry) -> String {
    format!("{}/{}", run.experiment, run.name)
}

/// The file of that path, as it was read last.
pub fn file<'a>(context: &Context<'a>, path: &Path) -> Option<&'a Arc<ExperimentFile>> {
    let index = context.world.index.as_ref()?;
    index.experiments.iter().find(|file| file.path == path)
}

/// The runs that a trainer of this machine is at work on.
pub fn active_here<'a>(context: &Context<'a>) -> impl Iterator<Item = &'a Arc<RunEntry>> {
    let runs = context.world.index.iter().flat_map(|index| &index.runs);
    runs.filter(|run| run.condition().is_active_here())
}

/// A warning if trainers of other runs than `this` are running on this machine.
pub fn others_running(this: Option<&Path>, context: &Context<'_>) -> Option<String> {
    let others = active_here(context).filter(|run| Some(run.path.as_path()) != this);
    let ids: Vec<String> = others.map(|run| run_id(run)).collect();
    let ids = Some(ids.join(", ")).filter(|ids| !ids.is_empty())?;
    Some(format!(
        "Running on this machine: {ids}. Two trainers share its memory and its time."
    ))
}

/// Opens a run on the screen that shows most of it: a finished one on its ranking.
pub fn attach(run: &Path, context: &Context<'_>) -> Command {
    let runs = context.world.index.iter().flat_map(|index| &index.runs);
    let is_finished = runs
        .filter(|known| known.path == run)
        .any(|known| known.condition() == Condition::Finished);
    Command::Attach {
        run: run.to_owned(),
        then: if is_finished {
            Screen::Ranking
        } else {
            Screen::Train
        },
    }
}

/// Starts an experiment, or asks first. `duplicates` is `None` if the search for them has not ended.
fn start(path: &Path, duplicates: Option<&[PathBuf]>, context: &Context<'_>) -> Command {
    let go = Command::from(Effect::Start {
        experiment: path.to_owned(),
    });
    let mut lines = Vec::new();
    let mut choices = vec![Choice::new('s', "start it anyway", vec![go.clone()])];
    match duplicates {
        None => lines.push(
            "The runs have not all been compared yet: one with the same configuration may exist \
             already."
                .to_owned(),
        ),
        Some([]) => {}
        Some(runs @ [first, ..]) => {
            lines.push(format!(
                "{} with the same configuration, which would give the same result:",
                count(runs.len(), "run")
            ));
            lines.extend(named(runs));
            if runs.len() > 1 {
                lines.push(format!("o opens {}.", first.display()));
            }
            let open = vec![attach(first, context)];
            choices.push(Choice::new('o', "open the existing run", open));
        }
    }
    if let Some(words) = others_running(None, context) {
        lines.push(words);
        let wait = vec![Command::Enqueue(path.to_owned())];
        let label = "add it to the queue, to run afterwards";
        choices.push(Choice::new('a', label, wait));
    }
    if lines.is_empty() {
        return go;
    }
    Command::Ask(Dialog {
        title: format!("Start {}", name(path)),
        lines,
        choices,
    })
}

fn shown(path: &Path, runs: &[PathBuf], context: &Context<'_>) -> Command {
    let Some(first) = runs.first() else {
        return Notice::info(format!("no run has the configuration of {}", name(path)));
    };
    Command::Ask(Dialog {
        title: format!(
            "{} with the configuration of {}",
            count(runs.len(), "run"),
            name(path)
        ),
        lines: named(runs).collect(),
        choices: vec![Choice::new(
            'o',
            &format!("open {}", name(first)),
            vec![attach(first, context)],
        )],
    })
}

fn named(runs: &[PathBuf]) -> impl Iterator<Item = String> {
    let more = runs.len().saturating_sub(NAMED);
    let more = (more > 0).then(|| format!("and {more} more"));
    let shown = runs.iter().take(NAMED);
    shown.map(|run| run.display().to_string()).chain(more)
}
