//! Watches the answer files of the open run and ranks them by the scores that it keeps. Files
//! that have none are scored by a process of its own, so that no encoder is loaded here.

mod board;
mod scoring;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use moim_core::run::{Liveness, RunEntry};
use moim_core::score::Leaderboard;
use moim_core::watch::{FileUpdate, WatchOptions, WatchUpdate, Watcher};

use self::board::{Board, rank};
use self::scoring::{Process, Scoring};
use super::scores::RunScores;
use super::stamp::{Stamp, stamp};
use super::worker::{Inbox, Outbox, Shutdown, Worker};
use crate::tui::data::ranking::RankingUpdate;
use crate::tui::message::{Data, Message};

/// The time between two checks for something to do, apart from updates of files.
const PACE: Duration = Duration::from_millis(250);

/// How often is looked for a configuration or labels that are not there.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long a file may be without scores before they are made here: whoever wrote it may be
/// scoring it.
const GRACE: Duration = Duration::from_secs(2);

/// The ranking of one run. Dropping it ends the watch and the scoring.
pub(super) struct RankingReader {
    worker: Worker<()>,
    _process: Process,
}

impl RankingReader {
    /// Starts to watch a run, which need not be there yet. `program` is moim itself.
    pub fn start(
        run: &Path,
        program: Option<PathBuf>,
        is_polling: bool,
        messages: &Sender<Message>,
    ) -> Self {
        let process = Process::default();
        let run = run.to_owned();
        let handle = process.handle();
        let worker = Worker::start("ranking", messages, move |inbox, outbox| {
            let scoring = Scoring::new(&run, program.clone(), handle.clone());
            RankedRun {
                run: run.clone(),
                is_polling,
                scoring,
                told_problem: None,
            }
            .work(inbox, outbox)
        });
        Self {
            worker,
            _process: process,
        }
    }

    /// Reads every file again, and tries again to score those that could not be.
    pub fn rescan(&self) {
        self.worker.ask(());
    }
}

struct RankedRun {
    run: PathBuf,
    is_polling: bool,
    scoring: Scoring,
    told_problem: Option<String>,
}

/// What is known of a watched directory.
#[derive(Default)]
struct Watched {
    files: BTreeMap<String, FileUpdate>,
    board: Board,
    /// The scores folder when it was last read.
    scores: Option<Stamp>,
    is_settled: bool,
    has_changed: bool,
    unscored_since: Option<Instant>,
}

/// How a watch ended.
#[derive(PartialEq)]
enum Watch {
    /// It begins anew after a while.
    Failed,
    /// It begins anew with the labels that are there now.
    LabelsChanged,
}

impl RankedRun {
    fn work(mut self, inbox: &mut Inbox<()>, outbox: &Outbox) -> Result<(), Shutdown> {
        loop {
            match RunScores::load(&self.run) {
                Ok(scores) => {
                    self.send_problem(None, outbox)?;
                    if self.watch(&scores, inbox, outbox)? == Watch::LabelsChanged {
                        continue;
                    }
                }
                // A run that is about to begin has no configuration yet.
                Err(_) if !self.run.join("experiment.toml").exists() => {}
                Err(problem) => self.send_problem(Some(problem), outbox)?,
            }
            inbox.wait(PATIENCE)?;
        }
    }

    fn update(&self) -> RankingUpdate {
        RankingUpdate {
            run: self.run.clone(),
            ..RankingUpdate::default()
        }
    }

    fn send_problem(&mut self, problem: Option<String>, outbox: &Outbox) -> Result<(), Shutdown> {
        if problem == self.told_problem {
            return Ok(());
        }
        self.told_problem.clone_from(&problem);
        outbox.send(Data::Ranking(RankingUpdate {
            problem: Some(problem),
            ..self.update()
        }))
    }

    fn watch(
        &mut self,
        scores: &RunScores,
        inbox: &mut Inbox<()>,
        outbox: &Outbox,
    ) -> Result<Watch, Shutdown> {
        let directory = self.run.join("infer_results");
        let options = WatchOptions {
            poll: self.is_polling,
            ..WatchOptions::default()
        };
        let watcher = match Watcher::start(&directory, Arc::clone(&scores.labels), options) {
            Ok(watcher) => watcher,
            Err(error) => {
                let problem = format!("cannot watch {}: {error}", directory.display());
                self.send_problem(Some(problem), outbox)?;
                return Ok(Watch::Failed);
            }
        };
        let labels = scores.experiment.data.labels_path();
        let labels_stamp = stamp(labels);
        outbox.send(Data::Ranking(RankingUpdate {
            directory: Some(directory.clone()),
            ..self.update()
        }))?;
        let mut watched = Watched::default();
        loop {
            let mut update = self.update();
            match watcher.updates().recv_timeout(PACE) {
                Ok(seen) => watched.apply(seen, &mut update),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(Watch::Failed),
            }
            while let Ok(seen) = watcher.updates().try_recv() {
                watched.apply(seen, &mut update);
            }
            if inbox.wait(Duration::ZERO)?.is_some() {
                self.scoring.try_again();
                if stamp(labels) != labels_stamp {
                    return Ok(Watch::LabelsChanged);
                }
                watcher.rescan();
                watched.has_changed = true;
            }
            self.rank(&mut watched, scores, &directory, &mut update);
            self.score(&mut watched, scores, &mut update);
            if let Some(problem) = &update.problem {
                self.told_problem.clone_from(problem);
            }
            let has_update = update.board.is_some()
                || update.condition.is_some()
                || update.mode.is_some()
                || update.scoring.is_some()
                || update.problem.is_some();
            if has_update {
                outbox.send(Data::Ranking(update))?;
            }
        }
    }

    fn rank(
        &self,
        watched: &mut Watched,
        scores: &RunScores,
        directory: &Path,
        update: &mut RankingUpdate,
    ) {
        let folder = stamp(&self.run.join("scores"));
        let has_new_scores = !watched.board.unscored.is_empty() && folder != watched.scores;
        if !watched.is_settled || !(watched.has_changed || has_new_scores) {
            return;
        }
        watched.scores = folder;
        watched.has_changed = false;
        let board = rank(directory, &watched.files, scores);
        if board.files != watched.board.files || watched.unscored_since.is_none() {
            let provenance = board.provenance.clone();
            let files = board.files.clone();
            update.board = provenance.map(|provenance| {
                Arc::new(Leaderboard::new(files, provenance, Default::default()))
            });
            let revisions = watched.files.values().filter(|file| file.revision > 0);
            update.revisions = Some(
                revisions
                    .map(|file| (file.name.clone(), file.revision))
                    .collect(),
            );
        }
        if board.unscored != watched.board.unscored || watched.unscored_since.is_none() {
            watched.unscored_since = Some(Instant::now());
        }
        watched.board = board;
    }

    /// Has scores made where nobody else does.
    fn score(&mut self, watched: &mut Watched, scores: &RunScores, update: &mut RankingUpdate) {
        if let Some(failure) = self.scoring.take_end() {
            update.scoring = Some(None);
            update.problem = Some(failure);
            watched.has_changed = true;
            return;
        }
        let unscored = &watched.board.unscored;
        if unscored.is_empty() && watched.is_settled && self.told_problem.is_some() {
            update.problem = Some(None);
        }
        let is_due = watched
            .unscored_since
            .is_some_and(|since| since.elapsed() >= GRACE);
        if unscored.is_empty() || !is_due || self.scoring.is_running() {
            return;
        }
        if self.scoring.was_tried(unscored) {
            if self.told_problem.is_none() {
                let names: Vec<&str> = unscored.keys().map(String::as_str).collect();
                let run = self.run.display();
                update.problem = Some(Some(format!(
                    "{} could not be scored; moim rank {run} says why",
                    names.join(", ")
                )));
            }
            return;
        }
        if self.has_trainer() {
            return;
        }
        match self.scoring.begin(unscored, &scores.experiment) {
            Ok(words) => update.scoring = Some(Some(words)),
            Err(problem) => update.problem = Some(Some(problem)),
        }
    }

    /// Whether a trainer is at work on the run: it scores its answers itself.
    fn has_trainer(&self) -> bool {
        let run = RunEntry::read(&self.run);
        match &run.state {
            Ok(state) if state.state.is_over() => false,
            Ok(_) => matches!(run.liveness, Liveness::Alive | Liveness::Unknown),
            Err(_) => run.liveness == Liveness::Alive,
        }
    }
}

impl Watched {
    fn apply(&mut self, seen: WatchUpdate, update: &mut RankingUpdate) {
        match seen {
            WatchUpdate::File(file) => {
                self.files.insert(file.name.clone(), file);
                self.has_changed = true;
            }
            WatchUpdate::Directory(condition) => update.condition = Some(condition),
            WatchUpdate::Mode(mode) => update.mode = Some(mode),
            WatchUpdate::Settled { .. } => {
                self.has_changed |= !self.is_settled;
                self.is_settled = true;
            }
        }
    }
}

#[cfg(test)]
mod tests;
