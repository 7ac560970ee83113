//! The checks before the first step, as lines for people.

use std::path::Path;

use moim_core::experiment::Experiment;
use moim_core::run::RunDir;
use moim_engine::grpo::{self, Groundwork};
use moim_engine::preflight::{self, Check, Machine, Report, Severity};
use moim_engine::setup::{self, Texts};

use moim_ui::console::Console;
use moim_ui::failure::{self, Failure, exit};
use moim_ui::tui::wrap;

/// Checks a training before its weights are loaded, and shows what was found; `resumed` is the run
/// that goes on.
///
/// # Errors
/// Something speaks against the run, and `is_forced` does not say to go on all the same.
pub fn before_training(
    groundwork: &mut Groundwork,
    resumed: Option<&RunDir>,
    is_forced: bool,
    console: &Console,
) -> Result<(), Failure> {
    // A run without a save point begins anew, and so do its checks.
    let goes_on = match resumed {
        Some(run) if grpo::latest_save_point(run)?.is_some() => Some(run),
        _ => None,
    };
    let again;
    let report = match goes_on {
        Some(run) => {
            again = groundwork.check_again(run);
            &again
        }
        None => groundwork.check()?,
    };
    // What else was found stood against the run when it began, and somebody let it go on.
    let speaks_against = |check: &Check| resumed.is_none() || check.is_of_machine();
    let stops = |check: &Check| !is_forced && speaks_against(check);
    show(report, goes_on.is_some(), stops, console);
    let stopping: Vec<&str> = report
        .of(Severity::Error)
        .filter(|check| speaks_against(check))
        .map(|check| check.name)
        .collect();
    let names = stopping.join(", ");
    if stopping.is_empty() {
        return Ok(());
    }
    if is_forced {
        console.tell(&format!(
            "warning: going on in spite of the checks ({names}): --force"
        ));
        return Ok(());
    }
    Err(failure::usage(format!(
        "stopped before the first step by the checks ({names}), and nothing was written; moim plan \
         EXPERIMENT --check shows them all, moim --no-ui EXPERIMENT --force goes on all the same"
    )))
}

/// What is well and has numbers worth a look at every start; the rest is named in one line.
const TOLD: [&str; 5] = ["prompt", "answer_lengths", "rewards", "disk", "memory"];

fn show(report: &Report, goes_on: bool, stops: impl Fn(&Check) -> bool, console: &Console) {
    let mut well = Vec::new();
    for check in &report.checks {
        match check.severity {
            Severity::Ok if goes_on => {}
            Severity::Ok if TOLD.contains(&check.name) => {
                console.note(&line(check.name, &check.message));
            }
            Severity::Ok => well.push(check.name.replace('_', " ")),
            Severity::Error if stops(check) => console.tell(&format!("error: {}", check.message)),
            Severity::Error | Severity::Warning => {
                console.tell(&format!("warning: {}", check.message));
            }
        }
    }
    if !well.is_empty() {
        console.note(&line("nothing wrong with", &well.join(", ")));
    }
}

/// `check    rewards: …`, as the other first lines of a run.
fn line(name: &str, message: &str) -> String {
    format!("{:<8} {}: {message}", "check", name.replace('_', " "))
}

/// The checks of an experiment that is not to be trained now, and the exit code for them. What is
/// absent is a finding.
pub fn of_experiment(experiment: &Experiment) -> (Report, u8) {
    let machine = Machine::of(experiment);
    let (of_rewards, of_texts): (Vec<_>, Vec<_>) = experiment
        .check_files()
        .into_iter()
        .partition(|fault| fault.key.starts_with("bertscore.") || fault.key.starts_with("reward."));
    let unread = |why: &str, code| {
        let report = preflight::check_unread(experiment, why, &machine);
        (report, code)
    };
    if !of_texts.is_empty() {
        let faults: Vec<String> = of_texts.iter().map(ToString::to_string).collect();
        return unread(&faults.join("\n"), exit::USAGE);
    }
    let texts = match Texts::load(experiment) {
        Ok(texts) => texts,
        Err(error) => {
            let failure = Failure::from(error);
            return unread(&failure.text().unwrap_or_default(), failure.code());
        }
    };
    let mut rewards = if of_rewards.is_empty() {
        setup::devices(experiment)
            .and_then(|devices| setup::rewards(experiment, &texts.labels, &devices[0]))
            .map_err(|error| failure::describe(&error))
    } else {
        Err(of_rewards
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("\n"))
    };
    let report = preflight::check(
        &texts,
        rewards.as_mut().map_err(|why| why.clone()),
        &machine,
    );
    let code = if report.has_errors() {
        exit::USAGE
    } else {
        exit::DONE
    };
    (report, code)
}

/// Cells before a message in [`text`].
const INDENT: usize = 25;

/// The report whole, the prompt with it, in lines of at most `columns` cells where a terminal has so
/// many.
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
        // Further lines of a message stand under its first one.
        let message = lines.join(&format!("\n{:INDENT$}", ""));
        text.push_str(&format!("  {mark:<8}{name:<15}{message}\n"));
    }
    let prompt = report.checks.iter().find(|check| check.name == "prompt");
    if let Some(prompt) = prompt.and_then(|check| check.details["text"].as_str()) {
        text.push_str(&format!(
            "the prompt, whole:\n{}\n",
            prompt.trim_end_matches('\n')
        ));
    }
    text
}

/// The width of the terminal that stdout is, in cells.
pub fn terminal_columns() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
    (size.ws_col > 0).then_some(usize::from(size.ws_col))
}

#[cfg(test)]
mod tests {
    use moim_engine::preflight::Check;
    use unicode_width::UnicodeWidthStr;

    use super::*;

    #[test]
    fn a_report_keeps_to_the_columns_of_a_terminal_and_to_lines_elsewhere() {
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
