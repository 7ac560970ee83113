//! Writes down what a run is doing and what it takes of its machine: progress.json and
//! system.jsonl. Also starts the [`Watchdog`], which says when nothing moves any more.
//!
//! Both have threads of their own: replacing a file takes the disk milliseconds, and a disk that does not
//! answer must not keep the watchdog from saying so. A file that cannot be written is told of once, and
//! training goes on without it.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::activity::{Activity, Moment};
use super::journal::SharedEvents;
use super::observe::{Observer, Phase, Teller};
use super::watchdog::Watchdog;
use super::workplace::Workplace;
use crate::device::Compute;
use moim_core::run::{
    Card, DeviceSample, Event, EventKind, HostMeter, Progress, SystemLog, SystemSample, WriteError,
};

/// The time between two samples of the machine.
const SAMPLE_EVERY: Duration = Duration::from_secs(2);
/// The shortest time between two writes of progress.json within a phase.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);
/// The same where the phase has changed: phases of a small model last milliseconds.
const PROGRESS_AT_MOST_EVERY: Duration = Duration::from_millis(50);
/// The time between two looks at the device's memory, from which peaks are taken.
const DEVICE_EVERY: Duration = Duration::from_millis(100);

/// An observer that passes everything on and has it written down.
pub(super) struct Telemetry<'a> {
    inner: &'a mut dyn Observer,
    activity: Arc<Activity>,
    threads: Vec<JoinHandle<()>>,
}

impl<'a> Telemetry<'a> {
    /// Begins to write; ends with this value.
    pub(super) fn start(inner: &'a mut dyn Observer, work: &Workplace) -> Self {
        let activity = Arc::clone(&work.activity);
        let compute = work.policy.model.compute.clone();
        let (progress, system) = (work.run.progress(), work.run.system());
        let watch = Watch {
            dog: Watchdog::new(work.experiment.run.watchdog_minutes, Instant::now()),
            events: work.journal.shared_events(),
            teller: inner.teller(),
        };
        let (of_recorder, of_watch) = (Arc::clone(&activity), Arc::clone(&activity));
        let start = |name: &str, without: &str, work: Box<dyn FnOnce() + Send>| {
            let thread = Builder::new().name(name.to_owned()).spawn(work);
            if let Err(error) = &thread {
                activity.notice(format!("{without}, no thread can be started: {error}"));
            }
            thread.ok()
        };
        let recorder = start(
            "telemetry",
            "progress.json and system.jsonl are not written",
            Box::new(move || Recorder::new(of_recorder, compute, progress, system).work()),
        );
        let watch = start(
            "watchdog",
            "nobody watches whether the run moves",
            Box::new(move || watch.work(&of_watch)),
        );
        Self {
            inner,
            activity,
            threads: recorder.into_iter().chain(watch).collect(),
        }
    }

    fn pass_notices_on(&mut self) {
        for notice in self.activity.take_notices() {
            self.inner.notice(&notice);
        }
    }
}

impl Observer for Telemetry<'_> {
    fn phase(&mut self, phase: Phase, done: usize, total: usize, detail: &str) {
        self.activity.report(phase, done, total, detail);
        self.inner.phase(phase, done, total, detail);
    }

    fn event(&mut self, event: &Event) {
        match &event.kind {
            EventKind::Step(step) => self.activity.set_step(step.step),
            EventKind::Resume(resumed) => self.activity.set_step(resumed.step),
            _ => {}
        }
        self.activity.take_event();
        self.pass_notices_on();
        self.inner.event(event);
    }

    fn notice(&mut self, message: &str) {
        self.inner.notice(message);
    }

    fn wants_to_stop(&self) -> bool {
        self.inner.wants_to_stop()
    }
}

impl Drop for Telemetry<'_> {
    fn drop(&mut self) {
        self.activity.end();
        for thread in self.threads.drain(..) {
            // A thread that panicked has nothing more to write.
            let _ = thread.join();
        }
        self.pass_notices_on();
    }
}

/// What is needed to notice a stall and to say so.
struct Watch {
    dog: Watchdog,
    events: SharedEvents,
    teller: Option<Teller>,
}

impl Watch {
    /// A thread of its own: what the other one writes and asks may hang with what the run waits for.
    fn work(mut self, activity: &Activity) {
        let mut seen_phases = 0;
        loop {
            let moment = activity.wait(seen_phases, PROGRESS_EVERY);
            if moment.is_over {
                return;
            }
            seen_phases = moment.phases;
            self.look(activity, &moment);
        }
    }

    fn look(&mut self, activity: &Activity, moment: &Moment) {
        let Some(event) = self.dog.look(moment, Instant::now()) else {
            return;
        };
        // First, since the log may be what the run waits for.
        if let Some(tell) = &self.teller {
            tell(&event);
        }
        if let Err(error) = self.events.lock().append(&event) {
            activity.notice(error.to_string());
        }
    }
}

/// The thread's side.
struct Recorder {
    activity: Arc<Activity>,
    compute: Compute,
    progress: PathBuf,
    /// `None` once it could not be written.
    system: Option<SystemLog>,
    host: HostMeter,
    card: Option<Card>,
    /// What the next sample has to say.
    note: Option<String>,
    has_told_of_progress: bool,
}

impl Recorder {
    fn new(activity: Arc<Activity>, compute: Compute, progress: PathBuf, system: PathBuf) -> Self {
        let mut note = None;
        let card = Card::open(&compute.name).and_then(|card| {
            card.map_err(|error| {
                let message = format!(
                    "no readings of the card (used memory, utilization, temperature, power): {error}"
                );
                activity.notice(message.clone());
                note = Some(message);
            })
            .ok()
        });
        let mut recorder = Self {
            activity,
            compute,
            progress,
            system: None,
            host: HostMeter::new(),
            card,
            note,
            has_told_of_progress: false,
        };
        match SystemLog::open(&system) {
            Ok(log) => recorder.system = Some(log),
            Err(error) => recorder.tell(&error),
        }
        recorder
    }

    fn tell(&self, error: &WriteError) {
        self.activity
            .notice(format!("{error}; training goes on without this file"));
    }

    fn work(mut self) {
        let has_device = self.sample(&Moment::default());
        let tick = if has_device {
            DEVICE_EVERY
        } else {
            PROGRESS_EVERY
        };
        let mut sampled = Instant::now();
        let mut written: Option<Instant> = None;
        let (mut written_reports, mut written_phases, mut seen_phases) = (0, 0, 0);
        loop {
            let moment = self.activity.wait(seen_phases, tick);
            if moment.is_over {
                self.sample(&moment);
                break;
            }
            seen_phases = moment.phases;
            if has_device && let Some(memory) = self.compute.memory() {
                self.activity.see_memory(moment.phases, memory.bytes_in_use);
            }
            let pause = match moment.phases == written_phases {
                true => PROGRESS_EVERY,
                false => PROGRESS_AT_MOST_EVERY,
            };
            if moment.reports != written_reports
                && written.is_none_or(|written| written.elapsed() >= pause)
            {
                self.write_progress(&moment);
                written = Some(Instant::now());
                (written_reports, written_phases) = (moment.reports, moment.phases);
            }
            if sampled.elapsed() >= SAMPLE_EVERY {
                sampled = Instant::now();
                self.sample(&moment);
            }
        }
        // Where there is none it was never written, or another hand removed it.
        let _ = std::fs::remove_file(&self.progress);
    }

    fn write_progress(&mut self, moment: &Moment) {
        let Some(current) = &moment.current else {
            return;
        };
        let progress = Progress {
            time: current.time,
            phase: current.phase.name().to_owned(),
            done: current.done,
            total: current.total,
            detail: current.detail.clone(),
            step: moment.step,
            since: current.since,
        };
        if let Err(error) = progress.write(&self.progress)
            && !self.has_told_of_progress
        {
            self.has_told_of_progress = true;
            self.tell(&error);
        }
    }

    /// Appends a sample; answers whether there is a device with memory of its own.
    fn sample(&mut self, moment: &Moment) -> bool {
        let device = self.compute.memory().map(|memory| {
            let peak = moment.current.as_ref().and_then(|phase| phase.peak_in_use);
            DeviceSample {
                in_use: memory.bytes_in_use,
                reserved: memory.bytes_reserved,
                peak_in_use: peak.unwrap_or_default().max(memory.bytes_in_use),
            }
        });
        let has_device = device.is_some();
        let Some(log) = &mut self.system else {
            return has_device;
        };
        let sample = SystemSample {
            time: Timestamp::now(),
            step: moment.step,
            phase: moment
                .current
                .as_ref()
                .map(|current| current.phase.name().to_owned()),
            host: self.host.sample(),
            device,
            card: self.card.as_ref().and_then(Card::sample),
            note: self.note.take(),
        };
        if let Err(error) = log.append(&sample) {
            self.tell(&error);
            self.system = None;
        }
        has_device
    }
}
