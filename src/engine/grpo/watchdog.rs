//! Notices that a run has stopped moving. It says so and does nothing else: whether to wait is for a
//! person to decide.

use std::time::{Duration, Instant};

use super::activity::{Current, Moment};
use super::observe::Phase;
use moim_core::health::{Alarm, Severity};
use moim_core::run::{Event, Moving, Stall};

/// Watches for signs of progress.
#[derive(Debug)]
pub(super) struct Watchdog {
    /// The longest silence; `None` where nobody watches.
    limit: Option<Duration>,
    moves: u64,
    /// When the last of them was seen.
    since: Instant,
    is_told: bool,
}

impl Watchdog {
    /// Watches from `now` on, with a limit in minutes; 0 is none.
    pub(super) fn new(minutes: f64, now: Instant) -> Self {
        let limit = Duration::try_from_secs_f64(minutes * 60.0).unwrap_or_default();
        Self {
            limit: (!limit.is_zero()).then_some(limit),
            moves: 0,
            since: now,
            is_told: false,
        }
    }

    /// Looks at the run; answers the alarm once a stall, and once that it moves again.
    pub(super) fn look(&mut self, moment: &Moment, now: Instant) -> Option<Event> {
        let (limit, current) = (self.limit?, moment.current.as_ref()?);
        let silence = now.saturating_duration_since(self.since);
        if moment.moves != self.moves {
            self.moves = moment.moves;
            self.since = now;
            return std::mem::take(&mut self.is_told).then(|| moving(moment, current, silence));
        }
        if self.is_told || silence < limit {
            return None;
        }
        self.is_told = true;
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
             run.watchdog_minutes, 0 to ask for none). The run was left as it is; see what it takes of the machine in \
             system.jsonl, and whether something it reads or writes hangs. If it has to be ended, \
             --resume goes on from the last save point",
            place(moment, current),
            in_words(silence),
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
        in_words(silence),
        place(moment, current)
    );
    Event::new(Moving {
        step: step_of(moment, current).0,
        phase: Some(current.phase.name().to_owned()),
        seconds: Some(silence.as_secs_f64()),
        message,
    })
}

/// `rollout of step 12`; what belongs to no step comes after one.
fn place(moment: &Moment, current: &Current) -> String {
    let (step, preposition) = step_of(moment, current);
    format!("{} {preposition} step {step}", current.phase.name())
}

/// The step that a phase is of, or comes after.
fn step_of(moment: &Moment, current: &Current) -> (usize, &'static str) {
    match current.phase {
        Phase::Rollout | Phase::Reward | Phase::Reference | Phase::Backward => {
            (moment.step + 1, "of")
        }
        Phase::Save | Phase::Inference | Phase::Scoring | Phase::Paused => (moment.step, "after"),
    }
}

fn in_words(time: Duration) -> String {
    match time.as_secs() {
        0..90 => format!("{:.0} s", time.as_secs_f64()),
        seconds => format!("{} min", seconds / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::super::activity::Activity;
    use super::*;
    use moim_core::run::EventKind;

    fn moment(activity: &Activity) -> Moment {
        activity.wait(0, Duration::ZERO)
    }

    #[test]
    fn a_stall_is_told_once_and_so_is_its_end() {
        let begun = Instant::now();
        let minutes = |minutes: u64| begun + Duration::from_secs(60 * minutes);
        let activity = Activity::default();
        let mut watchdog = Watchdog::new(10.0, begun);
        // Nothing has begun.
        assert_eq!(watchdog.look(&moment(&activity), minutes(60)), None);
        activity.set_step(11);
        activity.report(Phase::Rollout, 3, 8, "1820 tokens");
        assert_eq!(watchdog.look(&moment(&activity), minutes(60)), None);
        assert_eq!(watchdog.look(&moment(&activity), minutes(69)), None);
        let alarm = watchdog.look(&moment(&activity), minutes(70)).unwrap();
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
        assert_eq!(watchdog.look(&moment(&activity), minutes(600)), None);
        activity.report(Phase::Reward, 0, 1, "");
        let end = watchdog.look(&moment(&activity), minutes(601)).unwrap();
        let EventKind::Moving(end) = end.kind else {
            panic!("{end:?}");
        };
        assert_eq!(
            (end.message.as_str(), end.step),
            ("it moves again after 541 min: reward of step 12", 12)
        );
        assert_eq!(watchdog.look(&moment(&activity), minutes(610)), None);
        // An event is a sign of progress too.
        activity.take_event();
        assert_eq!(watchdog.look(&moment(&activity), minutes(612)), None);
        assert_eq!(watchdog.look(&moment(&activity), minutes(621)), None);
        let again = watchdog.look(&moment(&activity), minutes(622)).unwrap();
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
            assert_eq!(watchdog.look(&moment(&activity), later), None);
        }
    }
}
