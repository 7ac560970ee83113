//! The trainer's current phase and progress, shared with the threads that write them to files.
//!
//! The trainer only records them here, which takes less than a microsecond; [`Telemetry`](super::Telemetry)
//! writes the files.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use super::Phase;

/// The highest device memory use seen in the phases of one step, in bytes. `None` where none was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DevicePeaks {
    /// While completions were sampled.
    pub rollout: Option<u64>,
    /// In the forward and backward passes and the update.
    pub backward: Option<u64>,
}

/// The running phase.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Current {
    pub(super) phase: Phase,
    pub(super) done: usize,
    pub(super) total: usize,
    pub(super) detail: String,
    /// When the trainer last reported it.
    pub(super) time: Timestamp,
    /// When it started.
    pub(super) since: Timestamp,
    /// The highest device memory use seen since then, in bytes.
    pub(super) peak_in_use: Option<u64>,
}

/// A snapshot of the trainer.
#[derive(Clone, Debug, Default)]
pub(super) struct Moment {
    /// Optimizer steps taken.
    pub(super) step: usize,
    /// The running phase; `None` before the first.
    pub(super) current: Option<Current>,
    /// Reports of a phase so far.
    pub(super) reports: u64,
    /// Phases started so far.
    pub(super) phases: u64,
    /// Signs of progress so far: reports and events.
    pub(super) moves: u64,
    /// The run has ended.
    pub(super) is_over: bool,
}

#[derive(Debug, Default)]
struct State {
    moment: Moment,
    peaks: DevicePeaks,
    notices: Vec<String>,
}

/// The trainer's phase and progress, shared between threads.
#[derive(Debug, Default)]
pub struct Activity {
    state: Mutex<State>,
    changed: Condvar,
}

impl Activity {
    fn state(&self) -> MutexGuard<'_, State> {
        // A thread that panicked with the lock held left complete values.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The run is `done` of `total` through a phase.
    pub(super) fn report(&self, phase: Phase, done: usize, total: usize, detail: &str) {
        let time = Timestamp::now();
        let mut state = self.state();
        let moment = &mut state.moment;
        moment.reports += 1;
        moment.moves += 1;
        match &mut moment.current {
            Some(current) if current.phase == phase && done >= current.done => {
                (current.done, current.total, current.time) = (done, total, time);
                if current.detail != detail {
                    detail.clone_into(&mut current.detail);
                }
            }
            current => {
                *current = Some(Current {
                    phase,
                    done,
                    total,
                    detail: detail.to_owned(),
                    time,
                    since: time,
                    peak_in_use: None,
                });
                moment.phases += 1;
                self.changed.notify_all();
            }
        }
    }

    /// The trainer appended an event.
    pub(super) fn count_event(&self) {
        self.state().moment.moves += 1;
    }

    /// Sets the number of optimizer steps taken.
    pub(super) fn set_step(&self, step: usize) {
        self.state().moment.step = step;
    }

    /// The run has ended.
    pub(super) fn end(&self) {
        self.state().moment.is_over = true;
        self.changed.notify_all();
    }

    /// A snapshot, once more than `phases` phases have started or the run has ended, at the latest
    /// after `patience`.
    pub(super) fn wait(&self, phases: u64, patience: Duration) -> Moment {
        let (state, _) = self
            .changed
            .wait_timeout_while(self.state(), patience, |state| {
                !state.moment.is_over && state.moment.phases <= phases
            })
            .unwrap_or_else(PoisonError::into_inner);
        state.moment.clone()
    }

    /// Records device memory in use, seen after `phases` phases had started. Ignored if another phase
    /// has started since.
    pub(super) fn see_memory(&self, phases: u64, in_use: u64) {
        let mut state = self.state();
        if state.moment.phases != phases {
            return;
        }
        let Some(current) = &mut state.moment.current else {
            return;
        };
        current.peak_in_use = current.peak_in_use.max(Some(in_use));
        let phase = current.phase;
        match phase {
            Phase::Rollout => state.peaks.rollout = state.peaks.rollout.max(Some(in_use)),
            Phase::Backward => state.peaks.backward = state.peaks.backward.max(Some(in_use)),
            _ => {}
        }
    }

    /// Returns the peaks since the last call.
    pub(super) fn take_peaks(&self) -> DevicePeaks {
        std::mem::take(&mut self.state().peaks)
    }

    /// Queues a message for the observer.
    pub(super) fn notice(&self, message: String) {
        self.state().notices.push(message);
    }

    /// Returns the messages queued since the last call.
    pub(super) fn take_notices(&self) -> Vec<String> {
        std::mem::take(&mut self.state().notices)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_starts_with_another_name_or_when_its_count_goes_back() {
        let activity = Activity::default();
        let phases = |phase, done| {
            activity.report(phase, done, 8, "");
            activity.wait(0, Duration::ZERO).phases
        };
        assert_eq!(phases(Phase::Rollout, 0), 1);
        assert_eq!(phases(Phase::Rollout, 3), 1);
        assert_eq!(phases(Phase::Backward, 8), 2);
        // The second iteration on the same completions.
        assert_eq!(phases(Phase::Backward, 0), 3);
        let moment = activity.wait(0, Duration::ZERO);
        let current = moment.current.unwrap();
        assert_eq!((moment.reports, current.done, current.total), (4, 0, 8));
        assert!(current.since == current.time);
    }

    #[test]
    fn peaks_belong_to_the_phase_in_which_they_were_seen() {
        let activity = Activity::default();
        activity.report(Phase::Rollout, 0, 8, "");
        activity.see_memory(1, 50);
        activity.see_memory(1, 40);
        activity.report(Phase::Backward, 0, 8, "");
        // Read before the phase changed.
        activity.see_memory(1, 90);
        activity.see_memory(2, 70);
        let peak = activity
            .wait(0, Duration::ZERO)
            .current
            .unwrap()
            .peak_in_use;
        assert_eq!(peak, Some(70));
        let peaks = DevicePeaks {
            rollout: Some(50),
            backward: Some(70),
        };
        assert_eq!(activity.take_peaks(), peaks);
        assert_eq!(activity.take_peaks(), DevicePeaks::default());
    }

    #[test]
    fn a_waiting_thread_is_woken_by_the_end() {
        let activity = Activity::default();
        std::thread::scope(|threads| {
            let waiting = threads.spawn(|| activity.wait(0, Duration::from_secs(3600)));
            activity.end();
            assert!(waiting.join().unwrap().is_over);
        });
    }
}
