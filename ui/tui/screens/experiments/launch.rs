//! Starting an experiment: what forbids it, and what is asked first.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::lists::run_id;
use crate::tui::data::index::{Condition, ExperimentFile, Index, RunEntry};
use crate::tui::message::{Choice, Command, Dialog, Effect, Notice};
use crate::tui::screens::words::{count, name};
use crate::tui::state::{Context, Screen};

/// Runs that are named in a question; more are counted.
const NAMED: usize = 5;

/// A look for runs with the same configuration, the answer to which decides what follows.
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
    /// Begins to start an experiment file: one with faults is refused with them, for another one
    /// runs with the same configuration are looked for first.
    pub fn start(&mut self, path: &Path, context: &Context<'_>) -> Vec<Command> {
        let Some(file) = file(context, path) else {
            return vec![absent(path)];
        };
        if let Err(faults) = &file.experiment {
            let mut lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
            lines.push(String::new());
            lines.push("Correct them on the Plan screen (e), or in an editor (o).".to_owned());
            let title = format!(
                "{} cannot start: {}",
                file.name,
                count(faults.len(), "fault")
            );
            return vec![Command::Read { title, lines }];
        }
        let is_waiting = self
            .waiting
            .as_ref()
            .is_some_and(|(waiting, purpose)| waiting == path && *purpose == Purpose::Start);
        if is_waiting {
            self.waiting = None;
            return vec![unchecked(path)];
        }
        self.look_for(path, Purpose::Start)
    }

    /// Begins to look for runs with the configuration of an experiment file, to show them.
    pub fn find_duplicates(&mut self, path: &Path) -> Vec<Command> {
        self.look_for(path, Purpose::Look)
    }

    fn look_for(&mut self, path: &Path, purpose: Purpose) -> Vec<Command> {
        self.waiting = Some((path.to_owned(), purpose));
        let experiment = path.to_owned();
        vec![
            Notice::info("looking for runs with the same configuration"),
            Effect::FindDuplicates { experiment }.into(),
        ]
    }

    /// Goes on where the runs that were looked for are known.
    pub fn refresh(&mut self, context: &Context<'_>) -> Vec<Command> {
        let (Some((path, purpose)), Some((of, runs))) = (&self.waiting, &context.world.duplicates)
        else {
            return Vec::new();
        };
        if of != path {
            return Vec::new();
        }
        let commands = match purpose {
            Purpose::Start => start(path, runs, context),
            Purpose::Look => vec![shown(path, runs, context)],
        };
        self.waiting = None;
        commands
    }
}

/// The file of that path, as it was read last.
pub fn file<'a>(context: &Context<'a>, path: &Path) -> Option<&'a Arc<ExperimentFile>> {
    let index = context.world.index.as_ref()?;
    index.experiments.iter().find(|file| file.path == path)
}

/// The runs of this machine that are under way.
pub fn active_here(index: Option<&Index>) -> Vec<&Arc<RunEntry>> {
    let runs = index.into_iter().flat_map(|index| &index.runs);
    runs.filter(|run| run.condition().is_active_here())
        .collect()
}

/// Where a run is best looked at: a finished one by its ranking.
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

/// Says that a file is not there.
pub fn absent(path: &Path) -> Command {
    let path = path.display();
    Notice::error(format!(
        "{path} is not there any more; r reads the folder again"
    ))
}

fn start(path: &Path, duplicates: &[PathBuf], context: &Context<'_>) -> Vec<Command> {
    let active = active_here(context.world.index.as_ref());
    let go = Command::from(Effect::Start {
        experiment: path.to_owned(),
    });
    if duplicates.is_empty() && active.is_empty() {
        return vec![go];
    }
    let mut lines = Vec::new();
    if let Some(first) = duplicates.first() {
        lines.push(format!(
            "{} with the same configuration, which would give the same result:",
            count(duplicates.len(), "run")
        ));
        lines.extend(named(duplicates));
        if duplicates.len() > 1 {
            lines.push(format!("o opens {}.", first.display()));
        }
    }
    if !active.is_empty() {
        let ids: Vec<String> = active.iter().map(|run| run_id(run)).collect();
        lines.push(format!(
            "Under way on this machine: {}. Two trainers share its memory and its time.",
            ids.join(", ")
        ));
    }
    let mut choices = vec![Choice::new('s', "start it all the same", vec![go])];
    if let Some(first) = duplicates.first() {
        choices.push(Choice::new(
            'o',
            "open the run there is",
            vec![attach(first, context)],
        ));
    }
    if !active.is_empty() {
        let wait = vec![Command::Enqueue(path.to_owned())];
        choices.push(Choice::new(
            'a',
            "add it to the queue, to run afterwards",
            wait,
        ));
    }
    vec![Command::Ask(Dialog {
        title: format!("Start {}", name(path)),
        lines,
        choices,
    })]
}

/// Asked where the start is wanted again before the runs have been looked through.
fn unchecked(path: &Path) -> Command {
    let go = Effect::Start {
        experiment: path.to_owned(),
    };
    Command::Ask(Dialog {
        title: format!("Start {}", name(path)),
        lines: vec![
            "The runs have not been looked through yet, so one with the same configuration may \
             be there already."
                .to_owned(),
        ],
        choices: vec![Choice::new(
            's',
            "start it without looking",
            vec![go.into()],
        )],
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
