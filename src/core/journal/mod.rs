//! The record of a run while it is trained: events with the alarms they raise, completions, run.json,
//! and the observer.
//!
//! [`Journal`] writes the files and owns the [`Observer`]. [`Telemetry`] has the threads that write
//! progress.json and system.jsonl and notice a run that no longer moves.

mod activity;
mod observer;
mod telemetry;
mod watchdog;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;

use activity::Activity;
pub use activity::DevicePeaks;
pub use observer::{EventSink, Observer, Phase, Stopped};
pub use telemetry::{Device, DeviceMemory, Telemetry};

use crate::experiment::Reporter;
use crate::health::{Alarm, Monitor};
use crate::report::Reports;
use crate::run::{
    CompletionLog, CompletionRecord, Event, EventKind, EventLog, RunDir, RunState, read_lines,
};

/// The shortest time between two changes of run.json by steps: it is synced, and the disk may take
/// longer than a step of a small model.
const STATE_EVERY: Duration = Duration::from_secs(1);

/// events.jsonl, to which the trainer and the watchdog append.
#[derive(Clone)]
struct SharedEvents(Arc<Mutex<EventLog>>);

impl SharedEvents {
    /// The log, for one event or one cut.
    fn lock(&self) -> MutexGuard<'_, EventLog> {
        // A thread that panicked with the lock held left complete lines; an incomplete one is repaired on resume.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The files of a run that its trainer writes while it works, and the observer of the run.
pub struct Journal {
    state_path: PathBuf,
    state: RunState,
    state_written: Instant,
    events_path: PathBuf,
    events: SharedEvents,
    nonfinite: Nonfinite,
    completions: CompletionLog,
    monitor: Monitor,
    reports: Reports,
    observer: Box<dyn Observer>,
    activity: Arc<Activity>,
    is_asked_to_stop: bool,
}

impl Journal {
    /// Opens both logs for appending and continues from `state`, the content of run.json. Events also
    /// go to `report_to` and to `observer`.
    ///
    /// # Errors
    /// Names the file.
    pub fn open(
        run: &RunDir,
        state: RunState,
        report_to: &[Reporter],
        observer: Box<dyn Observer>,
    ) -> Result<Self> {
        Ok(Self {
            state_path: run.run_json(),
            state,
            state_written: Instant::now(),
            events_path: run.events(),
            events: SharedEvents(Arc::new(Mutex::new(EventLog::open(&run.events())?))),
            nonfinite: Nonfinite::default(),
            completions: CompletionLog::open(&run.completions())?,
            monitor: Monitor::default(),
            reports: Reports::new(run, report_to),
            observer,
            activity: Arc::default(),
            is_asked_to_stop: false,
        })
    }

    /// The run is `done` of `total` through a phase.
    pub fn phase(&mut self, phase: Phase, done: usize, total: usize, detail: &str) {
        self.activity.report(phase, done, total, detail);
        self.observer.phase(phase, done, total, detail);
    }

    /// Has the next [`Journal::check_stop`] fail.
    pub fn ask_to_stop(&mut self) {
        self.is_asked_to_stop = true;
    }

    /// # Errors
    /// [`Stopped`] once the observer or [`Journal::ask_to_stop`] has asked the run to stop.
    pub fn check_stop(&mut self) -> Result<()> {
        self.is_asked_to_stop |= self.observer.wants_to_stop();
        if self.is_asked_to_stop {
            return Err(Stopped.into());
        }
        Ok(())
    }

    /// The highest device memory use in the phases since the last call.
    pub fn take_device_peaks(&self) -> DevicePeaks {
        self.activity.take_peaks()
    }

    /// The numbers of the run that were not finite so far.
    pub fn nonfinite(&self) -> Nonfinite {
        self.nonfinite
    }

    /// The content of run.json, now or within a second.
    pub fn state(&self) -> &RunState {
        &self.state
    }

    /// Changes run.json immediately.
    ///
    /// # Errors
    /// Names the file.
    pub fn change(&mut self, change: impl FnOnce(&mut RunState)) -> Result<()> {
        change(&mut self.state);
        self.state.save(&self.state_path)?;
        self.state_written = Instant::now();
        Ok(())
    }

    /// Appends an event and the alarms that it raises, and keeps run.json current.
    ///
    /// # Errors
    /// Names the file.
    pub fn emit(&mut self, kind: impl Into<EventKind>) -> Result<()> {
        let event = Event::new(kind);
        self.append(&event)?;
        // As a resumed run reads it: from text to f64 the last digit of a number may change.
        let event = serde_json::from_str(&event.to_line()).unwrap_or(event);
        self.state.take_event(&event);
        for alarm in self.monitor.observe(&event) {
            self.raise(&alarm)?;
        }
        match &event.kind {
            EventKind::Step(_) if self.state_written.elapsed() < STATE_EVERY => Ok(()),
            EventKind::Step(_) | EventKind::Score(_) => self.change(|_| ()),
            _ => Ok(()),
        }
    }

    /// Appends an alarm.
    ///
    /// # Errors
    /// Names the file.
    pub fn raise(&mut self, alarm: &Alarm) -> Result<()> {
        self.append(&Event::new(alarm.clone()))
    }

    /// Appends an event that changes nothing else.
    fn append(&mut self, event: &Event) -> Result<()> {
        self.events.lock().append(event)?;
        self.nonfinite.count(event);
        for warning in self.reports.event(event) {
            self.observer.notice(&warning);
        }
        match &event.kind {
            EventKind::Step(step) => self.activity.set_step(step.step),
            EventKind::Resume(resumed) => self.activity.set_step(resumed.step),
            _ => {}
        }
        self.activity.count_event();
        self.forward_notices();
        self.observer.event(event);
        Ok(())
    }

    /// Forwards to the observer what other threads had to report.
    fn forward_notices(&mut self) {
        for notice in self.activity.take_notices() {
            self.observer.notice(&notice);
        }
    }

    /// Appends a completion.
    ///
    /// # Errors
    /// Names the file.
    pub fn log_completion(&mut self, record: &CompletionRecord) -> Result<()> {
        self.completions.append(record)?;
        self.reports.completions(std::slice::from_ref(record));
        Ok(())
    }

    /// Waits until both logs are on the disk. Returns their lengths in bytes: events, completions.
    ///
    /// # Errors
    /// Names the file.
    pub fn sync(&mut self) -> Result<(u64, u64)> {
        let events = self.events.lock();
        events.sync()?;
        self.completions.sync()?;
        Ok((events.position(), self.completions.position()))
    }

    /// Checks that both logs are at least as long as at a save point: [`Journal::rewind`] would cut one
    /// before it found the other too short.
    ///
    /// # Errors
    /// Names the file that is too short.
    pub fn check_lengths(&self, events: u64, completions: u64) -> Result<()> {
        self.events.lock().check_length(events)?;
        Ok(self.completions.check_length(completions)?)
    }

    /// Removes what was logged after a save point; it will be logged again. The progress of the run and
    /// its active alarms are computed again from the events that are left.
    ///
    /// # Errors
    /// Names the file.
    pub fn rewind(&mut self, events: u64, completions: u64) -> Result<()> {
        self.events.lock().truncate_to(events)?;
        self.completions.truncate_to(completions)?;
        self.reports.rewind();
        self.state.forget_progress();
        self.monitor = Monitor::default();
        self.nonfinite = Nonfinite::default();
        let mut pending: Vec<Alarm> = Vec::new();
        let mut unreadable = None;
        for line in read_lines::<Event>(&self.events_path)? {
            let event = match line {
                Ok(event) => event,
                Err(line) => {
                    unreadable = unreadable.or(Some(line));
                    continue;
                }
            };
            self.nonfinite.count(&event);
            match event.kind {
                EventKind::Alarm(_) => pending.retain(|alarm| !alarm.is_reported_by(&event)),
                EventKind::Moving(_) => {}
                _ => {
                    self.state.take_event(&event);
                    pending = self.monitor.observe(&event);
                }
            }
        }
        if let Some(line) = unreadable {
            self.observer.notice(&format!(
                "{line}; alarms and the state of the run follow from the other lines"
            ));
        }
        // A kill may have come between an event and its alarms.
        pending.iter().try_for_each(|alarm| self.raise(alarm))
    }
}

/// Numbers that were not finite, counted from the events of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Nonfinite {
    /// Steps that were dropped because of their loss or gradient.
    pub steps: usize,
    /// Rewards that a program returned.
    pub rewards: usize,
}

impl Nonfinite {
    fn count(&mut self, event: &Event) {
        let EventKind::Alarm(alarm) = &event.kind else {
            return;
        };
        match alarm.code.as_ref() {
            Alarm::NONFINITE => self.steps += 1,
            Alarm::NONFINITE_REWARD => self.rewards += alarm.count.unwrap_or_default(),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::Experiment;
    use crate::run::{Metrics, Step};

    /// An observer that keeps the codes of alarms.
    #[derive(Default)]
    struct Watcher(Vec<String>);

    impl Observer for Watcher {
        fn phase(&mut self, _: Phase, _: usize, _: usize, _: &str) {}

        fn event(&mut self, event: &Event) {
            if let EventKind::Alarm(alarm) = &event.kind {
                self.0.push(alarm.code.to_string());
            }
        }

        fn wants_to_stop(&self) -> bool {
            false
        }
    }

    type Watched = Arc<Mutex<Watcher>>;

    fn open(run: &RunDir) -> (Journal, Watched) {
        let watcher = Watched::default();
        let state = RunState::begin("demo/one", "cpu");
        let journal = Journal::open(run, state, &[], Box::new(Arc::clone(&watcher))).unwrap();
        (journal, watcher)
    }

    fn alarms(watcher: &Watched) -> Vec<String> {
        watcher.lock().unwrap().0.clone()
    }

    fn step(step: usize) -> Step {
        Step {
            step,
            total_steps: 9,
            metrics: Metrics::default().with("reward", 0.5).with("kl", 3.0),
        }
    }

    #[test]
    fn the_state_is_the_same_whether_an_event_was_written_or_read() {
        let outputs = tempfile::tempdir().unwrap();
        let experiment = Experiment::default();
        let run = RunDir::create(outputs.path(), "demo", Some("one"), &experiment).unwrap();
        let (mut journal, _) = open(&run);
        // Numbers whose last digit serde_json reads otherwise than it wrote it.
        for reward in [0.246_421_079_740_456_18, 0.209_188_280_147_353_02] {
            let mut step = step(1);
            step.metrics.set("reward", reward);
            journal.emit(step).unwrap();
            let written = journal.state().reward;
            let (events, completions) = journal.sync().unwrap();
            journal.rewind(events, completions).unwrap();
            assert_eq!(journal.state().reward, written);
        }
    }

    #[test]
    fn an_alarm_that_a_kill_kept_from_being_written_is_written_on_resume() {
        let outputs = tempfile::tempdir().unwrap();
        let experiment = Experiment::default();
        let run = RunDir::create(outputs.path(), "demo", Some("one"), &experiment).unwrap();
        let (mut journal, watcher) = open(&run);
        for at in 1..=5 {
            journal.emit(step(at)).unwrap();
        }
        assert_eq!(alarms(&watcher), ["kl"]);
        let whole = journal.sync().unwrap().0;
        let events = std::fs::read_to_string(run.events()).unwrap();
        let alarm = events.rfind("{\"v\"").unwrap() as u64;
        drop(journal);

        let resumed = |events: u64| {
            let (mut journal, watcher) = open(&run);
            journal.rewind(events, 0).unwrap();
            assert_eq!(
                (journal.state().step, journal.state().reward),
                (5, Some(0.5))
            );
            journal.emit(step(6)).unwrap();
            alarms(&watcher)
        };
        // It was there, and is raised twice neither by the resume nor by the step after it.
        assert_eq!(resumed(whole), [] as [&str; 0]);
        assert_eq!(resumed(alarm), ["kl"]);
    }
}
