//! An alarm, and the event that carries it.

use crate::run::Event;

/// The name of the event that carries an alarm.
const EVENT: &str = "alarm";

/// How much an alarm matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Outside the healthy range: worth a look.
    Warning,
    /// Going on as it is will most likely waste the run.
    Critical,
}

impl Severity {
    /// The word in the event.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }

    /// The severity of an `alarm` event; a warning where it says none that is known.
    pub fn of(event: &Event) -> Self {
        match event.text("severity") {
            Some("critical") => Self::Critical,
            _ => Self::Warning,
        }
    }
}

impl std::fmt::Display for Severity {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.pad(self.as_str())
    }
}

/// Something about a run that a person should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alarm {
    /// The condition in one word, e.g. `entropy_collapse`; the same for every alarm of it.
    pub code: &'static str,
    /// How much it matters.
    pub severity: Severity,
    /// A sentence with the numbers, the healthy range and the way out.
    pub message: String,
    /// The optimizer step at which the condition began.
    pub step: usize,
}

impl Alarm {
    /// The event that tells it: `step`, `code`, `severity` and `message`.
    pub fn to_event(&self) -> Event {
        Event::new(EVENT)
            .with("step", self.step)
            .with("code", self.code)
            .with("severity", self.severity.as_str())
            .with("message", self.message.as_str())
    }

    /// Whether `event` tells this condition at this step.
    pub fn is_told_by(&self, event: &Event) -> bool {
        event.name == EVENT
            && event.text("code") == Some(self.code)
            && event.number("step") == Some(self.step as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_is_told_by_its_event() {
        let alarm = Alarm {
            code: "kl",
            severity: Severity::Critical,
            message: "far away".to_owned(),
            step: 7,
        };
        let mut event = alarm.to_event();
        event.time = "2026-11-22T03:33:24Z".parse().unwrap();
        assert_eq!(
            event.to_line(),
            r#"{"v":1,"time":"2026-11-22T03:33:24Z","event":"alarm","step":7,"code":"kl","severity":"critical","message":"far away"}"#
        );
        assert!(alarm.is_told_by(&event));
        assert!(!alarm.is_told_by(&event.clone().with("step", 8usize)));
        assert_eq!(Severity::of(&event), Severity::Critical);
        // As alarms were before they had a severity.
        assert_eq!(Severity::of(&Event::new("alarm")), Severity::Warning);
    }
}
