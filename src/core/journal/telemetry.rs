//! Writes what a run is doing and its use of the machine: progress.json and system.jsonl. Also starts
//! the [`Watchdog`], which reports that a run no longer moves.
//!
//! Each has its own thread: replacing a file takes the disk milliseconds, and a disk that does not
//! respond must not keep the watchdog silent. A file that cannot be written is reported once, and
//! training continues without it.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::activity::{Activity, Moment};
use super::watchdog::Watchdog;
use super::{EventSink, Journal, SharedEvents};
use crate::run::{
    Card, DeviceSample, HostMeter, Progress, RunDir, SystemLog, SystemSample, WriteError,
};

/// The time between two samples of the machine.
const SAMPLE_EVERY: Duration = Duration::from_secs(2);
/// The shortest time between two writes of progress.json within a phase.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);
/// The same if the phase has changed: phases of a small model last milliseconds.
const PROGRESS_AT_MOST_EVERY: Duration = Duration::from_millis(50);
/// The time between two readings of the device's memory, from which peaks are taken.
const DEVICE_EVERY: Duration = Duration::from_millis(100);

/// Memory of a device, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceMemory {
    /// In buffers.
    pub in_use: u64,
    /// Taken from the device, in use or not.
    pub reserved: u64,
}

/// The device of a run, as far as telemetry needs it.
pub struct Device {
    /// As in an experiment: `cpu`, `cuda:0`.
    pub name: String,
    /// Reads its memory; `None` on the CPU, and after the device has failed. Called on another thread.
    pub memory: Box<dyn Fn() -> Option<DeviceMemory> + Send>,
}

/// The threads of a run that is watched.
pub struct Telemetry {
    activity: Arc<Activity>,
    threads: Vec<JoinHandle<()>>,
}

impl Telemetry {
    /// Starts to watch and write. [`Telemetry::stop`] ends it.
    pub fn start(journal: &Journal, run: &RunDir, device: Device, watchdog_minutes: f64) -> Self {
        let activity = Arc::clone(&journal.activity);
        let (progress, system) = (run.progress(), run.system());
        let watch = Watch {
            dog: Watchdog::new(watchdog_minutes, Instant::now()),
            events: journal.events.clone(),
            sink: journal.observer.event_sink(),
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
            Box::new(move || Recorder::new(of_recorder, device, progress, system).work()),
        );
        let watch = start(
            "watchdog",
            "a run that no longer moves is not reported",
            Box::new(move || watch.work(&of_watch)),
        );
        Self {
            activity,
            threads: recorder.into_iter().chain(watch).collect(),
        }
    }

    /// Ends the threads, and reports through `journal` what they still had to say.
    pub fn stop(mut self, journal: &mut Journal) {
        self.end();
        journal.forward_notices();
    }

    fn end(&mut self) {
        self.activity.end();
        for thread in self.threads.drain(..) {
            // A thread that panicked has nothing more to write.
            let _ = thread.join();
        }
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        self.end();
    }
}

/// Notices a stall and reports it.
struct Watch {
    dog: Watchdog,
    events: SharedEvents,
    sink: Option<EventSink>,
}

impl Watch {
    /// The other thread's files and readings may hang together with what the run waits for.
    fn work(mut self, activity: &Activity) {
        let mut seen_phases = 0;
        loop {
            let moment = activity.wait(seen_phases, PROGRESS_EVERY);
            if moment.is_over {
                return;
            }
            seen_phases = moment.phases;
            self.check(activity, &moment);
        }
    }

    fn check(&mut self, activity: &Activity, moment: &Moment) {
        let Some(event) = self.dog.check(moment, Instant::now()) else {
            return;
        };
        // Before the log, which may be what the run waits for.
        if let Some(sink) = &self.sink {
            sink(&event);
        }
        if let Err(error) = self.events.lock().append(&event) {
            activity.notice(error.to_string());
        }
    }
}

/// Writes progress.json and system.jsonl.
struct Recorder {
    activity: Arc<Activity>,
    device: Device,
    progress: PathBuf,
    /// `None` once it could not be written.
    system: Option<SystemLog>,
    host: HostMeter,
    card: Option<Card>,
    /// A message for the next sample.
    note: Option<String>,
    has_reported_progress: bool,
}

impl Recorder {
    fn new(activity: Arc<Activity>, device: Device, progress: PathBuf, system: PathBuf) -> Self {
        let mut note = None;
        let card = Card::open(&device.name).and_then(|card| {
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
            device,
            progress,
            system: None,
            host: HostMeter::new(),
            card,
            note,
            has_reported_progress: false,
        };
        match SystemLog::open(&system) {
            Ok(log) => recorder.system = Some(log),
            Err(error) => recorder.report(&error),
        }
        recorder
    }

    fn report(&self, error: &WriteError) {
        self.activity
            .notice(format!("{error}; training continues without this file"));
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
            if has_device && let Some(memory) = (self.device.memory)() {
                self.activity.see_memory(moment.phases, memory.in_use);
            }
            let pause = if moment.phases == written_phases {
                PROGRESS_EVERY
            } else {
                PROGRESS_AT_MOST_EVERY
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
        // If it does not exist, it was never written or was removed by another program.
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
            && !self.has_reported_progress
        {
            self.has_reported_progress = true;
            self.report(&error);
        }
    }

    /// Appends a sample. Returns whether the device has its own memory.
    fn sample(&mut self, moment: &Moment) -> bool {
        let device = (self.device.memory)().map(|memory| {
            let peak = moment.current.as_ref().and_then(|phase| phase.peak_in_use);
            DeviceSample {
                in_use: memory.in_use,
                reserved: memory.reserved,
                peak_in_use: peak.unwrap_or_default().max(memory.in_use),
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
            self.report(&error);
            self.system = None;
        }
        has_device
    }
}
