//! What the terminal shows, as it was read from the disk.
//!
//! Readers ([`readers`]) run in their own threads and send [`Data`](super::message::Data);
//! the types here apply it ([`World::apply`]) and are all that screens read. Nothing here
//! touches a device or a model: a trainer is another process, and the run directory is the only
//! thing shared with it.

pub mod answers;
pub mod comparison;
pub mod index;
pub mod plan;
pub mod ranking;
pub mod readers;
pub mod run;
pub mod series;
pub mod system;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use answers::AnswersPage;
use comparison::ComparisonData;
use index::Index;
use moim_core::experiment::Difference;
use plan::PlanFacts;
use ranking::Ranking;
use run::OpenRun;

use super::message::{Data, Effect};

/// What differs from one configuration to each of others, or why they cannot be compared.
pub type Differences = Vec<(PathBuf, Result<Vec<Difference>, String>)>;

/// Everything that was read.
#[derive(Debug, Default)]
pub struct World {
    /// Experiments and runs; `None` until they have been read for the first time.
    pub index: Option<Index>,
    /// The run that Train, Answers, Ranking and Compare show.
    pub open: Option<OpenRun>,
    /// Answer files of the open run.
    pub ranking: Ranking,
    /// The page of completions that was read last.
    pub answers: Option<AnswersPage>,
    /// The files that are being compared, the baseline first.
    pub comparing: Option<Vec<String>>,
    /// The comparison that was made last, or why it could not be made.
    pub comparison: Option<Result<Arc<ComparisonData>, String>>,
    /// What the Plan screen's experiment follows from besides its text.
    pub plan: Option<PlanFacts>,
    /// Runs with the same configuration as an experiment, as they were looked for last.
    pub duplicates: Option<(PathBuf, Vec<PathBuf>)>,
    /// What differs between configurations, as it was asked last.
    pub differences: Option<Differences>,
    /// Experiment files to be run one after another.
    pub queue: Vec<PathBuf>,
}

impl World {
    /// Shows another run: everything of the one before is dropped.
    pub fn attach(&mut self, run: &Path) {
        self.detach();
        self.open = Some(OpenRun::new(run));
    }

    /// Shows no run.
    pub fn detach(&mut self) {
        self.open = None;
        self.ranking = Ranking::default();
        self.answers = None;
        self.comparing = None;
        self.comparison = None;
    }

    /// Applies what a reader has sent. An update of a run that is no longer the open one is dropped.
    pub fn apply(&mut self, data: Data) {
        match data {
            Data::Index(index) => self.index = Some(index),
            Data::Run(update) => {
                if let Some(open) = self.open.as_mut().filter(|open| open.path == update.run) {
                    open.apply(*update);
                }
            }
            Data::Answers(page) => {
                if self.is_open(&page.run) {
                    self.answers = Some(page);
                }
            }
            Data::Ranking(update) => {
                if self.is_open(&update.run) {
                    self.ranking.apply(update);
                }
            }
            Data::Comparison { run, files, result } => {
                // The slow result of an earlier question.
                if self.is_open(&run) && self.comparing.as_ref() == Some(&files) {
                    self.comparing = None;
                    self.comparison = Some(result);
                }
            }
            Data::Plan(facts) => self.plan = Some(facts),
            Data::Duplicates { of, runs } => self.duplicates = Some((of, runs)),
            Data::Differences(differences) => self.differences = Some(differences),
        }
    }

    /// Something is going to be read: what was read for an earlier question is out of date.
    pub fn asked(&mut self, effect: &Effect) {
        match effect {
            Effect::Compare { files, .. } => self.comparing = Some(files.clone()),
            Effect::FindDuplicates { .. } => self.duplicates = None,
            Effect::ReadDifferences(_) => self.differences = None,
            _ => {}
        }
    }

    fn is_open(&self, run: &Path) -> bool {
        self.open.as_ref().is_some_and(|open| open.path == run)
    }
}
