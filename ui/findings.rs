//! The findings of the checks before the first step, as text.

use std::path::Path;

use moim_core::findings::{Report, Severity};

use crate::tui::wrap;

/// Cells before a message in [`text`].
const INDENT: usize = 25;

/// The complete report with the prompt, wrapped to `columns` cells on a terminal.
pub fn text(report: &Report, experiment: &Path, columns: Option<usize>) -> String {
    let mut text = format!(
        "checks of {} in {:.1} s\n",
        experiment.display(),
        report.seconds
    );
    for check in &report.checks {
        let mark = match check.severity {
            Severity::Ok => "ok",
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        let lines = match columns {
            Some(columns) => wrap(&check.message, columns.saturating_sub(INDENT).max(INDENT)),
            None => check.message.lines().map(str::to_owned).collect(),
        };
        let name = check.name.replace('_', " ");
        // Further lines of a message are aligned with its first one.
        let message = lines.join(&format!("\n{:INDENT$}", ""));
        text.push_str(&format!("  {mark:<8}{name:<15}{message}\n"));
    }
    let prompt = report.checks.iter().find(|check| check.name == "prompt");
    if let Some(prompt) = prompt.and_then(|check| check.details["text"].as_str()) {
        text.push_str(&format!(
            "the complete prompt:\n{}\n",
            prompt.trim_end_matches('\n')
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use moim_core::findings::Check;
    use unicode_width::UnicodeWidthStr;

    use super::*;

    #[test]
    fn a_report_is_wrapped_on_a_terminal_and_not_elsewhere() {
        let long = "한국어 어문 규범에 따라 답하세요. ".repeat(8);
        let report = Report {
            checks: vec![
                Check::ok("prompt_lengths", &long),
                Check::error("inputs", "첫째\n둘째"),
            ],
            seconds: 0.04,
        };
        let experiment = Path::new("experiments/demo.toml");
        let narrow = text(&report, experiment, Some(80));
        assert!(narrow.lines().all(|line| line.width() <= 80), "{narrow}");
        assert!(narrow.lines().count() > 5, "{narrow}");
        let whole = text(&report, experiment, None);
        let lines: Vec<&str> = whole.lines().collect();
        assert_eq!(lines.len(), 4);
        assert!(
            lines[1].starts_with("  ok      prompt lengths 한국어"),
            "{whole}"
        );
        assert_eq!(lines[3], format!("{:25}둘째", ""));
    }
}
