//! Keeps the list of experiments and runs current.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use moim_core::run::{Condition, Liveness, RunEntry, is_run, run_folders};
use moim_core::watch::Hints;

use super::experiments::Experiments;
use super::log::last_words;
use super::stamp::{Stamp, stamp};
use super::worker::{Inbox, Outbox, Shutdown, Worker, hints};
use crate::tui::data::index::Index;
use crate::tui::message::{Data, Message};

/// The time between two reads while something is active.
const ACTIVE: Duration = Duration::from_secs(2);

/// The same otherwise.
const IDLE: Duration = Duration::from_secs(10);

/// How long hints are gathered: a running run writes run.json after every step.
const COALESCE: Duration = Duration::from_millis(500);

/// Files that change all the time and are no part of the list.
const OTHER_FILES: [&str; 6] = [
    "events.jsonl",
    "completions.jsonl",
    "system.jsonl",
    "progress.json",
    "log.txt",
    "lock",
];

/// Starts to read the experiments and runs there are.
pub(super) fn start(
    experiments_dir: &Path,
    output_dir: &Path,
    is_polling: bool,
    messages: &Sender<Message>,
) -> Worker<()> {
    let (experiments_dir, output_dir) = (experiments_dir.to_owned(), output_dir.to_owned());
    Worker::start("runs", messages, move |inbox, outbox| {
        let is_of_interest = |path: &Path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            !name.starts_with('.') && !OTHER_FILES.contains(&&*name)
        };
        let hints = hints(is_polling, is_of_interest, inbox);
        IndexReader::new(&experiments_dir, &output_dir).work(hints, inbox, outbox)
    })
}

struct IndexReader {
    experiments: Experiments,
    output_dir: PathBuf,
    runs: HashMap<PathBuf, KnownRun>,
    sent: Option<Index>,
}

struct KnownRun {
    stamp: Option<Stamp>,
    entry: Arc<RunEntry>,
}

impl IndexReader {
    fn new(experiments_dir: &Path, output_dir: &Path) -> Self {
        Self {
            experiments: Experiments::in_folder(experiments_dir),
            output_dir: output_dir.to_owned(),
            runs: HashMap::new(),
            sent: None,
        }
    }

    fn work(
        mut self,
        mut hints: Option<Hints>,
        inbox: &mut Inbox<()>,
        outbox: &Outbox,
    ) -> Result<(), Shutdown> {
        loop {
            if let Some(index) = self.read() {
                outbox.send(Data::Index(index))?;
            }
            let mut followed = BTreeSet::from([self.experiments.folder(), &self.output_dir]);
            followed.extend(self.runs.keys().filter_map(|run| run.parent()));
            followed.extend(self.active().map(|run| run.path.as_path()));
            if let Some(hints) = &mut hints {
                // What gives no notifications is read from time to time all the same.
                let _ = hints.follow(followed);
            }
            let most = if self.active().next().is_some() {
                ACTIVE
            } else {
                IDLE
            };
            let begun = Instant::now();
            let is_asked = inbox.wait(most)?.is_some();
            if !is_asked && begun.elapsed() < most {
                inbox.sleep(COALESCE)?;
            }
        }
    }

    fn active(&self) -> impl Iterator<Item = &RunEntry> {
        let runs = self.runs.values().map(|known| &*known.entry);
        runs.filter(|run| run.condition().is_active())
    }

    /// The current list, if it has changed.
    fn read(&mut self) -> Option<Index> {
        let (experiments, problems) = self.experiments.read();
        let mut known = std::mem::take(&mut self.runs);
        for path in run_folders(&self.output_dir) {
            if let Some(run) = KnownRun::read(&path, known.remove(&path)) {
                self.runs.insert(path, run);
            }
        }
        let mut runs: Vec<Arc<RunEntry>> = self
            .runs
            .values()
            .map(|known| Arc::clone(&known.entry))
            .collect();
        runs.sort_by(|left, right| newest_first(left, right));
        let index = Index {
            experiments_dir: self.experiments.folder().to_owned(),
            output_dir: self.output_dir.clone(),
            experiments,
            runs,
            problems,
        };
        let is_sent = self.sent.as_ref().is_some_and(|sent| is_same(sent, &index));
        if is_sent {
            return None;
        }
        self.sent = Some(index.clone());
        Some(index)
    }
}

impl KnownRun {
    /// The run in a folder; `None` where it is none.
    fn read(path: &Path, known: Option<Self>) -> Option<Self> {
        let stamp = stamp(&path.join("run.json"));
        let Some(known) = known.filter(|known| stamp.is_some() && known.stamp == stamp) else {
            return is_run(path).then(|| Self {
                stamp,
                entry: Arc::new(with_last_words(RunEntry::read(path))),
            });
        };
        // run.json is known; whether its process exists can change without it, but a process that has exited
        // does not come back.
        let is_settled = matches!(known.entry.liveness, Liveness::Dead | Liveness::Ended);
        match &known.entry.state {
            Ok(state) if !is_settled && state.liveness() != known.entry.liveness => {
                let entry = RunEntry {
                    liveness: state.liveness(),
                    ..RunEntry::clone(&known.entry)
                };
                Some(Self {
                    stamp,
                    entry: Arc::new(with_last_words(entry)),
                })
            }
            _ => Some(known),
        }
    }
}

fn with_last_words(entry: RunEntry) -> RunEntry {
    let last_words = match entry.condition() {
        // One without run.json ended before it started.
        Condition::Dead | Condition::Failed | Condition::Unreadable => last_words(&entry.path),
        _ => Vec::new(),
    };
    RunEntry {
        last_words,
        ..entry
    }
}

/// A run that has no run.json yet, or an unreadable one, comes before the others.
fn newest_first(left: &RunEntry, right: &RunEntry) -> std::cmp::Ordering {
    let started = |run: &RunEntry| run.state.as_ref().ok().map(|state| state.started);
    let is_known = |run: &RunEntry| run.state.is_ok();
    is_known(left)
        .cmp(&is_known(right))
        .then_with(|| started(right).cmp(&started(left)))
        .then_with(|| right.path.cmp(&left.path))
}

/// Entries and files are replaced only if they have changed.
fn is_same(left: &Index, right: &Index) -> bool {
    fn all_same<T>(left: &[Arc<T>], right: &[Arc<T>]) -> bool {
        left.len() == right.len()
            && left
                .iter()
                .zip(right)
                .all(|(left, right)| Arc::ptr_eq(left, right))
    }
    all_same(&left.experiments, &right.experiments)
        && left.problems == right.problems
        && left.runs.len() == right.runs.len()
        && left.runs.iter().zip(&right.runs).all(|(left, right)| {
            // A run without run.json is read every time.
            Arc::ptr_eq(left, right)
                || (left.state.is_err()
                    && left.path == right.path
                    && left.state == right.state
                    && left.liveness == right.liveness
                    && left.last_words == right.last_words)
        })
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use moim_core::experiment::Experiment;
    use moim_core::run::{RunDir, RunState, RunStatus};

    use super::*;

    fn run(
        outputs: &Path,
        experiment: &str,
        name: &str,
        change: impl FnOnce(&mut RunState),
    ) -> RunDir {
        let run = RunDir::create(outputs, experiment, Some(name), &Experiment::default()).unwrap();
        let mut state = RunState::begin(run.id(), "cpu");
        change(&mut state);
        state.save(&run.run_json()).unwrap();
        run
    }

    fn conditions(index: &Index) -> Vec<(&str, Condition)> {
        index
            .runs
            .iter()
            .map(|run| (run.name.as_str(), run.condition()))
            .collect()
    }

    #[test]
    fn runs_are_sent_when_they_change_and_only_then() {
        let folder = tempfile::tempdir().unwrap();
        let outputs = folder.path().join("outputs");
        let mut reader = IndexReader::new(&folder.path().join("experiments"), &outputs);
        let index = reader.read().unwrap();
        assert!(index.runs.is_empty() && index.experiments.is_empty());
        assert!(reader.read().is_none());

        run(&outputs, "demo", "첫째", |_| {});
        let dead = run(&outputs, "demo", "둘째", |state| {
            state.process_start = Some(1)
        });
        std::fs::write(dead.log(), "step 1\nout of memory\n").unwrap();
        let index = reader.read().unwrap();
        assert_eq!(
            conditions(&index),
            [("둘째", Condition::Dead), ("첫째", Condition::Running)]
        );
        assert_eq!(index.runs[0].last_words, ["step 1", "out of memory"]);
        assert!(reader.read().is_none());

        RunDir::create(&outputs, "other", Some("새 것"), &Experiment::default()).unwrap();
        let index = reader.read().unwrap();
        assert_eq!(conditions(&index)[0], ("새 것", Condition::Unreadable));
        assert!(
            reader.read().is_none(),
            "a run without run.json is not sent every time"
        );

        let mut state = RunState::read(&dead.run_json()).unwrap();
        state.state = RunStatus::Stopped;
        state.save(&dead.run_json()).unwrap();
        let index = reader.read().unwrap();
        assert_eq!(conditions(&index)[1], ("둘째", Condition::Stopped));

        std::fs::remove_dir_all(&outputs).unwrap();
        assert!(reader.read().unwrap().runs.is_empty());
    }

    #[test]
    fn a_process_that_ends_without_a_word_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        run(folder.path(), "demo", "r", |state| {
            state.pid = child.id();
            state.process_start = None;
        });
        let mut reader = IndexReader::new(folder.path(), folder.path());
        assert_eq!(reader.read().unwrap().runs[0].liveness, Liveness::Alive);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(
            conditions(&reader.read().unwrap()),
            [("r", Condition::Dead)]
        );
    }

    #[test]
    fn a_new_run_is_sent_without_being_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let (sender, messages) = channel();
        let worker = start(folder.path(), folder.path(), false, &sender);
        let next = || match messages.recv_timeout(Duration::from_secs(20)).unwrap() {
            Message::Data(Data::Index(index)) => index,
            other => panic!("{other:?}"),
        };
        assert!(next().runs.is_empty());
        run(folder.path(), "demo", "r", |_| {});
        worker.ask(());
        let mut index = next();
        while conditions(&index) != [("r", Condition::Running)] {
            index = next();
        }
    }

    #[test]
    #[ignore = "a measurement: cargo test --release -- --ignored --nocapture thousands_of_runs"]
    fn thousands_of_runs_are_listed_at_once() {
        let folder = tempfile::tempdir().unwrap();
        for number in 0..2000 {
            let name = format!("run {number}");
            run(
                folder.path(),
                &format!("experiment {}", number % 20),
                &name,
                |state| {
                    state.state = match number % 3 {
                        0 => RunStatus::Finished,
                        1 => RunStatus::Stopped,
                        _ => RunStatus::Running,
                    };
                    state.process_start = Some(1);
                },
            );
        }
        let mut reader = IndexReader::new(folder.path(), folder.path());
        let mut taken = Vec::new();
        for _ in 0..3 {
            let begun = Instant::now();
            let index = reader.read();
            taken.push((begun.elapsed(), index.map(|index| index.runs.len())));
        }
        let begun = Instant::now();
        let listed = moim_core::run::list_runs(folder.path()).len();
        println!(
            "read, read again, again: {taken:?}; list_runs: {listed} in {:?}",
            begun.elapsed()
        );
        assert!(taken[0].0 < Duration::from_millis(200));
    }
}
