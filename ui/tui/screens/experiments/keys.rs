//! What the keys of the Experiments screen do.

use moim_core::run::{Liveness, Request};

use super::differences;
use super::launch::{self, active_here};
use super::lists::run_id;
use super::{Experiments, Pane, Selected};
use crate::tui::data::index::{Condition, ExperimentFile, RunEntry};
use crate::tui::keymap::Action;
use crate::tui::message::{Choice, Command, Dialog, Effect, Input, InputPurpose, Notice};
use crate::tui::screens::words::count;
use crate::tui::state::Context;

/// Carries out an action of the key table.
pub fn act(screen: &mut Experiments, action: Action, context: &Context<'_>) -> Vec<Command> {
    if let Some(place) = moved(screen, action, context) {
        match &mut screen.reading {
            Some(scroll) => *scroll = place,
            None => screen.select(place, context),
        }
        return Vec::new();
    }
    match action {
        Action::NextPane => next_pane(screen),
        Action::PreviousPane => previous_pane(screen),
        Action::Left => go_to(screen, Pane::Files),
        Action::Right => go_to(screen, Pane::Runs),
        Action::Back if screen.reading.is_some() => screen.reading = None,
        Action::Back => {
            screen.filter = Default::default();
            screen.follow(context);
        }
        Action::ClearMarks => screen.marks.clear(),
        Action::Sort => {
            screen.sort = screen.sort.next();
            screen.follow(context);
            return vec![Notice::info(format!("runs by {}", screen.sort.title()))];
        }
        Action::CompareConfigurations => return compare(screen),
        Action::ClearQueue => return clear_queue(context),
        Action::Export => return vec![export(screen, context)],
        _ => {
            let Some(selected) = screen.selected(context) else {
                return nothing_selected(screen.pane, action);
            };
            return match (action, selected) {
                (Action::Mark, selected) => mark(screen, &selected),
                (action, Selected::File(file)) => on_file(screen, action, file, context),
                (action, Selected::Run(run)) => on_run(action, run, context),
            };
        }
    }
    Vec::new()
}

fn go_to(screen: &mut Experiments, pane: Pane) {
    screen.pane = pane;
    screen.reading = None;
}

/// Files, runs, the details of the run, round and round.
fn next_pane(screen: &mut Experiments) {
    match (screen.pane, screen.reading) {
        (Pane::Files, None) => go_to(screen, Pane::Runs),
        (Pane::Runs, None) => screen.reading = Some(0),
        (_, Some(_)) => go_to(screen, Pane::Files),
    }
}

/// Files, the details of the file, runs, round and round.
fn previous_pane(screen: &mut Experiments) {
    match (screen.pane, screen.reading) {
        (Pane::Files, None) => screen.reading = Some(0),
        (Pane::Runs, None) => go_to(screen, Pane::Files),
        (_, Some(_)) => go_to(screen, Pane::Runs),
    }
}

/// The line that a movement comes to: of the list, or of the details while they are read.
fn moved(screen: &Experiments, action: Action, context: &Context<'_>) -> Option<usize> {
    let page = super::draw::page(screen, context).max(1);
    let (cursor, last) = match (screen.reading, screen.pane) {
        (Some(scroll), _) => (scroll, super::draw::last_scroll(screen, context)),
        (None, Pane::Files) => (screen.file.index(), screen.files(context).len()),
        (None, Pane::Runs) => (screen.run.index(), screen.runs(context).len()),
    };
    let place: usize = match action {
        // With a filter every line is a match.
        Action::Up | Action::PreviousMatch => cursor.saturating_sub(1),
        Action::Down | Action::NextMatch => cursor + 1,
        Action::PageUp => cursor.saturating_sub(page),
        Action::PageDown => cursor + page,
        Action::Top => 0,
        Action::Bottom => last,
        _ => return None,
    };
    Some(place.min(last))
}

fn nothing_selected(pane: Pane, action: Action) -> Vec<Command> {
    let is_about_a_line = matches!(
        action,
        Action::Open
            | Action::Start
            | Action::Resume
            | Action::Edit
            | Action::Clone
            | Action::Queue
            | Action::FindDuplicates
            | Action::Mark
            | Action::PauseOrContinue
            | Action::StopAfterStep
            | Action::Kill
            | Action::Delete
            | Action::Copy
            | Action::OpenInEditor
    );
    match (is_about_a_line, pane) {
        (false, _) => Vec::new(),
        (true, Pane::Files) => vec![Notice::error("no experiment is selected")],
        (true, Pane::Runs) => vec![Notice::error("no run is selected")],
    }
}

fn mark(screen: &mut Experiments, selected: &Selected<'_>) -> Vec<Command> {
    let path = selected.path();
    match screen.marks.iter().position(|marked| marked == path) {
        Some(place) => {
            screen.marks.remove(place);
        }
        None => screen.marks.push(path.to_owned()),
    }
    Vec::new()
}

fn compare(screen: &mut Experiments) -> Vec<Command> {
    if screen.marks.len() < 2 {
        return vec![Notice::error(
            "mark two or more experiments or runs with space, then v shows what differs",
        )];
    }
    screen.comparing = Some(screen.marks.clone());
    vec![Effect::ReadDifferences(screen.marks.clone()).into()]
}

/// Shows the differences that were asked for, where they are there.
pub fn shown_differences(screen: &mut Experiments, context: &Context<'_>) -> Vec<Command> {
    let (Some(asked), Some(found)) = (&screen.comparing, &context.world.differences) else {
        return Vec::new();
    };
    if !differences::is_answer(asked, found) {
        return Vec::new();
    }
    // The window has a frame and a margin at either side.
    let room = usize::from(context.body.width.saturating_sub(8));
    let lines = differences::lines(asked, found, room, context.glyphs().ellipsis);
    let title = format!("What differs between {} configurations", asked.len());
    screen.comparing = None;
    vec![Command::Read { title, lines }]
}

fn clear_queue(context: &Context<'_>) -> Vec<Command> {
    match context.world.queue.is_empty() {
        true => vec![Notice::info("the queue is empty already")],
        false => vec![Command::ClearQueue],
    }
}

/// Both lists as CSV.
fn export(screen: &Experiments, context: &Context<'_>) -> Command {
    let text = match screen.pane {
        Pane::Files => super::details::files_csv(&screen.files(context)),
        Pane::Runs => super::details::runs_csv(&screen.runs(context)),
    };
    let initial = match screen.pane {
        Pane::Files => "experiments.csv",
        Pane::Runs => "runs.csv",
    };
    Command::Input(Input {
        title: "Write the list to a CSV file".to_owned(),
        initial: initial.to_owned(),
        purpose: InputPurpose::ExportTo { text },
    })
}

fn on_file(
    screen: &mut Experiments,
    action: Action,
    file: &ExperimentFile,
    context: &Context<'_>,
) -> Vec<Command> {
    let path = file.path.clone();
    match action {
        Action::Open | Action::Edit => vec![Command::Plan(path)],
        Action::Start => screen.launch.start(&path, context),
        Action::FindDuplicates => screen.launch.find_duplicates(&path),
        Action::Clone => vec![new_experiment(&file.name, &file.text)],
        Action::Queue => match &file.experiment {
            Ok(_) => vec![Command::Enqueue(path)],
            Err(faults) => vec![Notice::error(format!(
                "{} has {}; correct it first (e)",
                file.name,
                count(faults.len(), "fault")
            ))],
        },
        Action::Copy => vec![Effect::Copy(path.display().to_string()).into()],
        Action::OpenInEditor => vec![Effect::OpenInEditor(path).into()],
        Action::Delete => vec![Command::Ask(Dialog {
            title: format!("Delete {}", file.name),
            lines: vec![
                format!("This experiment file is deleted: {}", path.display()),
                "Its runs stay, each with its configuration.".to_owned(),
            ],
            choices: vec![Choice::new(
                'd',
                "delete it",
                vec![Effect::Delete { path }.into()],
            )],
        })],
        Action::Resume | Action::PauseOrContinue | Action::StopAfterStep | Action::Kill => {
            vec![Notice::error(
                "this is about runs: select one in the list of runs (tab)",
            )]
        }
        _ => Vec::new(),
    }
}

fn new_experiment(name: &str, text: &str) -> Command {
    Command::Input(Input {
        title: "Name of the new experiment".to_owned(),
        initial: format!("{name}-2"),
        purpose: InputPurpose::NewExperiment {
            text: text.to_owned(),
        },
    })
}

fn on_run(action: Action, run: &RunEntry, context: &Context<'_>) -> Vec<Command> {
    let path = run.path.clone();
    match action {
        Action::Open => vec![launch::attach(&path, context)],
        Action::Resume => resume(run, context),
        Action::Clone => clone_of(run, context),
        Action::PauseOrContinue => match run.condition() {
            Condition::Paused => vec![asked(run, Request::Resume)],
            Condition::Elsewhere if is_paused(run) => vec![asked(run, Request::Resume)],
            _ => ask_active(run, Request::Pause),
        },
        Action::StopAfterStep => ask_active(run, Request::Stop),
        Action::Kill => kill(run),
        Action::Delete => delete(run),
        Action::Copy => vec![Effect::Copy(path.display().to_string()).into()],
        Action::OpenInEditor => {
            vec![Effect::OpenInEditor(path.join("log.txt")).into()]
        }
        Action::Edit => with_file(run, context, |file| vec![Command::Plan(file.path.clone())]),
        Action::Start | Action::Queue | Action::FindDuplicates => vec![Notice::error(
            "this is about experiments: select one in the list of files (tab); R goes on with a run",
        )],
        _ => Vec::new(),
    }
}

fn is_paused(run: &RunEntry) -> bool {
    let state = run.state.as_ref();
    state.is_ok_and(|state| state.state == moim_core::run::RunStatus::Paused)
}

fn asked(run: &RunEntry, request: Request) -> Command {
    Command::Effect(Effect::Ask {
        run: run.path.clone(),
        request,
    })
}

/// Asks the trainer of a run that is under way; another one has no trainer to ask.
fn ask_active(run: &RunEntry, request: Request) -> Vec<Command> {
    match run.condition().is_active() {
        true => vec![asked(run, request)],
        false => vec![not_under_way(run)],
    }
}

fn not_under_way(run: &RunEntry) -> Command {
    Notice::error(format!(
        "{} is {}, so no trainer is at work on it",
        run_id(run),
        run.condition().name()
    ))
}

/// Goes on with a run that ended before its time.
fn resume(run: &RunEntry, context: &Context<'_>) -> Vec<Command> {
    let id = run_id(run);
    let go = Command::Effect(Effect::Resume {
        run: run.path.clone(),
    });
    match run.condition() {
        Condition::Finished => {
            return vec![Notice::error(format!(
                "{id} has finished; for a longer run clone it (c) and raise its epochs"
            ))];
        }
        condition if condition.is_active() => {
            return vec![Notice::error(format!(
                "{id} is {} already; enter shows it",
                condition.name()
            ))];
        }
        _ => {}
    }
    let active = active_here(context.world.index.as_ref());
    if active.is_empty() {
        return vec![go];
    }
    let ids: Vec<String> = active.iter().map(|run| run_id(run)).collect();
    vec![Command::Ask(Dialog {
        title: format!("Go on with {id}"),
        lines: vec![format!(
            "Under way on this machine: {}. Two trainers share its memory and its time.",
            ids.join(", ")
        )],
        choices: vec![Choice::new('g', "go on with it all the same", vec![go])],
    })]
}

fn kill(run: &RunEntry) -> Vec<Command> {
    let id = run_id(run);
    if run.condition() == Condition::Elsewhere {
        return vec![Notice::error(format!(
            "{id} runs on another machine and cannot be killed from here; t asks it to save and stop"
        ))];
    }
    if run.liveness != Liveness::Alive {
        return vec![not_under_way(run)];
    }
    let since = match run
        .state
        .as_ref()
        .ok()
        .and_then(|state| state.latest_checkpoint)
    {
        Some(point) => format!("What it did since {point} is lost."),
        None => "It has no save point yet, so everything it did is lost.".to_owned(),
    };
    vec![Command::Ask(Dialog {
        title: format!("Kill {id}"),
        lines: vec![
            since,
            "t saves first and stops after the step; a killed run can be resumed with R."
                .to_owned(),
        ],
        choices: vec![
            Choice::new(
                'k',
                "kill it at once",
                vec![Command::Effect(Effect::Kill {
                    run: run.path.clone(),
                })],
            ),
            Choice::new(
                't',
                "save and stop it instead",
                vec![asked(run, Request::Stop)],
            ),
        ],
    })]
}

fn delete(run: &RunEntry) -> Vec<Command> {
    let id = run_id(run);
    let condition = run.condition();
    if condition.is_active() {
        return vec![Notice::error(format!(
            "{id} is {}: stop it first (t), then delete it",
            condition.name()
        ))];
    }
    let path = run.path.clone();
    vec![Command::Ask(Dialog {
        title: format!("Delete {id}"),
        lines: vec![
            format!(
                "This folder is deleted with everything in it: {}",
                path.display()
            ),
            "Its save points, answers, scores and logs cannot be brought back.".to_owned(),
        ],
        choices: vec![Choice::new(
            'd',
            "delete it",
            vec![Effect::Delete { path }.into()],
        )],
    })]
}

/// A run's configuration is copied by way of the experiment file that it was started from.
fn clone_of(run: &RunEntry, context: &Context<'_>) -> Vec<Command> {
    with_file(run, context, |file| {
        vec![
            Notice::info(format!(
                "copied from {}, as the file is now",
                file.path.display()
            )),
            new_experiment(&file.name, &file.text),
        ]
    })
}

fn with_file(
    run: &RunEntry,
    context: &Context<'_>,
    work: impl FnOnce(&ExperimentFile) -> Vec<Command>,
) -> Vec<Command> {
    let files = context
        .world
        .index
        .iter()
        .flat_map(|index| &index.experiments);
    match files.into_iter().find(|file| file.name == run.experiment) {
        Some(file) => work(file),
        None => {
            let folder = context
                .world
                .index
                .as_ref()
                .map(|index| &index.experiments_dir);
            let folder = folder
                .map(|folder| folder.display().to_string())
                .unwrap_or_default();
            vec![Notice::error(format!(
                "there is no experiment file {} any more; copy {} into {folder}/ under a new name",
                run.experiment,
                run.path.join("experiment.toml").display()
            ))]
        }
    }
}
