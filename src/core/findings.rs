//! The results of the checks.

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::run::{Finding, Preflight};

/// The severity of a check's result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// No problem.
    Ok,
    /// A possible problem; the run is still useful.
    Warning,
    /// The run would be useless, or would not finish.
    Error,
}

/// The result of one check.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Check {
    /// One word, e.g. `rewards`; stable across releases.
    pub name: &'static str,
    /// The severity.
    pub severity: Severity,
    /// The message for the user. It describes a problem with the file or key, its value, and how to fix
    /// it.
    pub message: String,
    /// The numbers of the message, for programs; an object.
    pub details: Value,
}

impl Check {
    /// A check without a problem.
    pub fn ok(name: &'static str, message: impl Into<String>) -> Self {
        Self::new(name, Severity::Ok, message)
    }

    /// A check that found a possible problem.
    pub fn warning(name: &'static str, message: impl Into<String>) -> Self {
        Self::new(name, Severity::Warning, message)
    }

    /// A check that stops the run.
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

    /// Whether it depends on the current state of the machine.
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

/// All checks of an experiment, in the order of the report.
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

    /// Whether a check stops the run.
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

    /// The fields of the event `preflight`: the numbers of warnings and errors, and their messages.
    /// Numbers that vary, such as free space, only occur if they are the problem.
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
pub fn first_few<S: AsRef<str>>(ids: &[S]) -> String {
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
    fn a_report_counts_and_an_event_has_the_findings() {
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
    fn only_the_first_of_many_ids_are_listed() {
        assert_eq!(first_few(&["1", "2"]), "1, 2");
        assert_eq!(first_few(&["1"; 6]), "1, 1, 1, 1, 1, …");
    }
}
