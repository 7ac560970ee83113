//! Follows the open run: its state, its logs as they grow, and their past.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use moim_core::run::{
    Condition, EventKind, LineChunk, Liveness, Progress, RunEntry, RunState, SystemSample, Tail,
    is_absence,
};
use moim_core::watch::Hints;

use super::log::{last_lines, shown_log};
use super::stamp::{Stamp, stamp};
use super::steps;
use super::worker::{Inbox, Outbox, Shutdown, Worker, hints};
use crate::tui::data::run::{Reading, RunUpdate};
use crate::tui::data::series::{Columns, RECENT_POINTS};
use crate::tui::data::system::{metrics_of, seconds_between};
use crate::tui::message::{Data, Message};

/// The time between two reads of a run while a trainer works on it, apart from notifications.
const ACTIVE: Duration = Duration::from_millis(250);

/// The same for a run that is over.
const IDLE: Duration = Duration::from_secs(2);

/// How long notifications are gathered before the run is read.
const COALESCE: Duration = Duration::from_millis(40);

/// Lines of the log that are shown.
const LOG_LINES: usize = 200;

/// The share of the time that is left to others while the past is read.
const PAUSE_SHARE: f64 = 0.3;

/// The least that is left to others after a piece of the past.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);

/// A run of at most this many steps is not thinned out.
const FEW_STEPS: f64 = 6000.0;

/// Bytes that a step takes in the log, until one was read.
const USUAL_STEP_BYTES: f64 = 1200.0;

/// Buckets that the past is thinned out to before it is sent.
const PAST_BUCKETS: f64 = 2048.0;

/// Files of a run directory that other readers watch, or that do not matter.
const OTHER_FILES: [&str; 3] = ["completions.jsonl", "lock", "experiment.toml"];

/// Starts to follow a run, which need not exist yet.
pub(super) fn follow(run: &Path, is_polling: bool, messages: &Sender<Message>) -> Worker<()> {
    let run = run.to_owned();
    Worker::start("run", messages, move |inbox, outbox| {
        let is_of_interest = {
            let run = run.clone();
            move |path: &Path| {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                let is_ours = path == run || path.parent() == Some(&run);
                is_ours && !name.starts_with('.') && !OTHER_FILES.contains(&&*name)
            }
        };
        let hints = hints(is_polling, is_of_interest, inbox);
        Follower::new(&run).work(hints, inbox, outbox)
    })
}

struct Follower {
    run: PathBuf,
    files: RunFiles,
    state: Known<Result<RunState, String>>,
    liveness: Option<Liveness>,
    is_there: Option<bool>,
    progress: Known<Option<Progress>>,
    log: Known<Vec<String>>,
    events: Tail,
    reading: Reading,
    /// Steps that were sent point by point.
    recent_steps: usize,
    /// Bytes a step takes, by the lines read last.
    step_bytes: f64,
    has_start: bool,
    system: Tail,
    system_start: Option<Timestamp>,
}

struct RunFiles {
    state: PathBuf,
    progress: PathBuf,
}

/// A file that is read again when its stamp is another.
struct Known<T> {
    path: Option<PathBuf>,
    stamp: Option<Stamp>,
    sent: Option<T>,
}

impl<T> Known<T> {
    fn nothing() -> Self {
        Self {
            path: None,
            stamp: None,
            sent: None,
        }
    }

    /// The result of `read`, if the file has changed since it was read last and the result is another.
    fn read_if_new(&mut self, path: Option<PathBuf>, read: impl FnOnce() -> T) -> Option<T>
    where
        T: Clone + PartialEq,
    {
        let now = path.as_deref().and_then(stamp);
        if self.sent.is_some() && now == self.stamp && self.path == path {
            return None;
        }
        let content = read();
        (self.path, self.stamp) = (path, now);
        if self.sent.as_ref() == Some(&content) {
            return None;
        }
        self.sent = Some(content.clone());
        Some(content)
    }
}

impl Follower {
    fn new(run: &Path) -> Self {
        Self {
            run: run.to_owned(),
            files: RunFiles {
                state: run.join("run.json"),
                progress: run.join("progress.json"),
            },
            state: Known::nothing(),
            liveness: None,
            is_there: None,
            progress: Known::nothing(),
            log: Known::nothing(),
            events: Tail::from_end(&run.join("events.jsonl")),
            reading: Reading::default(),
            recent_steps: 0,
            step_bytes: USUAL_STEP_BYTES,
            has_start: false,
            system: Tail::from_end(&run.join("system.jsonl")),
            system_start: None,
        }
    }

    fn work(
        &mut self,
        mut hints: Option<Hints>,
        inbox: &mut Inbox<()>,
        outbox: &Outbox,
    ) -> Result<(), Shutdown> {
        let mut next_look = Instant::now();
        loop {
            if Instant::now() >= next_look {
                let around = [Some(self.run.as_path()), self.run.parent()];
                if let Some(hints) = &mut hints {
                    // What gives no notifications is read from time to time all the same.
                    let _ = hints.follow(around.into_iter().flatten());
                }
                let update = self.look();
                self.send(update, outbox)?;
                next_look = Instant::now() + self.pace();
            }
            if self.events.has_earlier() || self.system.has_earlier() {
                // While there is a past to read, the present is read by the clock.
                let begun = Instant::now();
                let pause = match self.look_back() {
                    Some(update) => {
                        self.send(Some(update), outbox)?;
                        begun.elapsed().mul_f64(PAUSE_SHARE).max(SHORTEST_PAUSE)
                    }
                    None => ACTIVE,
                };
                inbox.sleep(pause)?;
                continue;
            }
            let most = next_look.saturating_duration_since(Instant::now());
            let begun = Instant::now();
            inbox.wait(most)?;
            if begun.elapsed() < most {
                inbox.sleep(COALESCE)?;
                next_look = Instant::now();
            }
        }
    }

    fn pace(&self) -> Duration {
        let is_over = match &self.state.sent {
            Some(state) => {
                !Condition::of(state, self.liveness.unwrap_or(Liveness::Unknown)).is_active()
            }
            None => false,
        };
        if is_over && self.is_there == Some(true) {
            IDLE
        } else {
            ACTIVE
        }
    }

    fn send(&self, update: Option<RunUpdate>, outbox: &Outbox) -> Result<(), Shutdown> {
        match update {
            Some(update) => outbox.send(Data::Run(Box::new(update))),
            None => Ok(()),
        }
    }

    /// The changes since the last look.
    fn look(&mut self) -> Option<RunUpdate> {
        let mut update = RunUpdate::of(&self.run);
        let mut has_update = self.look_at_state(&mut update);
        let progress = &self.files.progress;
        update.progress = self.progress.read_if_new(Some(progress.clone()), || {
            // One that cannot be read is replaced soon.
            Progress::read(progress).ok().flatten()
        });
        let log = shown_log(&self.run);
        update.log = self.log.read_if_new(log.clone(), || {
            log.map_or_else(Vec::new, |path| last_lines(&path, LOG_LINES))
        });
        has_update |= update.progress.is_some() || update.log.is_some();
        has_update |= self.look_at_events(&mut update);
        has_update |= self.look_at_system(&mut update);
        has_update.then_some(update)
    }

    fn look_at_state(&mut self, update: &mut RunUpdate) -> bool {
        let is_there = self.run.is_dir();
        // A directory that never existed is awaited, and nothing is sent.
        let has_come_or_gone = match self.is_there {
            None => is_there,
            Some(before) => before != is_there,
        };
        if has_come_or_gone {
            self.is_there = Some(is_there);
            update.is_there = self.is_there;
        }
        let is_gone = self.is_there == Some(false);
        let path = Some(self.files.state.clone()).filter(|_| !is_gone);
        let state = self.state.read_if_new(path, || {
            if is_gone {
                Err("its directory no longer exists".to_owned())
            } else {
                RunEntry::read(&self.run).state
            }
        });
        let sent = self.state.sent.as_ref();
        let liveness = match sent {
            Some(Ok(state)) => state.liveness(),
            _ => RunEntry::read(&self.run).liveness,
        };
        let is_changed = state.is_some() || self.liveness != Some(liveness);
        if is_changed && let Some(state) = state.or_else(|| sent.cloned()) {
            self.liveness = Some(liveness);
            update.state = Some((state, Some(liveness)));
        }
        is_changed || has_come_or_gone
    }

    fn look_at_events(&mut self, update: &mut RunUpdate) -> bool {
        let before = self.reading.clone();
        match self.read_newer_events(update) {
            Ok(()) => {}
            Err(error) => self.note_failure(&error),
        }
        (self.reading.bytes, self.reading.total) = self.events.extent();
        let is_changed = self.reading != before;
        if is_changed {
            update.reading = Some(self.reading.clone());
        }
        is_changed || update.has_restarted
    }

    fn read_newer_events(&mut self, update: &mut RunUpdate) -> io::Result<()> {
        if self.events.look()? {
            self.reading = Reading {
                restarts: self.reading.restarts + 1,
                ..Reading::default()
            };
            self.recent_steps = 0;
            self.has_start = false;
            update.has_restarted = true;
        }
        if !self.has_start
            && let Some(line) = self.events.first_line()?
        {
            let lines = LineChunk {
                offset: 0,
                bytes: &line,
            };
            update.start = match steps::parse(lines).events.pop().map(|event| event.kind) {
                Some(EventKind::Start(start)) => Some(*start),
                _ => None,
            };
            self.has_start = true;
        }
        let Some(lines) = self.events.newer()? else {
            return Ok(());
        };
        let size = lines.bytes.len();
        let parsed = steps::parse(lines);
        self.measure(size, parsed.step_count);
        self.recent_steps += parsed.step_count;
        self.reading.bad_lines += parsed.bad_lines;
        if parsed.latest_bad_line.is_some() {
            self.reading.latest_bad_line = parsed.latest_bad_line;
        }
        update.steps = parsed.steps;
        update.events = parsed.events;
        Ok(())
    }

    fn look_at_system(&mut self, update: &mut RunUpdate) -> bool {
        // What cannot be read now is read later.
        self.read_newer_samples(update)
            .is_ok_and(|is_changed| is_changed)
    }

    fn read_newer_samples(&mut self, update: &mut RunUpdate) -> io::Result<bool> {
        update.has_system_restarted = self.system.look()?;
        if update.has_system_restarted {
            self.system_start = None;
        }
        if self.system_start.is_none() {
            let first = self.system.first_line()?;
            let first: Option<SystemSample> =
                first.and_then(|line| serde_json::from_slice(&line).ok());
            self.system_start = first.map(|sample| sample.time);
            update.system_start = self.system_start;
        }
        let Some(lines) = self.system.newer()? else {
            return Ok(update.has_system_restarted);
        };
        update.system = lines.values().flatten().collect();
        Ok(true)
    }

    /// One piece of the past; `None` if it cannot be read now.
    fn look_back(&mut self) -> Option<RunUpdate> {
        let mut update = RunUpdate::of(&self.run);
        if let Err(error) = self.read_earlier(&mut update) {
            // It may have been cut at this moment, which the next look finds out.
            self.note_failure(&error);
            return None;
        }
        (self.reading.bytes, self.reading.total) = self.events.extent();
        update.reading = Some(self.reading.clone());
        Some(update)
    }

    fn read_earlier(&mut self, update: &mut RunUpdate) -> io::Result<()> {
        let start = self.system_start;
        if let Some(lines) = self.system.earlier()?
            && let Some(start) = start
        {
            update.earlier_system = sample_columns(lines, start);
        }
        let total = self.events.extent().1;
        let Some(lines) = self.events.earlier()? else {
            return Ok(());
        };
        let size = lines.bytes.len();
        let mut parsed = steps::parse(lines);
        self.measure(size, parsed.step_count);
        let steps_in_all = total as f64 / self.step_bytes;
        if self.recent_steps >= RECENT_POINTS && steps_in_all > FEW_STEPS {
            parsed.steps.thin_out(steps_in_all / PAST_BUCKETS);
        }
        self.recent_steps += parsed.step_count;
        self.reading.bad_lines += parsed.bad_lines;
        if self.reading.latest_bad_line.is_none() {
            self.reading.latest_bad_line = parsed.latest_bad_line;
        }
        update.earlier_steps = parsed.steps;
        update.earlier_events = parsed.events;
        Ok(())
    }

    fn measure(&mut self, bytes: usize, steps: usize) {
        if steps > 0 {
            self.step_bytes = bytes as f64 / steps as f64;
        }
    }

    fn note_failure(&mut self, error: &io::Error) {
        let is_passing = is_absence(error) || error.kind() == io::ErrorKind::UnexpectedEof;
        if !is_passing {
            self.reading.latest_bad_line = Some(format!("events.jsonl cannot be read: {error}"));
        }
    }
}

fn sample_columns(lines: LineChunk<'_>, start: Timestamp) -> Columns {
    let mut columns = Columns::default();
    for sample in lines.values::<SystemSample>().flatten() {
        let seconds = seconds_between(start, sample.time);
        for (metric, value) in metrics_of(&sample) {
            columns.add(metric, seconds, value);
        }
    }
    columns
}

#[cfg(test)]
mod tests;
