//! Requests to a run's trainer: pause, save, stop, kill, resume.

use std::path::Path;

use moim_core::run::{Liveness, Request, RunState, RunStatus};

use super::experiments::launch;
use crate::tui::data::index::{Condition, RunEntry};
use crate::tui::data::run::OpenRun;
use crate::tui::message::{Choice, Command, Dialog, Effect, Notice};
use crate::tui::state::Context;

/// A run of the list, or the open one.
pub(super) struct Run<'a> {
    path: &'a Path,
    id: String,
    condition: Condition,
    liveness: Liveness,
    state: Option<&'a RunState>,
}

impl<'a> From<&'a RunEntry> for Run<'a> {
    fn from(run: &'a RunEntry) -> Self {
        Self {
            path: &run.path,
            id: launch::run_id(run),
            condition: run.condition(),
            liveness: run.liveness,
            state: run.state.as_ref().ok(),
        }
    }
}

impl<'a> From<&'a OpenRun> for Run<'a> {
    fn from(run: &'a OpenRun) -> Self {
        Self {
            path: &run.path,
            id: run.id(),
            condition: run.condition(),
            liveness: run.liveness,
            state: run.state.as_ref().ok(),
        }
    }
}

impl Run<'_> {
    /// Pauses a run that is running, and lets a paused one continue.
    pub(super) fn pause_or_continue(&self) -> Command {
        // A run on another machine receives requests through the same files, and reports by
        // itself what it does.
        let reported = self.state.map(|state| state.state);
        match (self.condition, reported) {
            (Condition::Paused, _) | (Condition::Elsewhere, Some(RunStatus::Paused)) => {
                self.ask(Request::Resume)
            }
            _ => self.ask_trainer(Request::Pause),
        }
    }

    /// Sends a request to the trainer, if there is one.
    pub(super) fn ask_trainer(&self, request: Request) -> Command {
        match self.condition {
            Condition::Starting => Notice::error(format!(
                "{} is starting: wait until it has started",
                self.id
            )),
            condition if condition.is_active() => self.ask(request),
            _ => self.no_trainer(),
        }
    }

    /// Asks whether to kill the trainer.
    pub(super) fn kill(&self) -> Command {
        let id = &self.id;
        if self.condition == Condition::Elsewhere {
            let host = self.state.map(|state| state.host.as_str());
            return Notice::error(format!(
                "{id} runs on {}: kill it there, or stop it with t",
                host.unwrap_or("another machine")
            ));
        }
        if self.liveness != Liveness::Alive {
            return self.no_trainer();
        }
        let lost = match self.state.and_then(|state| state.latest_checkpoint) {
            Some(point) => format!("What it did since {point} is lost."),
            None => "It has no save point yet, so everything it did is lost.".to_owned(),
        };
        let kill = Effect::Kill {
            run: self.path.to_owned(),
        };
        let stop = self.ask(Request::Stop);
        let hint = "t saves first and stops after the step; a killed run can be resumed with R.";
        Command::Ask(Dialog {
            title: format!("Kill {id}"),
            lines: vec![lost, hint.to_owned()],
            choices: vec![
                Choice::new('k', "kill it immediately", vec![kill.into()]),
                Choice::new('t', "save and stop it instead", vec![stop]),
            ],
        })
    }

    /// Resumes a run that ended before it finished, or is paused.
    pub(super) fn resume(&self, context: &Context<'_>) -> Command {
        let id = &self.id;
        match self.condition {
            Condition::Paused => return self.ask(Request::Resume),
            Condition::Finished => {
                return Notice::error(format!(
                    "{id} has finished: 5 ranks its save points; for a longer run clone it (c on \
                     the Experiments screen) and raise its epochs"
                ));
            }
            condition if condition.is_active() => {
                return Notice::error(format!("{id} is {} already", condition.name()));
            }
            _ => {}
        }
        let resume = Command::Effect(Effect::Resume {
            run: self.path.to_owned(),
        });
        match launch::others_running(Some(self.path), context) {
            None => resume,
            Some(words) => Command::Ask(Dialog {
                title: format!("Resume {id}"),
                lines: vec![words],
                choices: vec![Choice::new('g', "resume it anyway", vec![resume])],
            }),
        }
    }

    /// Where a run that ended before it finished can be resumed.
    pub(super) fn resume_hint(&self) -> String {
        match self.state.and_then(|state| state.latest_checkpoint) {
            Some(point) => format!("R resumes from {point}"),
            None => "R starts it again: it has no save point yet".to_owned(),
        }
    }

    fn ask(&self, request: Request) -> Command {
        let run = self.path.to_owned();
        Effect::Ask { run, request }.into()
    }

    fn no_trainer(&self) -> Command {
        let (id, condition) = (&self.id, self.condition.name());
        Notice::error(format!(
            "{id} is {condition}, so no trainer is at work on it"
        ))
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use jiff::Timestamp;
    use ratatui::layout::Rect;

    use super::super::train::sample::{RUN, news, world};
    use super::*;
    use crate::tui::state::Settings;
    use crate::tui::theme::{ColorDepth, ThemeName};

    fn with_run<T>(status: RunStatus, liveness: Liveness, work: impl FnOnce(&Run<'_>) -> T) -> T {
        work(&world(news(status, liveness)).open.as_ref().unwrap().into())
    }

    fn resumed(status: RunStatus, liveness: Liveness) -> Command {
        let world = world(news(status, liveness));
        let context = Context {
            world: &world,
            settings: &Settings::new(ThemeName::None, ColorDepth::None, false, false),
            now: Timestamp::UNIX_EPOCH,
            body: Rect::new(0, 0, 80, 21),
        };
        Run::from(world.open.as_ref().unwrap()).resume(&context)
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
            let asked = with_run(status, liveness, |run| run.pause_or_continue());
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
            let command = Command::Effect(Effect::Resume { run });
            assert_eq!(resumed(status, liveness), command);
        }
        let paused = resumed(RunStatus::Paused, Liveness::Alive);
        assert_eq!(paused, asks(Request::Resume));
        let running = resumed(RunStatus::Running, Liveness::Alive);
        assert!(matches!(running, Command::Tell(_)));
    }

    #[test]
    fn killing_asks_first_and_saving_does_not() {
        let killed = with_run(RunStatus::Running, Liveness::Alive, |run| run.kill());
        let Command::Ask(dialog) = killed else {
            panic!("{killed:?}");
        };
        let run = PathBuf::from(RUN);
        let kill = Command::Effect(Effect::Kill { run });
        assert_eq!(dialog.choices[0].commands, [kill]);
        let save = |run: &Run<'_>| run.ask_trainer(Request::Save);
        let saved = with_run(RunStatus::Running, Liveness::Alive, save);
        assert_eq!(saved, asks(Request::Save));
    }

    #[test]
    fn nothing_is_asked_of_a_finished_run() {
        let answers = with_run(RunStatus::Finished, Liveness::Ended, |run| {
            let save = run.ask_trainer(Request::Save);
            let stop = run.ask_trainer(Request::Stop);
            [run.pause_or_continue(), save, stop, run.kill()]
        });
        for answer in answers {
            assert!(matches!(answer, Command::Tell(notice) if notice.is_error));
        }
    }
}
