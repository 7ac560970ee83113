//! What goes into [`update`](super::update::update) and what comes out of it.

use std::path::PathBuf;
use std::sync::Arc;

use crossterm::event::{KeyEvent, MouseEvent};
use jiff::Timestamp;
use moim_core::experiment::{Difference, Experiment};
use moim_core::run::Request;

use super::data::answers::{AnswersPage, AnswersQuery};
use super::data::comparison::ComparisonData;
use super::data::index::Index;
use super::data::plan::PlanFacts;
use super::data::ranking::RankingUpdate;
use super::data::run::RunUpdate;
use super::state::Screen;

/// Something that happened.
#[derive(Debug)]
pub enum Message {
    Key(KeyEvent),
    Mouse(MouseEvent),
    Paste(String),
    Resize {
        width: u16,
        height: u16,
    },
    /// The clock, once a second while something on the screen shows an age or a remaining time.
    Tick(Timestamp),
    /// A worker has read something.
    Data(Data),
    /// An effect was executed, or failed.
    Done(Outcome),
    /// The system asks the program to end.
    Terminate,
}

/// What workers read from the disk.
#[derive(Debug)]
pub enum Data {
    /// The experiments and runs there are.
    Index(Index),
    /// Updates of the open run.
    Run(Box<RunUpdate>),
    /// A page of completions, as it was asked for.
    Answers(AnswersPage),
    /// Updates of the answer files.
    Ranking(RankingUpdate),
    /// A comparison that was asked for.
    Comparison {
        run: PathBuf,
        files: Vec<String>,
        result: Result<Arc<ComparisonData>, String>,
    },
    /// What the plan of an experiment depends on besides its text.
    Plan(PlanFacts),
    /// Runs with the configuration of an experiment.
    Duplicates { of: PathBuf, runs: Vec<PathBuf> },
    /// What differs between configurations: the first against each other.
    Differences(Vec<(PathBuf, Result<Vec<Difference>, String>)>),
}

/// How an effect ended.
#[derive(Debug)]
pub enum Outcome {
    /// It was done; a sentence for the user.
    Done(String),
    /// It failed; a sentence with the reason and a hint.
    Failed(String),
    /// A trainer was started in this run directory, which may not exist yet.
    Started { run: PathBuf, log: PathBuf },
    /// A trainer could not be started, or ended before its run directory existed.
    StartFailed {
        experiment: PathBuf,
        last_words: String,
    },
    /// A file was written.
    Written { path: PathBuf },
    /// A run or a file was deleted.
    Deleted { path: PathBuf },
}

/// Input and output to be done by a worker. `update` does none itself.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Read experiments and runs again now.
    Rescan,
    /// No longer follow a run.
    CloseRun,
    /// Follow this run: its events, progress, system, log and answer files.
    OpenRun(PathBuf),
    /// Read completions of the open run.
    ReadAnswers(AnswersQuery),
    /// Compare these answer files of the open run, the first being the baseline.
    Compare { run: PathBuf, files: Vec<String> },
    /// Read what the plan of this experiment needs: model shapes, number of prompts.
    ReadPlanFacts(Box<Experiment>),
    /// Look for runs with the same configuration.
    FindDuplicates { experiment: PathBuf },
    /// Compare configurations.
    ReadDifferences(Vec<PathBuf>),
    /// Start a trainer for an experiment file.
    Start { experiment: PathBuf },
    /// Start a trainer that resumes a run.
    Resume { run: PathBuf },
    /// Drop a request into a run's control folder.
    Ask { run: PathBuf, request: Request },
    /// Kill the process group of a run's trainer.
    Kill { run: PathBuf },
    /// Delete a run directory or an experiment file.
    Delete { path: PathBuf },
    /// Write a file as a whole; refused if it exists and `replaces` is not its present text.
    Write {
        path: PathBuf,
        text: String,
        replaces: Option<Arc<str>>,
    },
    /// Write the queue to the disk.
    KeepQueue(Vec<PathBuf>),
    /// Put a text into the terminal's clipboard.
    Copy(String),
    /// Leave the screen for an editor on this file, then come back.
    OpenInEditor(PathBuf),
    /// Write the screen to files.
    DumpScreen,
    /// Switch the terminal's mouse reports.
    SetMouse(bool),
    /// Stop this process until the shell continues it.
    Suspend,
    /// Draw everything again.
    Redraw,
    /// End the program.
    Quit,
}

/// What a screen requests.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    Effect(Effect),
    /// Go to another screen.
    Show(Screen),
    /// Open an experiment file on the Plan screen.
    Plan(PathBuf),
    /// Make a run the open one and go to a screen.
    Attach {
        run: PathBuf,
        then: Screen,
    },
    /// Ask a question; each answer has its own commands.
    Ask(Dialog),
    /// Ask for a line of text.
    Input(Input),
    /// Show a text in its own window.
    Read {
        title: String,
        lines: Vec<String>,
    },
    /// Show a notice above the footer.
    Tell(Notice),
    /// Add to the queue.
    Enqueue(PathBuf),
    /// Empty the queue.
    ClearQueue,
    /// Quit, whatever is not saved.
    Leave,
    /// Quit as soon as every edit has been written.
    LeaveWhenSaved,
}

impl From<Effect> for Command {
    fn from(effect: Effect) -> Self {
        Self::Effect(effect)
    }
}

/// A question with answers that are keys.
#[derive(Clone, Debug, PartialEq)]
pub struct Dialog {
    pub title: String,
    pub lines: Vec<String>,
    pub choices: Vec<Choice>,
}

/// One answer to a [`Dialog`]. Esc always answers "no".
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// A letter.
    pub key: char,
    pub label: String,
    pub commands: Vec<Command>,
}

impl Choice {
    pub fn new(key: char, label: &str, commands: Vec<Command>) -> Self {
        Self {
            key,
            label: label.to_owned(),
            commands,
        }
    }
}

/// A line of text that is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    pub title: String,
    pub initial: String,
    pub purpose: InputPurpose,
}

/// The purpose of a line that was typed.
#[derive(Clone, Debug, PartialEq)]
pub enum InputPurpose {
    /// The text of a new experiment file under this name in the folder of experiments; its
    /// content is given.
    NewExperiment { text: String },
    /// A file to write an export to.
    ExportTo { text: String },
}

/// A line for the user, and how it is shown.
#[derive(Clone, Debug, PartialEq)]
pub struct Notice {
    pub text: String,
    pub is_error: bool,
}

impl Notice {
    pub fn info(text: impl Into<String>) -> Command {
        Command::Tell(Self {
            text: text.into(),
            is_error: false,
        })
    }

    pub fn error(text: impl Into<String>) -> Command {
        Command::Tell(Self {
            text: text.into(),
            is_error: true,
        })
    }
}
