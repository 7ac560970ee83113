//! The Experiments screen: what can be run and what was run.

mod changes;
mod details;
mod differences;
mod draw;
mod keys;
pub(super) mod launch;
pub(super) mod lists;
mod rows;
#[cfg(test)]
pub(crate) mod sample;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ratatui::Frame;
use ratatui::layout::{Position, Rect};

use super::ScreenState;
use super::words::count;
use crate::tui::data::index::{ExperimentFile, RunEntry};
use crate::tui::filter::Filter;
use crate::tui::keymap::Action;
use crate::tui::message::Command;
use crate::tui::state::Context;
use changes::Changes;
use launch::Launch;
use lists::{RunSort, Selection};

/// The state of the Experiments screen.
#[derive(Debug, Default)]
pub struct Experiments {
    pane: Pane,
    /// How far the details are scrolled, in lines, while the keys go there.
    reading: Option<usize>,
    file: Selection,
    run: Selection,
    filter: Filter,
    sort: RunSort,
    /// Files and runs to be compared, in the order in which they were marked.
    marks: Vec<PathBuf>,
    launch: Launch,
    /// Configurations whose differences have been asked for.
    comparing: Option<Vec<PathBuf>>,
    changes: Changes,
}

/// The list that the keys go to, or whose selected line has its details read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Pane {
    #[default]
    Files,
    Runs,
}

/// The selected line.
enum Selected<'a> {
    File(&'a Arc<ExperimentFile>),
    Run(&'a Arc<RunEntry>),
}

impl Selected<'_> {
    fn path(&self) -> &Path {
        match self {
            Self::File(file) => &file.path,
            Self::Run(run) => &run.path,
        }
    }
}

impl Experiments {
    fn files<'a>(&self, context: &Context<'a>) -> Vec<&'a Arc<ExperimentFile>> {
        lists::files(context.world.index.as_ref(), &self.filter)
    }

    fn runs<'a>(&self, context: &Context<'a>) -> Vec<&'a Arc<RunEntry>> {
        lists::runs(context.world.index.as_ref(), &self.filter, self.sort)
    }

    /// The line under the cursor of the list that the keys go to.
    fn selected<'a>(&self, context: &Context<'a>) -> Option<Selected<'a>> {
        match self.pane {
            Pane::Files => {
                let files = self.files(context);
                files
                    .get(self.file.index())
                    .map(|file| Selected::File(file))
            }
            Pane::Runs => {
                let runs = self.runs(context);
                runs.get(self.run.index()).map(|run| Selected::Run(run))
            }
        }
    }

    /// Keeps both cursors on their lines.
    fn follow(&mut self, context: &Context<'_>) {
        let files = self.files(context);
        let paths: Vec<&Path> = files.iter().map(|file| file.path.as_path()).collect();
        self.file.follow(&paths);
        let runs = self.runs(context);
        let paths: Vec<&Path> = runs.iter().map(|run| run.path.as_path()).collect();
        self.run.follow(&paths);
    }

    /// Moves the cursor of the list that the keys go to.
    fn select(&mut self, index: usize, context: &Context<'_>) {
        match self.pane {
            Pane::Files => {
                let files = self.files(context);
                let paths: Vec<&Path> = files.iter().map(|file| file.path.as_path()).collect();
                self.file.select(index, &paths);
            }
            Pane::Runs => {
                let runs = self.runs(context);
                let paths: Vec<&Path> = runs.iter().map(|run| run.path.as_path()).collect();
                self.run.select(index, &paths);
            }
        }
    }
}

impl ScreenState for Experiments {
    fn act(&mut self, action: Action, context: &Context<'_>) -> Vec<Command> {
        keys::act(self, action, context)
    }

    fn set_filter(&mut self, filter: &str, context: &Context<'_>) -> Vec<Command> {
        self.filter = Filter::new(filter);
        self.follow(context);
        Vec::new()
    }

    fn filter(&self) -> &str {
        self.filter.text()
    }

    fn click(&mut self, at: Position, context: &Context<'_>) -> Vec<Command> {
        draw::click(self, at, context);
        Vec::new()
    }

    fn refresh(&mut self, context: &Context<'_>) -> Vec<Command> {
        self.changes.look(context);
        self.follow(context);
        let mut commands = self.launch.refresh(context);
        commands.extend(keys::shown_differences(self, context));
        commands
    }

    fn status(&self, context: &Context<'_>) -> String {
        let Some(index) = &context.world.index else {
            return "reading".to_owned();
        };
        let active = launch::active_here(Some(index)).len();
        let queued = context.world.queue.len();
        let mut words = format!("{} under way", count(active, "run"));
        if queued > 0 {
            words.push_str(&format!(", {queued} queued"));
        }
        words
    }

    fn draw(&self, context: &Context<'_>, frame: &mut Frame<'_>, area: Rect) {
        draw::draw(self, context, frame.buffer_mut(), area);
    }
}
