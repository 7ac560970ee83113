//! What can be asked of the trainer: pausing, saving, stopping, killing, going on.

use moim_core::run::{Request, RunStatus};

use crate::tui::data::index::Condition;
use crate::tui::data::run::OpenRun;
use crate::tui::message::{Choice, Command, Dialog, Effect, Notice};

/// Pauses a run that is at work, and lets a paused one go on.
pub(super) fn pause_or_continue(open: &OpenRun) -> Command {
    // A run on another machine is asked through the same files; what it does is its own word.
    let says = open.state.as_ref().map(|state| state.state);
    match (open.condition(), says) {
        (Condition::Paused, _) | (Condition::Elsewhere, Ok(RunStatus::Paused)) => {
            ask(open, Request::Resume)
        }
        (Condition::Running | Condition::Elsewhere, _) => ask(open, Request::Pause),
        _ => refused(open, "paused"),
    }
}

/// Asks for a save point.
pub(super) fn save(open: &OpenRun) -> Command {
    match is_reachable(open) {
        true => ask(open, Request::Save),
        false => refused(open, "saved"),
    }
}

/// Asks whether to stop after the step under way.
pub(super) fn stop(open: &OpenRun) -> Command {
    if !is_reachable(open) {
        return refused(open, "stopped");
    }
    confirm(
        "Stop",
        format!("{} ends after its step and saves first.", open.id()),
        "Nothing is lost: R goes on from there.",
        "save and stop",
        ask(open, Request::Stop),
    )
}

/// Asks whether to kill the trainer.
pub(super) fn kill(open: &OpenRun) -> Command {
    match open.condition() {
        Condition::Running | Condition::Paused | Condition::Starting => confirm(
            "Kill",
            format!("{} ends at once, without saving.", open.id()),
            "The steps since its latest save point are lost; R takes them again.",
            "kill",
            Effect::Kill {
                run: open.path.clone(),
            }
            .into(),
        ),
        Condition::Elsewhere => {
            let host = open.state.as_ref().map(|state| state.host.as_str());
            Notice::error(format!(
                "{} runs on {}: kill it there, or stop it with t",
                open.id(),
                host.unwrap_or("another machine")
            ))
        }
        _ => refused(open, "killed"),
    }
}

/// Goes on with a run that is over or dead.
pub(super) fn resume(open: &OpenRun) -> Command {
    match open.condition() {
        Condition::Dead | Condition::Failed | Condition::Stopped => Effect::Resume {
            run: open.path.clone(),
        }
        .into(),
        Condition::Paused => ask(open, Request::Resume),
        Condition::Finished => {
            Notice::info("this run has taken all its steps: 5 ranks its save points")
        }
        Condition::Unreadable => {
            Notice::error("run.json cannot be read, so there is nothing to go on from")
        }
        Condition::Running | Condition::Starting | Condition::Elsewhere => {
            Notice::info("this run is under way")
        }
    }
}

/// The way out of the condition that a run is in; empty where there is nothing to do.
pub(super) fn way_out(open: &OpenRun) -> String {
    let state = open.state.as_ref();
    let says = state.ok().and_then(|state| state.message.as_deref());
    let latest = state.ok().and_then(|state| state.latest_checkpoint);
    let from = match latest {
        Some(point) => format!("R goes on from {point}"),
        None => "R starts it again: it has no save point yet".to_owned(),
    };
    match (open.condition(), &open.state) {
        (Condition::Dead, _) => format!("Its process is gone. {from}; g l shows its last words."),
        (Condition::Failed, _) => {
            format!(
                "{}. {from}; g l shows its log.",
                says.unwrap_or("It failed")
            )
        }
        (Condition::Stopped, _) => format!("It saved and stopped. {from}."),
        (Condition::Finished, _) => "All steps are taken. 5 ranks its save points.".to_owned(),
        (Condition::Paused, _) => "It waits. p goes on.".to_owned(),
        (Condition::Starting, _) => "It is starting: the model and the data are read.".to_owned(),
        (Condition::Unreadable, _) if open.is_there == Some(false) => {
            "Its directory is gone. 1 shows the runs there are.".to_owned()
        }
        (Condition::Unreadable, Err(problem)) => format!("run.json: {problem}"),
        (Condition::Elsewhere, Ok(state)) => format!("It runs on {}.", state.host),
        _ => String::new(),
    }
}

fn is_reachable(open: &OpenRun) -> bool {
    matches!(
        open.condition(),
        Condition::Running | Condition::Paused | Condition::Elsewhere
    )
}

fn ask(open: &OpenRun, request: Request) -> Command {
    Effect::Ask {
        run: open.path.clone(),
        request,
    }
    .into()
}

fn refused(open: &OpenRun, word: &str) -> Command {
    let condition = open.condition();
    let advice = match condition {
        Condition::Starting => "wait until it has started",
        Condition::Dead | Condition::Failed | Condition::Stopped => "R goes on with it",
        _ => "there is no trainer at work on it",
    };
    let id = open.id();
    Notice::error(format!(
        "{id} is {}, so it cannot be {word}: {advice}",
        condition.name()
    ))
}

fn confirm(title: &str, what: String, then: &str, label: &str, command: Command) -> Command {
    Command::Ask(Dialog {
        title: title.to_owned(),
        lines: vec![what, then.to_owned()],
        choices: vec![Choice::new('y', label, vec![command])],
    })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use moim_core::run::Liveness;

    use super::super::sample::{RUN, news, world};
    use super::*;

    fn with_run<T>(status: RunStatus, liveness: Liveness, work: impl FnOnce(&OpenRun) -> T) -> T {
        work(world(news(status, liveness)).open.as_ref().unwrap())
    }

    fn asks(request: Request) -> Command {
        let run = PathBuf::from(RUN);
        Command::Effect(Effect::Ask { run, request })
    }

    #[test]
    fn pausing_goes_by_what_the_run_does_here_or_elsewhere() {
        for (status, liveness, request) in [
            (RunStatus::Running, Liveness::Alive, Request::Pause),
            (RunStatus::Paused, Liveness::Alive, Request::Resume),
            (RunStatus::Running, Liveness::Unknown, Request::Pause),
            (RunStatus::Paused, Liveness::Unknown, Request::Resume),
        ] {
            let asked = with_run(status, liveness, pause_or_continue);
            assert_eq!(asked, asks(request), "{status} {liveness:?}");
        }
    }

    #[test]
    fn only_what_is_over_or_dead_is_resumed() {
        for (status, liveness) in [
            (RunStatus::Running, Liveness::Dead),
            (RunStatus::Stopped, Liveness::Ended),
            (RunStatus::Failed, Liveness::Ended),
        ] {
            let run = PathBuf::from(RUN);
            let resumed = Command::Effect(Effect::Resume { run });
            assert_eq!(with_run(status, liveness, resume), resumed);
        }
        let paused = with_run(RunStatus::Paused, Liveness::Alive, resume);
        assert_eq!(paused, asks(Request::Resume));
        let running = with_run(RunStatus::Running, Liveness::Alive, resume);
        assert!(matches!(running, Command::Tell(_)));
    }

    #[test]
    fn stopping_and_killing_ask_first_and_saving_does_not() {
        let run = || PathBuf::from(RUN);
        let confirmed = |work: fn(&OpenRun) -> Command| match with_run(
            RunStatus::Running,
            Liveness::Alive,
            work,
        ) {
            Command::Ask(dialog) => dialog.choices[0].commands.clone(),
            other => panic!("{other:?}"),
        };
        assert_eq!(confirmed(stop), [asks(Request::Stop)]);
        assert_eq!(
            confirmed(kill),
            [Command::Effect(Effect::Kill { run: run() })]
        );
        let saved = with_run(RunStatus::Running, Liveness::Alive, save);
        assert_eq!(saved, asks(Request::Save));
    }

    #[test]
    fn nothing_is_asked_of_a_finished_run() {
        for work in [pause_or_continue, save, stop, kill] {
            let told = with_run(RunStatus::Finished, Liveness::Ended, work);
            assert!(matches!(told, Command::Tell(notice) if notice.is_error));
        }
    }
}
