//! Notices that a run has stopped moving. It raises an alarm and does nothing else: the user decides
//! whether to wait.

use std::time::{Duration, Instant};

use super::Phase;
use super::activity::{Current, Moment};
use crate::health::{Alarm, Severity};
use crate::run::{Event, Moving, Stall};

/// Watches for signs of progress.
#[derive(Debug)]
pub(super) struct Watchdog {
    /// The longest silence; `None` if there is no watch.
    limit: Option<Duration>,
    moves: u64,
    /// When the last sign of progress was seen.
    since: Instant,
    is_reported: bool,
}

impl Watchdog {
    /// Watches from `now` on, with a limit in minutes; 0 turns the watch off.
    pub(super) fn new(minutes: f64, now: Instant) -> Self {
        let limit = Duration::try_from_secs_f64(minutes * 60.0).unwrap_or_default();
        Self {
            limit: (!limit.is_zero()).then_some(limit),
            moves: 0,
            since: now,
            is_reported: false,
        }
    }

    /// Checks a snapshot of the run. Returns one event when a stall starts and one when it ends.
    pub(super) fn check(&mut self, moment: &Moment, now: Instant) -> Option<Event> {
        let (limit, current) = (self.limit?, moment.current.as_ref()?);
        let silence = now.saturating_duration_since(self.since);
        if moment.moves != self.moves {
            self.moves = moment.moves;
            self.since = now;
            return std::mem::take(&mut self.is_reported).then(|| moving(moment, current, silence));
        }
        if self.is_reported || silence < limit {
            return None;
        }
        self.is_reported = true;
        Some(stalled(moment, current, silence))
    }
}

fn stalled(moment: &Moment, current: &Current, silence: Duration) -> Event {
    let mut last = match current.total {
        0..=1 => "only that it began".to_owned(),
        total => format!("{} of {total}", current.done),
    };
    if !current.detail.is_empty() {
        last.push_str(&format!(" ({})", current.detail));
    }
    let alarm = Alarm::new(
        Alarm::STALLED,
        Severity::Warning,
        step_of(moment, current).0,
        format!(
            "{} has not moved for {}; last: {last}, at {:.0} (healthy: a sign of progress within \
             run.watchdog_minutes, 0 turns this off). The run keeps going; see its use of the machine in system.jsonl, and \
             whether something it reads or writes hangs. If you end it, --resume resumes from the last save point",
            phase_and_step(moment, current),
            as_text(silence),
            current.time
        ),
    );
    Event::new(Alarm {
        stall: Some(Stall {
            phase: current.phase.name().to_owned(),
            done: current.done,
            total: current.total,
            since: current.time,
        }),
        ..alarm
    })
}

fn moving(moment: &Moment, current: &Current, silence: Duration) -> Event {
    let message = format!(
        "it moves again after {}: {}",
        as_text(silence),
        phase_and_step(moment, current)
    );
    Event::new(Moving {
        step: step_of(moment, current).0,
        phase: Some(current.phase.name().to_owned()),
        seconds: Some(silence.as_secs_f64()),
        message,
    })
}

/// `rollout of step 12`, or `save after step 12` for a phase that belongs to no step.
fn phase_and_step(moment: &Moment, current: &Current) -> String {
    let (step, preposition) = step_of(moment, current);
    format!("{} {preposition} step {step}", current.phase.name())
}

/// The step that a phase belongs to or follows.
fn step_of(moment: &Moment, current: &Current) -> (usize, &'static str) {
    match current.phase {
        Phase::Rollout | Phase::Reward | Phase::Reference | Phase::Backward => {
            (moment.step + 1, "of")
        }
        Phase::Save | Phase::Inference | Phase::Scoring | Phase::Paused => (moment.step, "after"),
    }
}

fn as_text(time: Duration) -> String {
    match time.as_secs() {
        0..90 => format!("{:.0} s", time.as_secs_f64()),
        seconds => format!("{} min", seconds / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::activity::Activity;
    use crate::run::EventKind;

    fn moment(activity: &Activity) -> Moment {
        activity.wait(0, Duration::ZERO)
    }

    #[test]
    fn a_stall_is_reported_once_and_so_is_its_end() {
        let begun = Instant::now();
        let minutes = |minutes: u64| begun + Duration::from_secs(60 * minutes);
        let activity = Activity::default();
        let mut watchdog = Watchdog::new(10.0, begun);
        // No phase has started.
        assert_eq!(watchdog.check(&moment(&activity), minutes(60)), None);
        activity.set_step(11);
        activity.report(Phase::Rollout, 3, 8, "1820 tokens");
        assert_eq!(watchdog.check(&moment(&activity), minutes(60)), None);
        assert_eq!(watchdog.check(&moment(&activity), minutes(69)), None);
        let alarm = watchdog.check(&moment(&activity), minutes(70)).unwrap();
        let alarm = alarm.alarms().remove(0);
        let message = &alarm.message;
        assert!(
            message.starts_with(
                "rollout of step 12 has not moved for 10 min; last: 3 of 8 (1820 tokens), at "
            ),
            "{message}"
        );
        assert_eq!(
            (
                alarm.code.as_ref(),
                alarm.stall.unwrap().phase.as_str(),
                alarm.step
            ),
            (Alarm::STALLED, "rollout", 12)
        );
        assert_eq!(watchdog.check(&moment(&activity), minutes(600)), None);
        activity.report(Phase::Reward, 0, 1, "");
        let end = watchdog.check(&moment(&activity), minutes(601)).unwrap();
        let EventKind::Moving(end) = end.kind else {
            panic!("{end:?}");
        };
        assert_eq!(
            (end.message.as_str(), end.step),
            ("it moves again after 541 min: reward of step 12", 12)
        );
        assert_eq!(watchdog.check(&moment(&activity), minutes(610)), None);
        // An event is a sign of progress too.
        activity.count_event();
        assert_eq!(watchdog.check(&moment(&activity), minutes(612)), None);
        assert_eq!(watchdog.check(&moment(&activity), minutes(621)), None);
        let again = watchdog.check(&moment(&activity), minutes(622)).unwrap();
        assert!(again.alarms()[0].message.contains("only that it began"));
    }

    #[test]
    fn zero_minutes_watch_nothing() {
        let activity = Activity::default();
        activity.report(Phase::Save, 0, 1, "epoch_1");
        let now = Instant::now();
        let mut watchdog = Watchdog::new(0.0, now);
        for hours in 0..100 {
            let later = now + Duration::from_secs(3600 * hours);
            assert_eq!(watchdog.check(&moment(&activity), later), None);
        }
    }
}
