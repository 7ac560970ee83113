//! One alarm for a condition that lasts for many steps.

use crate::run::{Alarm, Severity};

/// The judgement of a rule on the present.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Verdict {
    /// The condition holds: how bad it is, and the message of the alarm.
    Bad(Severity, String),
    /// Neither bad nor well again, or too little is known: what was raised stays raised.
    Between,
    /// It does not hold.
    Well,
}

/// Whether an alarm of one condition is up.
#[derive(Clone, Debug)]
pub(super) struct Latch {
    code: &'static str,
    raised: Option<Severity>,
}

impl Latch {
    pub(super) const fn new(code: &'static str) -> Self {
        Self { code, raised: None }
    }

    /// The alarm, if the condition begins or becomes worse.
    pub(super) fn take(&mut self, verdict: Verdict, step: usize) -> Option<Alarm> {
        match verdict {
            Verdict::Bad(severity, message) if self.raised < Some(severity) => {
                self.raised = Some(severity);
                Some(Alarm::new(self.code, severity, step, message))
            }
            Verdict::Bad(..) | Verdict::Between => None,
            Verdict::Well => {
                self.raised = None;
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_is_raised_once_until_it_is_worse_or_has_gone_away() {
        let mut latch = Latch::new("kl");
        let bad = |severity| Verdict::Bad(severity, String::new());
        let steps = [
            bad(Severity::Warning),
            bad(Severity::Warning),
            Verdict::Between,
            bad(Severity::Warning),
            bad(Severity::Critical),
            bad(Severity::Warning),
            Verdict::Well,
            bad(Severity::Warning),
        ];
        let raised: Vec<usize> = steps
            .into_iter()
            .enumerate()
            .filter_map(|(step, verdict)| Some(latch.take(verdict, step)?.step))
            .collect();
        assert_eq!(raised, [0, 4, 7]);
    }
}
