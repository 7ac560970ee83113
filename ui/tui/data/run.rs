//! The open run: everything that Train shows.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use moim_core::run::{Alarm, Event, EventKind, Liveness, RunState, Start};

use super::index::Condition;
use super::series::{Columns, History};
use super::system::{metrics_of, seconds_between};

/// The most alarms, and the most other events, that are kept: the newest.
const MOST_KEPT: usize = 1000;

/// The run that is shown, with everything that was read so far.
#[derive(Debug)]
pub struct OpenRun {
    /// The run directory.
    pub path: PathBuf,
    /// run.json; an error if it does not exist (yet, or no longer) or cannot be read.
    pub state: Result<RunState, String>,
    /// Whether its process exists.
    pub liveness: Liveness,
    /// Whether the directory exists; `None` while it was never seen.
    pub is_there: Option<bool>,
    /// The first event: what is trained, with what.
    pub start: Option<Start>,
    /// What the trainer is doing at this moment.
    pub progress: Option<moim_core::run::Progress>,
    /// Metrics of `step` events.
    pub history: History,
    /// Metrics of system.jsonl over seconds since the first sample: `host/rss`, `device/reserved`, …
    pub system: History,
    /// The newest sample of system.jsonl.
    pub system_now: Option<moim_core::run::SystemSample>,
    /// When the first sample was taken.
    pub system_start: Option<Timestamp>,
    /// Seconds by which the clock was set back while samples were taken.
    system_shift: f64,
    /// Alarms and when they were raised, the newest last.
    pub alarms: Vec<(Timestamp, Alarm)>,
    /// What else happened: save points, scores, pauses, resumes; the newest last.
    pub timeline: Vec<Event>,
    /// The end of log.txt, or of the launch log while there is no log.txt.
    pub log: Vec<String>,
    /// The progress of reading.
    pub reading: Reading,
}

/// The progress of reading a run. The end of a long log is read first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    /// Bytes of events.jsonl that have been read.
    pub bytes: u64,
    /// Bytes that it had when last looked at.
    pub total: u64,
    /// Lines that are no events, the latest as text.
    pub bad_lines: usize,
    pub latest_bad_line: Option<String>,
    /// How often the log was cut or replaced.
    pub restarts: usize,
}

/// Changes of the open run. Fields that are `None` or empty have not changed.
#[derive(Debug, Default)]
pub struct RunUpdate {
    /// The run directory.
    pub run: PathBuf,
    /// Forget everything that came from events before: the log was cut or replaced.
    pub has_restarted: bool,
    /// Whether the directory exists.
    pub is_there: Option<bool>,
    /// run.json, and whether the process exists.
    pub state: Option<(Result<RunState, String>, Option<Liveness>)>,
    pub progress: Option<Option<moim_core::run::Progress>>,
    /// The first event of the log, which is read ahead of the rest.
    pub start: Option<Start>,
    /// Events in the order of the file; all newer than those sent before. The steps among them need not
    /// be here: [`steps`](Self::steps) has them in less space.
    pub events: Vec<Event>,
    /// Events in the order of the file; all older than those sent before.
    pub earlier_events: Vec<Event>,
    /// Metrics of `step` events, newer than those sent before.
    pub steps: Columns,
    /// Metrics of `step` events, older than those sent before.
    pub earlier_steps: Columns,
    /// Forget all samples of the system: their log was cut or replaced.
    pub has_system_restarted: bool,
    /// When the first sample of the system was taken.
    pub system_start: Option<Timestamp>,
    /// Samples newer than those sent before.
    pub system: Vec<moim_core::run::SystemSample>,
    /// Metrics of older samples, over seconds since `system_start`.
    pub earlier_system: Columns,
    pub log: Option<Vec<String>>,
    pub reading: Option<Reading>,
}

impl RunUpdate {
    /// No changes of a run.
    pub fn of(run: &Path) -> Self {
        Self {
            run: run.to_owned(),
            ..Self::default()
        }
    }
}

impl OpenRun {
    /// A run of which nothing has been read yet.
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            state: Err("not read yet".to_owned()),
            liveness: Liveness::Unknown,
            is_there: None,
            start: None,
            progress: None,
            history: History::default(),
            system: History::default(),
            system_now: None,
            system_start: None,
            system_shift: 0.0,
            alarms: Vec::new(),
            timeline: Vec::new(),
            log: Vec::new(),
            reading: Reading::default(),
        }
    }

    /// What the run is doing. A run whose directory was never seen is about to start.
    pub fn condition(&self) -> Condition {
        match self.is_there {
            None if self.state.is_err() => Condition::Starting,
            Some(false) => Condition::Unreadable,
            _ => Condition::of(&self.state, self.liveness),
        }
    }

    /// `<experiment>/<run>`.
    pub fn id(&self) -> String {
        let mut parts = self.path.components().rev();
        let mut part = || {
            parts
                .next()
                .map(|part| part.as_os_str().to_string_lossy().into_owned())
                .unwrap_or_default()
        };
        let name = part();
        format!("{}/{name}", part())
    }

    /// Optimizer steps taken and in all, where known.
    pub fn steps(&self) -> Option<(usize, usize)> {
        let state = self.state.as_ref().ok()?;
        Some((state.step, state.total_steps))
    }

    /// Seconds until the end at the pace of the last steps; `None` while unknown.
    pub fn remaining_seconds(&self) -> Option<f64> {
        let (step, total) = self.steps()?;
        let times = self.history.get("step_time")?.points();
        let recent = times.iter().rev().take(20);
        let finite: Vec<f64> = recent
            .map(|point| point.1)
            .filter(|seconds| seconds.is_finite())
            .collect();
        let mean = finite.iter().sum::<f64>() / finite.len() as f64;
        mean.is_finite()
            .then(|| mean * total.saturating_sub(step) as f64)
    }

    /// Applies an update.
    pub fn apply(&mut self, update: RunUpdate) {
        if update.has_restarted {
            self.start = None;
            self.history = History::default();
            self.alarms.clear();
            self.timeline.clear();
        }
        if let Some(is_there) = update.is_there {
            self.is_there = Some(is_there);
        }
        if let Some((state, liveness)) = update.state {
            self.state = state;
            self.liveness = liveness.unwrap_or(self.liveness);
        }
        if let Some(progress) = update.progress {
            self.progress = progress;
        }
        if update.start.is_some() {
            self.start = update.start;
        }
        self.history.prepend(update.earlier_steps);
        self.apply_earlier(&update.earlier_events);
        self.history.extend(update.steps);
        for event in update.events {
            self.apply_event(event);
        }
        if update.has_system_restarted {
            self.system = History::default();
            self.system_now = None;
            self.system_start = None;
            self.system_shift = 0.0;
        }
        self.system_start = self.system_start.or(update.system_start);
        self.system.prepend(update.earlier_system);
        for sample in update.system {
            self.apply_sample(sample);
        }
        if let Some(log) = update.log {
            self.log = log;
        }
        if let Some(reading) = update.reading {
            self.reading = reading;
        }
    }

    fn apply_event(&mut self, event: Event) {
        self.alarms.extend(alarms_of(&event));
        match &event.kind {
            EventKind::Step(step) => {
                for (metric, value) in step.metrics.iter() {
                    self.history.push(metric, step.step as f64, value);
                }
            }
            EventKind::Alarm(_) => {}
            EventKind::Start(start) => {
                self.start = Some(Start::clone(start));
                self.timeline.push(event);
            }
            _ => self.timeline.push(event),
        }
        let surplus = |length: usize| length.saturating_sub(MOST_KEPT);
        self.alarms.drain(..surplus(self.alarms.len()));
        self.timeline.drain(..surplus(self.timeline.len()));
    }

    fn apply_earlier(&mut self, events: &[Event]) {
        let space = |length: usize| MOST_KEPT.saturating_sub(length);
        let mut alarms: Vec<(Timestamp, Alarm)> = events.iter().flat_map(alarms_of).collect();
        alarms.drain(..alarms.len().saturating_sub(space(self.alarms.len())));
        self.alarms.splice(0..0, alarms);
        let others = events
            .iter()
            .filter(|event| !matches!(event.kind, EventKind::Alarm(_) | EventKind::Step(_)));
        let mut others: Vec<Event> = others.cloned().collect();
        others.drain(..others.len().saturating_sub(space(self.timeline.len())));
        self.timeline.splice(0..0, others);
        let start = events.iter().find_map(|event| match &event.kind {
            EventKind::Start(start) => Some(start),
            _ => None,
        });
        if let Some(start) = start {
            self.start = Some(Start::clone(start));
        }
    }

    /// A clock that is set back would fold the charts; the time that it takes away is added from
    /// then on.
    fn apply_sample(&mut self, sample: moim_core::run::SystemSample) {
        let start = *self.system_start.get_or_insert(sample.time);
        if let Some(now) = &self.system_now {
            self.system_shift += seconds_between(sample.time, now.time).max(0.0);
        }
        let seconds = seconds_between(start, sample.time) + self.system_shift;
        for (metric, value) in metrics_of(&sample) {
            self.system.push(metric, seconds, value);
        }
        self.system_now = Some(sample);
    }
}

fn alarms_of(event: &Event) -> impl Iterator<Item = (Timestamp, Alarm)> {
    let time = event.time;
    event.alarms().into_iter().map(move |alarm| (time, alarm))
}

#[cfg(test)]
mod tests {
    use moim_core::run::{
        CheckpointEvent, HostSample, Metrics, SavePoint, Severity, Step, SystemSample,
    };

    use super::*;

    fn step(step: usize, reward: f64) -> Event {
        Event::new(Step {
            step,
            total_steps: 9,
            metrics: Metrics::default().with("reward", reward),
        })
    }

    fn checkpoint(step: usize) -> Event {
        Event::new(CheckpointEvent {
            checkpoint: SavePoint::Step(step),
            step,
            adapter_difference: None,
        })
    }

    fn update(change: impl FnOnce(&mut RunUpdate)) -> RunUpdate {
        let mut update = RunUpdate::default();
        change(&mut update);
        update
    }

    #[test]
    fn newer_and_earlier_events_come_to_one_history() {
        let mut run = OpenRun::new(Path::new("outputs/demo/첫째"));
        run.apply(update(|update| {
            update.events = vec![step(5, 0.5), checkpoint(5), step(6, f64::NAN)];
        }));
        run.apply(update(|update| {
            update.earlier_steps.add("reward", 1.0, 0.1);
            let alarm = Alarm::new("kl", Severity::Warning, 1, "far away");
            update.earlier_events = vec![
                Event::new(Start::default()),
                Event::new(alarm),
                checkpoint(2),
            ];
        }));
        let points = run.history.get("reward").unwrap().points();
        assert_eq!(points[..2], [(1.0, 0.1), (5.0, 0.5)]);
        assert!(points[2].1.is_nan());
        assert_eq!(run.history.names().collect::<Vec<_>>(), ["reward"]);
        let names: Vec<&str> = run.timeline.iter().map(Event::name).collect();
        assert_eq!(names, ["start", "checkpoint", "checkpoint"]);
        assert_eq!((run.alarms.len(), run.start.is_some()), (1, true));
        assert_eq!(run.id(), "demo/첫째");

        run.apply(update(|update| update.has_restarted = true));
        assert!(run.history.get("reward").is_none() && run.timeline.is_empty());
    }

    #[test]
    fn what_is_kept_is_bounded_and_the_newest_stays() {
        let mut run = OpenRun::new(Path::new("r"));
        run.apply(update(|update| {
            update.events = (0..1500).map(checkpoint).collect()
        }));
        assert_eq!(run.timeline.len(), MOST_KEPT);
        assert_eq!(run.timeline[0].to_string(), "step_500 saved at step 500");
        run.apply(update(|update| update.earlier_events = vec![checkpoint(1)]));
        assert_eq!(run.timeline[0].to_string(), "step_500 saved at step 500");
    }

    #[test]
    fn a_clock_that_is_set_back_folds_nothing() {
        let sample = |time: &str, rss: u64| SystemSample {
            time: time.parse().unwrap(),
            step: 0,
            phase: None,
            host: HostSample {
                rss: Some(rss),
                ..HostSample::default()
            },
            device: None,
            card: None,
            note: None,
        };
        let mut run = OpenRun::new(Path::new("r"));
        run.apply(update(|update| {
            update.system = vec![
                sample("2026-11-22T03:00:00Z", 1),
                sample("2026-11-22T03:00:10Z", 2),
                sample("2026-11-22T02:00:00Z", 3),
                sample("2026-11-22T02:00:02Z", 4),
            ];
        }));
        let points = run.system.get("host/rss").unwrap().points();
        // The third replaces the second: no time has passed by the clock.
        assert_eq!(points, [(0.0, 1.0), (10.0, 3.0), (12.0, 4.0)]);
    }

    #[test]
    fn what_a_run_is_doing() {
        let mut run = OpenRun::new(Path::new("r"));
        assert_eq!(run.condition(), Condition::Starting);
        run.apply(update(|update| {
            update.is_there = Some(true);
            update.state = Some((Err("no run.json yet".to_owned()), Some(Liveness::Alive)));
        }));
        assert_eq!(run.condition(), Condition::Starting);
        let state = RunState::begin("demo/r", "cpu");
        run.apply(update(|update| {
            update.state = Some((Ok(state), Some(Liveness::Alive)))
        }));
        assert_eq!(run.condition(), Condition::Running);
        run.apply(update(|update| update.is_there = Some(false)));
        assert_eq!(run.condition(), Condition::Unreadable);
    }
}
