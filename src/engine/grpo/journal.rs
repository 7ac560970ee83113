//! What is written down of a run while it works: its events with the alarms they raise, its
//! completions, and run.json.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Map, Value};

use super::observe::Observer;
use moim_core::experiment::Reporter;
use moim_core::health::{Alarm, Monitor};
use moim_core::report::Reports;
use moim_core::run::{
    CompletionLog, CompletionRecord, Event, EventKind, EventLog, RunDir, RunState, read_lines,
};

/// Steps change run.json at most so often: it is synced, and the disk may take longer than a step of
/// a small model.
const STATE_EVERY: Duration = Duration::from_secs(1);

/// events.jsonl, which the trainer appends to, and whoever notices that the trainer does not move.
#[derive(Clone)]
pub(super) struct SharedEvents(Arc<Mutex<EventLog>>);

impl SharedEvents {
    /// The log, for one event or one cut.
    pub(super) fn lock(&self) -> MutexGuard<'_, EventLog> {
        // Whoever panicked with the lock left whole lines behind; a torn one is mended on resume.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The files of a run that its trainer alone writes, but for what a stall adds to its events.
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
}

impl Journal {
    /// Opens both logs for appending, goes on from `state`, which run.json holds, and reports to
    /// `report_to` as well.
    ///
    /// # Errors
    /// Names the file.
    pub(super) fn open(run: &RunDir, state: RunState, report_to: &[Reporter]) -> Result<Self> {
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
        })
    }

    /// events.jsonl, for another thread.
    pub(super) fn shared_events(&self) -> SharedEvents {
        self.events.clone()
    }

    /// What was not finite in the run so far.
    pub(super) fn nonfinite(&self) -> Nonfinite {
        self.nonfinite
    }

    /// What run.json tells, or will within a second.
    pub(super) fn state(&self) -> &RunState {
        &self.state
    }

    /// Changes run.json, at once.
    pub(super) fn change(&mut self, change: impl FnOnce(&mut RunState)) -> Result<()> {
        change(&mut self.state);
        self.state.save(&self.state_path)?;
        self.state_written = Instant::now();
        Ok(())
    }

    /// Appends an event and the alarms that it raises, shows them to the observer, and keeps
    /// run.json current.
    pub(super) fn emit(
        &mut self,
        observer: &mut dyn Observer,
        name: &str,
        fields: Map<String, Value>,
    ) -> Result<()> {
        self.emit_event(observer, Event::from_fields(name, fields))
    }

    /// Appends an event and the alarms that it raises, shows them to the observer, and keeps
    /// run.json current.
    pub(super) fn emit_event(&mut self, observer: &mut dyn Observer, event: Event) -> Result<()> {
        self.append(observer, &event)?;
        // As a resumed run reads it: from text to f64 the last place of a number may change.
        let event = serde_json::from_str(&event.to_line()).unwrap_or(event);
        self.state.take_event(&event);
        for alarm in self.monitor.observe(&event) {
            self.raise(observer, &alarm)?;
        }
        match &event.kind {
            EventKind::Step(_) if self.state_written.elapsed() < STATE_EVERY => Ok(()),
            EventKind::Step(_) | EventKind::Score(_) => self.change(|_| ()),
            _ => Ok(()),
        }
    }

    /// Appends an alarm and shows it to the observer.
    pub(super) fn raise(&mut self, observer: &mut dyn Observer, alarm: &Alarm) -> Result<()> {
        self.append(observer, &Event::new(alarm.clone()))
    }

    /// Appends an event that changes nothing else, and shows it to the observer.
    pub(super) fn append(&mut self, observer: &mut dyn Observer, event: &Event) -> Result<()> {
        self.events.lock().append(event)?;
        self.nonfinite.take_event(event);
        for warning in self.reports.event(event) {
            observer.notice(&warning);
        }
        observer.event(event);
        Ok(())
    }

    /// Appends a completion.
    pub(super) fn log_completion(&mut self, record: &CompletionRecord) -> Result<()> {
        self.completions.append(record)?;
        self.reports.completions(std::slice::from_ref(record));
        Ok(())
    }

    /// Brings both logs to the disk; answers their lengths.
    pub(super) fn sync(&mut self) -> Result<(u64, u64)> {
        let events = self.events.lock();
        events.sync()?;
        self.completions.sync()?;
        Ok((events.position(), self.completions.position()))
    }

    /// Whether both logs are as long as they were at a save point: [`Journal::rewind`] would spoil one
    /// before it found the other too short.
    pub(super) fn check_lengths(&self, events: u64, completions: u64) -> Result<()> {
        self.events.lock().check_length(events)?;
        Ok(self.completions.check_length(completions)?)
    }

    /// Takes back what was logged after a save point; it will be logged again. What follows from
    /// the events that are left follows from them anew: how far the run has come, and which alarms
    /// are up.
    pub(super) fn rewind(
        &mut self,
        observer: &mut dyn Observer,
        events: u64,
        completions: u64,
    ) -> Result<()> {
        self.events.lock().truncate_to(events)?;
        self.completions.truncate_to(completions)?;
        self.reports.rewind();
        self.state.forget_progress();
        self.monitor = Monitor::default();
        self.nonfinite = Nonfinite::default();
        let mut untold: Vec<Alarm> = Vec::new();
        let mut unreadable = None;
        for line in read_lines::<Event>(&self.events_path)? {
            let event = match line {
                Ok(event) => event,
                Err(line) => {
                    unreadable = unreadable.or(Some(line));
                    continue;
                }
            };
            self.nonfinite.take_event(&event);
            match event.kind {
                EventKind::Alarm(_) => untold.retain(|alarm| !alarm.is_reported_by(&event)),
                EventKind::Moving(_) => {}
                _ => {
                    self.state.take_event(&event);
                    untold = self.monitor.observe(&event);
                }
            }
        }
        if let Some(line) = unreadable {
            observer.notice(&format!(
                "{line}; alarms and the state of the run follow from the other lines"
            ));
        }
        // A kill may have come between an event and its alarms.
        untold
            .iter()
            .try_for_each(|alarm| self.raise(observer, alarm))
    }
}

/// What was not finite in a run, counted from its events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Nonfinite {
    /// Steps whose loss or gradient was not, so that they were dropped.
    steps: usize,
    /// Rewards that a program gave.
    rewards: usize,
}

impl Nonfinite {
    fn take_event(&mut self, event: &Event) {
        let EventKind::Alarm(alarm) = &event.kind else {
            return;
        };
        match alarm.code.as_ref() {
            Alarm::NONFINITE => self.steps += 1,
            Alarm::NONFINITE_REWARD => self.rewards += alarm.count.unwrap_or_default(),
            _ => {}
        }
    }

    /// The counts under the names they have in the `done` event.
    pub(super) fn named(self) -> [(&'static str, usize); 2] {
        [
            ("dropped_steps", self.steps),
            ("nonfinite_rewards", self.rewards),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpo::Phase;
    use moim_core::experiment::Experiment;

    /// Whoever watches, and sees alarms.
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

    fn step(step: usize) -> Map<String, Value> {
        let step = serde_json::json!({"step": step, "total_steps": 9, "reward": 0.5, "kl": 3.0});
        step.as_object().cloned().unwrap_or_default()
    }

    #[test]
    fn the_state_is_the_same_whether_an_event_was_written_or_read() {
        let outputs = tempfile::tempdir().unwrap();
        let experiment = Experiment::default();
        let run = RunDir::create(outputs.path(), "demo", Some("one"), &experiment).unwrap();
        let mut journal = Journal::open(&run, RunState::begin("demo/one", "cpu"), &[]).unwrap();
        let mut watcher = Watcher::default();
        // Numbers whose last place serde_json reads otherwise than it wrote it.
        for reward in [0.246_421_079_740_456_18, 0.209_188_280_147_353_02] {
            let mut fields = step(1);
            fields.insert("reward".to_owned(), reward.into());
            journal.emit(&mut watcher, "step", fields).unwrap();
            let written = journal.state().reward;
            let (events, completions) = journal.sync().unwrap();
            journal.rewind(&mut watcher, events, completions).unwrap();
            assert_eq!(journal.state().reward, written);
        }
    }

    #[test]
    fn an_alarm_that_a_kill_kept_from_being_written_is_written_on_resume() {
        let outputs = tempfile::tempdir().unwrap();
        let experiment = Experiment::default();
        let run = RunDir::create(outputs.path(), "demo", Some("one"), &experiment).unwrap();
        let open = || Journal::open(&run, RunState::begin("demo/one", "cpu"), &[]).unwrap();
        let mut watcher = Watcher::default();
        let mut journal = open();
        for at in 1..=5 {
            journal.emit(&mut watcher, "step", step(at)).unwrap();
        }
        assert_eq!(watcher.0, ["kl"]);
        let whole = journal.sync().unwrap().0;
        let events = std::fs::read_to_string(run.events()).unwrap();
        let alarm = events.rfind("{\"v\"").unwrap() as u64;
        drop(journal);

        let resumed = |events: u64| {
            let (mut watcher, mut journal) = (Watcher::default(), open());
            journal.rewind(&mut watcher, events, 0).unwrap();
            assert_eq!(
                (journal.state().step, journal.state().reward),
                (5, Some(0.5))
            );
            journal.emit(&mut watcher, "step", step(6)).unwrap();
            watcher.0
        };
        // It was there, and is not told twice, nor by the step after.
        assert_eq!(resumed(whole), [] as [&str; 0]);
        assert_eq!(resumed(alarm), ["kl"]);
    }
}
