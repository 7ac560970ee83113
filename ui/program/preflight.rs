//! Shows the checks before the first step.

use moim_core::experiment::Experiment;
use moim_core::run::RunDir;
use moim_engine::preflight::{self, Check, Machine, Report, Severity};
use moim_engine::session::{self, Loaded};
use moim_engine::setup::{self, Texts};

use moim_ui::console::Console;
use moim_ui::failure::{self, Failure, exit};

/// Checks a training before its weights are loaded, and shows the findings; `resumed` is the run to
/// resume.
///
/// # Errors
/// A check found an error, and `is_forced` is not set.
pub fn before_training(
    loaded: &mut Loaded,
    resumed: Option<&RunDir>,
    is_forced: bool,
    console: &Console,
) -> Result<(), Failure> {
    // A run without a save point starts over, so everything is checked again.
    let continued = match resumed {
        Some(run) if session::latest_save_point(run)?.is_some() => Some(run),
        _ => None,
    };
    let again;
    let report = match continued {
        Some(run) => {
            again = loaded.check_again(run);
            &again
        }
        None => loaded.check()?,
    };
    // The user accepted the other errors when the run was started.
    let is_new = |check: &Check| resumed.is_none() || check.is_of_machine();
    let stops = |check: &Check| !is_forced && is_new(check);
    show(report, continued.is_some(), stops, console);
    let stopping: Vec<&str> = report
        .of(Severity::Error)
        .filter(|check| is_new(check))
        .map(|check| check.name)
        .collect();
    let names = stopping.join(", ");
    if stopping.is_empty() {
        return Ok(());
    }
    if is_forced {
        console.report(&format!(
            "warning: continuing despite the checks ({names}): --force"
        ));
        return Ok(());
    }
    Err(failure::usage(format!(
        "stopped before the first step by the checks ({names}); nothing was written; moim plan \
         EXPERIMENT --check shows them all, moim --no-ui EXPERIMENT --force continues anyway"
    )))
}

/// Checks whose numbers are shown at every start even without a problem; the others share one line.
const SHOWN: [&str; 5] = ["prompt", "answer_lengths", "rewards", "disk", "memory"];

fn show(report: &Report, is_continued: bool, stops: impl Fn(&Check) -> bool, console: &Console) {
    let mut passed = Vec::new();
    for check in &report.checks {
        match check.severity {
            Severity::Ok if is_continued => {}
            Severity::Ok if SHOWN.contains(&check.name) => {
                console.note(&line(check.name, &check.message));
            }
            Severity::Ok => passed.push(check.name.replace('_', " ")),
            Severity::Error if stops(check) => console.report(&format!("error: {}", check.message)),
            Severity::Error | Severity::Warning => {
                console.report(&format!("warning: {}", check.message));
            }
        }
    }
    if !passed.is_empty() {
        console.note(&line("no problem with", &passed.join(", ")));
    }
}

/// `check    rewards: …`, like the other first lines of a run.
fn line(name: &str, message: &str) -> String {
    format!("{:<8} {}: {message}", "check", name.replace('_', " "))
}

/// The checks of an experiment without training it, and their exit code. A missing file is a finding.
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

/// The width of the terminal on stdout, in cells.
pub fn terminal_columns() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
    (size.ws_col > 0).then_some(usize::from(size.ws_col))
}
