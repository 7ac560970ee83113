//! What the checks answer.

use serde::Serialize;
use serde_json::{Map, Value, json};

use moim_core::run::{Finding, Preflight};

/// How much the outcome of a check matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Worth a look; the run is of use all the same.
    Warning,
    /// The run would be of no use, or would not reach its end.
    Error,
}

/// The outcome of one check.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Check {
    /// In one word, e.g. `rewards`; the same from release to release.
    pub name: &'static str,
    /// How much it matters.
    pub severity: Severity,
    /// For people. Where not all is well it names the file or key with its value, and the way out.
    pub message: String,
    /// The numbers behind the message, for programs; an object.
    pub details: Value,
}

impl Check {
    /// A check that found nothing wrong.
    pub fn ok(name: &'static str, message: impl Into<String>) -> Self {
        Self::new(name, Severity::Ok, message)
    }

    /// A check that found something worth a look.
    pub fn warning(name: &'static str, message: impl Into<String>) -> Self {
        Self::new(name, Severity::Warning, message)
    }

    /// A check that speaks against the run.
    pub fn error(name: &'static str, message: impl Into<String>) -> Self {
        Self::new(name, Severity::Error, message)
    }

    fn new(name: &'static str, severity: Severity, message: impl Into<String>) -> Self {
        Self {
            name,
            severity,
            message: message.into(),
            details: Value::Object(Map::new()),
        }
    }

    /// Whether it depends on the machine as it is at this moment.
    pub fn is_of_machine(&self) -> bool {
        matches!(self.name, "disk" | "cache" | "memory")
    }

    /// The same with `details`, an object.
    #[must_use]
    pub fn with(mut self, details: Value) -> Self {
        self.details = details;
        self
    }
}

/// All checks of an experiment, in the order in which they are told.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// The checks.
    pub checks: Vec<Check>,
    /// How long they took, in seconds.
    pub seconds: f64,
}

impl Report {
    /// The checks of this severity.
    pub fn of(&self, severity: Severity) -> impl Iterator<Item = &Check> {
        self.checks
            .iter()
            .filter(move |check| check.severity == severity)
    }

    /// Whether something speaks against the run.
    pub fn has_errors(&self) -> bool {
        self.of(Severity::Error).next().is_some()
    }

    /// The whole report as an object: `warnings`, `errors`, `seconds`, `checks`.
    pub fn json(&self) -> Value {
        json!({
            "warnings": self.of(Severity::Warning).count(),
            "errors": self.of(Severity::Error).count(),
            "seconds": self.seconds,
            "checks": self.checks,
        })
    }

    /// The fields of the event `preflight`: how many warnings and errors, and what they say. Numbers
    /// that differ from time to time (free space, say) occur only where they are the trouble.
    pub fn to_event(&self) -> Preflight {
        let severity = |check: &Check| match check.severity {
            Severity::Error => "error",
            _ => "warning",
        };
        let findings = self
            .checks
            .iter()
            .filter(|check| check.severity > Severity::Ok)
            .map(|check| Finding {
                check: check.name.to_owned(),
                severity: severity(check).to_owned(),
                message: check.message.clone(),
                unknown: Map::new(),
            });
        Preflight {
            warnings: self.of(Severity::Warning).count(),
            errors: self.of(Severity::Error).count(),
            findings: Some(findings.collect()),
            seconds: Some(self.seconds),
        }
    }
}

/// The first few ids, for a message: `1, 2, 3, …`.
pub(super) fn first_few<S: AsRef<str>>(ids: &[S]) -> String {
    const SHOWN: usize = 5;
    let mut text = ids
        .iter()
        .take(SHOWN)
        .map(AsRef::as_ref)
        .collect::<Vec<_>>()
        .join(", ");
    if ids.len() > SHOWN {
        text.push_str(", …");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_counts_and_an_event_carries_what_was_found() {
        let report = Report {
            checks: vec![
                Check::ok("stop", "2 end tokens"),
                Check::warning("leak", "세 문항이 겹친다"),
                Check::error("disk", "full").with(json!({ "free": 1 })),
            ],
            seconds: 0.5,
        };
        assert!(report.has_errors());
        let json = report.json();
        assert_eq!(
            (&json["warnings"], &json["errors"], &json["seconds"]),
            (&json!(1), &json!(1), &json!(0.5))
        );
        assert_eq!(json["checks"][0]["severity"], "ok");
        assert_eq!(json["checks"][2]["details"]["free"], 1);
        let findings = report.to_event().findings;
        assert_eq!(
            serde_json::to_value(findings).unwrap(),
            json!([
                { "check": "leak", "severity": "warning", "message": "세 문항이 겹친다" },
                { "check": "disk", "severity": "error", "message": "full" },
            ])
        );
        assert!(!Report::default().has_errors());
    }

    #[test]
    fn of_many_ids_the_first_are_told() {
        assert_eq!(first_few(&["1", "2"]), "1, 2");
        assert_eq!(first_few(&["1"; 6]), "1, 1, 1, 1, 1, …");
    }
}
