//! The keys of the Experiments screen.

use moim_core::run::Request;

use super::differences;
use super::launch::{self, run_id};
use super::{Experiments, Part, Selected};
use crate::tui::data::index::{ExperimentFile, RunEntry};
use crate::tui::filter::Filter;
use crate::tui::keymap::Action;
use crate::tui::message::{Choice, Command, Dialog, Effect, Input, InputPurpose, Notice};
use crate::tui::screens::control;
use crate::tui::screens::words::count;
use crate::tui::state::Context;
use crate::tui::widgets::table::to_csv;

impl Experiments {
    /// Executes an action of the key table.
    pub(super) fn execute(&mut self, action: Action, context: &Context<'_>) -> Vec<Command> {
        let action = match action {
            // With a filter every line is a match.
            Action::NextMatch => Action::Down,
            Action::PreviousMatch => Action::Up,
            action => action,
        };
        let is_moved = match self.focus.now() {
            Part::Files => self.file_table.list.act(action, &self.files(context)),
            Part::Runs => self.run_table.list.act(action, &self.runs(context)),
            _ => self.reading.act(action),
        };
        if is_moved {
            return Vec::new();
        }
        match action {
            Action::NextPane => self.focus.step(1),
            Action::PreviousPane => self.focus.step(-1),
            Action::Left => self.focus.set(Part::Files),
            Action::Right => self.focus.set(Part::Runs),
            Action::Back if self.focus.is(Part::Details) => self.focus.set(self.list),
            Action::Back => {
                self.filter = Filter::default();
                self.follow(context);
            }
            Action::ClearMarks => self.marks.clear(),
            Action::Sort => {
                let mut sort = self.sort;
                let columns = self.run_columns(context);
                sort.next(&columns);
                let column = columns.get(sort.column);
                let words = column.map(|column| format!("runs by {}", column.name));
                drop(columns);
                self.sort = sort;
                self.follow(context);
                return words.map(Notice::info).into_iter().collect();
            }
            Action::CompareConfigurations => {
                let marked = self.marks.all().to_vec();
                if marked.len() < 2 {
                    return vec![Notice::error(
                        "mark two or more experiments or runs with space, then v shows what differs",
                    )];
                }
                self.comparing = Some(marked.clone());
                return vec![Effect::ReadDifferences(marked).into()];
            }
            Action::ClearQueue if context.world.queue.is_empty() => {
                return vec![Notice::info("the queue is empty already")];
            }
            Action::ClearQueue => return vec![Command::ClearQueue],
            Action::Export => return vec![self.export(context)],
            _ => return self.on_selected(action, context),
        }
        self.focused();
        Vec::new()
    }

    fn on_selected(&mut self, action: Action, context: &Context<'_>) -> Vec<Command> {
        match self.selected(context) {
            Some(selected) if action == Action::Mark => self.marks.toggle(selected.path()),
            Some(Selected::File(file)) => return self.on_file(action, file, context),
            Some(Selected::Run(run)) => return on_run(action, run, context),
            None => {
                let needs_line = matches!(
                    action,
                    Action::Open
                        | Action::Start
                        | Action::Resume
                        | Action::Edit
                        | Action::Clone
                        | Action::Queue
                        | Action::FindDuplicates
                        | Action::Mark
                        | Action::PauseOrContinue
                        | Action::StopAfterStep
                        | Action::Kill
                        | Action::Delete
                        | Action::Copy
                        | Action::OpenInEditor
                );
                let noun = if self.list == Part::Files {
                    "experiment"
                } else {
                    "run"
                };
                let error = needs_line.then(|| Notice::error(format!("no {noun} is selected")));
                return error.into_iter().collect();
            }
        }
        Vec::new()
    }

    /// Shows the differences that were asked for, as soon as they are read.
    pub(super) fn show_differences(&mut self, context: &Context<'_>) -> Option<Command> {
        let (asked, found) = (
            self.comparing.as_ref()?,
            context.world.differences.as_ref()?,
        );
        if !differences::is_answer(asked, found) {
            return None;
        }
        // The window has a frame and a margin at either side, and a scrollbar.
        let room = usize::from(context.body.width.saturating_sub(9));
        let lines = differences::lines(asked, found, room, context.glyphs().ellipsis);
        let title = format!("What differs between {} configurations", asked.len());
        self.comparing = None;
        Some(Command::Read { title, lines })
    }

    /// The list as CSV.
    fn export(&self, context: &Context<'_>) -> Command {
        let (initial, text) = if self.list == Part::Files {
            (
                "experiments.csv",
                to_csv(&self.file_columns(context), &self.files(context)),
            )
        } else {
            (
                "runs.csv",
                to_csv(&self.run_columns(context), &self.runs(context)),
            )
        };
        Command::Input(Input {
            title: "Write the list to a CSV file".to_owned(),
            initial: initial.to_owned(),
            purpose: InputPurpose::ExportTo { text },
        })
    }

    fn on_file(
        &mut self,
        action: Action,
        file: &ExperimentFile,
        context: &Context<'_>,
    ) -> Vec<Command> {
        let path = file.path.clone();
        vec![match action {
            Action::Open | Action::Edit => Command::Plan(path),
            Action::Start => return self.launch.start(&path, context),
            Action::FindDuplicates => return self.launch.find_duplicates(&path),
            Action::Clone => launch::new_experiment(&file.name, &file.text),
            Action::Queue => match &file.experiment {
                Ok(_) => Command::Enqueue(path),
                Err(faults) => Notice::error(format!(
                    "{} has {}; correct it first (e)",
                    file.name,
                    count(faults.len(), "fault")
                )),
            },
            Action::Copy => Effect::Copy(path.display().to_string()).into(),
            Action::OpenInEditor => Effect::OpenInEditor(path).into(),
            Action::Delete => Command::Ask(Dialog {
                title: format!("Delete {}", file.name),
                lines: vec![
                    format!("This experiment file is deleted: {}", path.display()),
                    "Its runs stay, each with its configuration.".to_owned(),
                ],
                choices: vec![Choice::new(
                    'd',
                    "delete it",
                    vec![Effect::Delete { path }.into()],
                )],
            }),
            Action::Resume | Action::PauseOrContinue | Action::StopAfterStep | Action::Kill => {
                Notice::error("this is about runs: select one in the list of runs (tab)")
            }
            _ => return Vec::new(),
        }]
    }
}

fn on_run(action: Action, run: &RunEntry, context: &Context<'_>) -> Vec<Command> {
    let path = run.path.clone();
    let trainer = control::Run::from(run);
    vec![match action {
        Action::Open => launch::attach(&path, context),
        Action::PauseOrContinue => trainer.pause_or_continue(),
        Action::StopAfterStep => trainer.ask_trainer(Request::Stop),
        Action::Kill => trainer.kill(),
        Action::Resume => trainer.resume(context),
        Action::Delete => delete(run),
        Action::Copy => Effect::Copy(path.display().to_string()).into(),
        Action::OpenInEditor => Effect::OpenInEditor(path.join("log.txt")).into(),
        Action::Edit | Action::Clone => return edit_or_clone(action, run, context),
        Action::Start | Action::Queue | Action::FindDuplicates => Notice::error(
            "this is about experiments: select one in the list of files (tab); R resumes a run",
        ),
        _ => return Vec::new(),
    }]
}

fn delete(run: &RunEntry) -> Command {
    let (id, condition, path) = (run_id(run), run.condition(), run.path.clone());
    if condition.is_active() {
        let condition = condition.name();
        return Notice::error(format!(
            "{id} is {condition}: stop it first (t), then delete it"
        ));
    }
    Command::Ask(Dialog {
        title: format!("Delete {id}"),
        lines: vec![
            format!(
                "This folder is deleted with everything in it: {}",
                path.display()
            ),
            "Its save points, answers, scores and logs cannot be restored.".to_owned(),
        ],
        choices: vec![Choice::new(
            'd',
            "delete it",
            vec![Effect::Delete { path }.into()],
        )],
    })
}

/// A run's configuration is edited and cloned as the experiment file that it was started from.
fn edit_or_clone(action: Action, run: &RunEntry, context: &Context<'_>) -> Vec<Command> {
    let Some(index) = &context.world.index else {
        return Vec::new();
    };
    let Some(file) = index
        .experiments
        .iter()
        .find(|file| file.name == run.experiment)
    else {
        return vec![Notice::error(format!(
            "the experiment file {} no longer exists; copy {} into {}/ under a new name",
            run.experiment,
            run.path.join("experiment.toml").display(),
            index.experiments_dir.display()
        ))];
    };
    let path = &file.path;
    if action == Action::Edit {
        return vec![Command::Plan(path.clone())];
    }
    let words = format!("copied from {}, as the file is now", path.display());
    vec![
        Notice::info(words),
        launch::new_experiment(&file.name, &file.text),
    ]
}
