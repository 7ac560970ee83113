//! Threads that read the disk and send what they found.
//!
//! Each subject has its own thread, so that a comparison that takes a second does not keep a
//! log from growing on the screen. All of them send [`Data`] and are asked what to do next; none
//! is waited for. A panic in one of them is reported, and the others keep running.

mod answers;
mod comparison;
mod configurations;
mod experiments;
mod index;
mod log;
mod open;
mod plan;
mod ranking;
mod scores;
mod stamp;
mod steps;
mod worker;

use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;

use moim_core::experiment::Experiment;

use self::ranking::RankingReader;
use self::worker::{Worker, once};
use super::answers::AnswersQuery;
use crate::tui::message::{Data, Message};

/// The threads that read. Dropping it ends them.
pub struct Readers {
    output_dir: PathBuf,
    messages: Sender<Message>,
    is_polling: bool,
    index: Worker<()>,
    answers: Worker<AnswersQuery>,
    plan: Worker<Experiment>,
    open: Option<(Worker<()>, RankingReader)>,
}

impl Readers {
    /// Starts to read the experiments of a folder and the runs under another. Changes are noticed
    /// by notifications of the system unless `is_polling`, and by looking from time to time.
    pub fn start(
        experiments_dir: &Path,
        output_dir: &Path,
        messages: Sender<Message>,
        is_polling: bool,
    ) -> Self {
        Self {
            output_dir: output_dir.to_owned(),
            is_polling,
            index: index::start(experiments_dir, output_dir, is_polling, &messages),
            answers: answers::start(&messages),
            plan: plan::start(&messages),
            open: None,
            messages,
        }
    }

    /// Reads everything again.
    pub fn rescan(&self) {
        self.index.ask(());
        if let Some((run, ranking)) = &self.open {
            run.ask(());
            ranking.rescan();
        }
    }

    /// Follows this run from now on, and no other.
    pub fn open_run(&mut self, run: &Path) {
        let run_reader = open::follow(run, self.is_polling, &self.messages);
        let program = std::env::current_exe().ok();
        let ranking = RankingReader::start(run, program, self.is_polling, &self.messages);
        self.open = Some((run_reader, ranking));
    }

    /// Follows no run from now on.
    pub fn close_run(&mut self) {
        self.open = None;
    }

    /// Reads a page of completions; an earlier query that is not finished is dropped.
    pub fn read_answers(&self, query: AnswersQuery) {
        self.answers.ask(query);
    }

    /// Compares answer files of a run, the first being the baseline.
    pub fn compare(&self, run: PathBuf, files: Vec<String>) {
        once("comparison", &self.messages, move || {
            let result = comparison::comparison(&run, files.clone());
            Data::Comparison { run, files, result }
        });
    }

    /// Reads what the plan of an experiment needs.
    pub fn read_plan_facts(&self, experiment: Experiment) {
        self.plan.ask(experiment);
    }

    /// Looks for runs that compute the same as an experiment would.
    pub fn find_duplicates(&self, experiment: PathBuf) {
        let output_dir = self.output_dir.clone();
        once("configurations", &self.messages, move || Data::Duplicates {
            runs: configurations::duplicates(&experiment, &output_dir),
            of: experiment,
        });
    }

    /// Compares configurations: the first against each other.
    pub fn read_differences(&self, paths: Vec<PathBuf>) {
        once("configurations", &self.messages, move || {
            Data::Differences(configurations::differences(&paths))
        });
    }
}

#[cfg(test)]
mod measurement;
#[cfg(test)]
mod tests;
