//! What happens when something happens. No input or output is done here: what has to be done
//! comes back as [`Effect`]s.

use std::path::PathBuf;

use crossterm::event::{KeyEvent, KeyEventKind, MouseButton, MouseEvent, MouseEventKind};
use jiff::SignedDuration;
use moim_core::run::Request;
use ratatui::layout::{Position, Rect};

use super::data::run::OpenRun;
use super::keymap::{Action, Lookup, Scope, key_name, lookup};
use super::message::{
    Choice, Command, Data, Dialog, Effect, InputPurpose, Message, Notice, Outcome,
};
use super::overlay::{Answer, Overlay, Palette};
use super::state::{Launch, Screen, State};

/// How long a notice stays.
const NOTICE_SECONDS: i64 = 8;

/// Takes a message in. The screen has to be drawn again where `state.is_dirty` is set.
pub fn update(state: &mut State, message: Message) -> Vec<Effect> {
    if is_of_no_concern(&message) {
        return Vec::new();
    }
    state.is_dirty = true;
    match message {
        Message::Key(key) => on_key(state, key),
        Message::Paste(text) => on_paste(state, &text),
        Message::Mouse(event) => on_mouse(state, event),
        Message::Resize { width, height } => {
            state.size = Rect::new(0, 0, width, height);
            refresh(state)
        }
        Message::Tick(now) => {
            state.now = now;
            let is_old =
                |said| now.duration_since(said) > SignedDuration::from_secs(NOTICE_SECONDS);
            if state.notice.as_ref().is_some_and(|(_, said)| is_old(*said)) {
                state.notice = None;
            }
            Vec::new()
        }
        Message::Data(data) => on_data(state, data),
        Message::Done(outcome) => on_outcome(state, outcome),
        Message::Terminate => vec![Effect::Quit],
    }
}

/// Keys and buttons that are let go, and the mouse's way from place to place.
fn is_of_no_concern(message: &Message) -> bool {
    match message {
        Message::Key(key) => key.kind == KeyEventKind::Release,
        Message::Mouse(event) => matches!(
            event.kind,
            MouseEventKind::Up(_) | MouseEventKind::Drag(_) | MouseEventKind::Moved
        ),
        _ => false,
    }
}

fn on_key(state: &mut State, key: KeyEvent) -> Vec<Effect> {
    if let Some(overlay) = &mut state.overlay {
        let answer = overlay.key(key, state.screen);
        return on_answer(state, answer);
    }
    let is_interrupt = key_name(key).as_deref() == Some("ctrl-c");
    if state.screens.get(state.screen).is_typing() && !is_interrupt {
        return with_screen(state, |screen, context| screen.type_key(key, context));
    }
    let Some(name) = key_name(key) else {
        return Vec::new();
    };
    let keys = match state.pending_keys.take() {
        Some(first) => format!("{first} {name}"),
        None => name,
    };
    match lookup(state.screen, &keys) {
        Lookup::Action(action) => act(state, action),
        Lookup::Prefix => {
            state.pending_keys = Some(keys);
            Vec::new()
        }
        Lookup::Nothing => Vec::new(),
    }
}

fn on_paste(state: &mut State, text: &str) -> Vec<Effect> {
    if let Some(overlay) = &mut state.overlay {
        let answer = overlay.paste(text);
        return on_answer(state, answer);
    }
    match state.screens.get(state.screen).is_typing() {
        true => with_screen(state, |screen, context| screen.paste(text, context)),
        // Pasted text is never taken for keys: a stray line would start and delete things.
        false => Vec::new(),
    }
}

fn on_mouse(state: &mut State, event: MouseEvent) -> Vec<Effect> {
    if state.overlay.is_some() {
        return Vec::new();
    }
    let at = Position::new(event.column, event.row);
    match event.kind {
        MouseEventKind::ScrollDown => act(state, Action::Down),
        MouseEventKind::ScrollUp => act(state, Action::Up),
        MouseEventKind::Down(MouseButton::Left) => {
            if let Some(screen) = super::view::screen_at(state, at) {
                return show(state, screen);
            }
            match state.body().contains(at) {
                true => with_screen(state, |screen, context| screen.click(at, context)),
                false => Vec::new(),
            }
        }
        _ => Vec::new(),
    }
}

/// Lets the screen at the front do something and carries out what it wants.
fn with_screen(
    state: &mut State,
    work: impl FnOnce(&mut dyn super::screens::ScreenState, &super::state::Context<'_>) -> Vec<Command>,
) -> Vec<Effect> {
    // The screens are taken out so that one can be changed while it looks at the rest.
    let mut screens = std::mem::take(&mut state.screens);
    let commands = work(screens.get_mut(state.screen), &state.context());
    state.screens = screens;
    carry_out(state, commands)
}

fn refresh(state: &mut State) -> Vec<Effect> {
    with_screen(state, |screen, context| screen.refresh(context))
}

fn show(state: &mut State, screen: Screen) -> Vec<Effect> {
    state.screen = screen;
    refresh(state)
}

/// Carries out an action of the key table.
pub fn act(state: &mut State, action: Action) -> Vec<Effect> {
    match action {
        Action::Show(screen) => show(state, screen),
        Action::Quit => quit(state),
        Action::Help => {
            state.overlay = Some(Overlay::Help { scroll: 0 });
            Vec::new()
        }
        Action::Palette => {
            state.overlay = Some(Overlay::Palette(Palette::default()));
            Vec::new()
        }
        Action::Filter => {
            let present = state.screens.get(state.screen).filter().to_owned();
            state.overlay = Some(Overlay::filter(&present));
            Vec::new()
        }
        Action::Rescan => {
            let mut effects = vec![Effect::Rescan];
            effects.extend(with_screen(state, |screen, context| {
                screen.act(Action::Rescan, context)
            }));
            effects
        }
        Action::NextTheme => {
            state.settings = state.settings.with_next_theme();
            state.tell(
                format!("theme: {}", state.settings.theme_name.name()),
                false,
            );
            Vec::new()
        }
        Action::ToggleMouse => {
            state.settings.has_mouse = !state.settings.has_mouse;
            let word = if state.settings.has_mouse {
                "on"
            } else {
                "off"
            };
            state.tell(format!("mouse {word}"), false);
            vec![Effect::SetMouse(state.settings.has_mouse)]
        }
        Action::DumpScreen => vec![Effect::DumpScreen],
        Action::Suspend => vec![Effect::Suspend],
        Action::Redraw => vec![Effect::Redraw],
        other => with_screen(state, |screen, context| screen.act(other, context)),
    }
}

/// Edits on the Plan screen exist only here, so they are asked about first.
fn quit(state: &mut State) -> Vec<Effect> {
    let plan = &mut state.screens.plan;
    let unsaved = plan.unsaved();
    if unsaved.is_empty() {
        return leave(state);
    }
    let mut save: Vec<Command> = plan.save_all().into_iter().map(Command::Effect).collect();
    save.push(Command::LeaveWhenSaved);
    let files = unsaved.iter().map(|path| path.display().to_string());
    state.ask(Dialog {
        title: "Quit".to_owned(),
        lines: vec![format!(
            "Edits are not saved: {}.",
            files.collect::<Vec<_>>().join(", ")
        )],
        choices: vec![
            Choice::new('s', "save them, then quit", save),
            Choice::new('d', "discard them and quit", vec![Command::Leave]),
        ],
    });
    Vec::new()
}

/// Leaving is only asked about while something of ours would go on or be left undone.
fn leave(state: &mut State) -> Vec<Effect> {
    let Some(open) = &state.world.open else {
        return quit_with_queue(state);
    };
    if !open.condition().is_active_here() {
        return quit_with_queue(state);
    }
    let run = open.path.clone();
    let leave = Command::Effect(Effect::Quit);
    let stop = Effect::Ask {
        run: run.clone(),
        request: Request::Stop,
    };
    state.ask(Dialog {
        title: "Quit".to_owned(),
        lines: vec![
            format!("{} is under way.", open.id()),
            "It goes on without this terminal; open moim again to come back to it.".to_owned(),
        ],
        choices: vec![
            Choice::new('d', "detach: let it go on", vec![leave.clone()]),
            Choice::new(
                's',
                "save and stop it, then quit",
                vec![stop.into(), leave.clone()],
            ),
            Choice::new(
                'k',
                "kill it without saving, then quit",
                vec![Effect::Kill { run }.into(), leave],
            ),
        ],
    });
    Vec::new()
}

fn quit_with_queue(state: &mut State) -> Vec<Effect> {
    if state.world.queue.is_empty() {
        return vec![Effect::Quit];
    }
    state.ask(Dialog {
        title: "Quit".to_owned(),
        lines: vec![
            format!(
                "{} experiment(s) wait in the queue.",
                state.world.queue.len()
            ),
            "The queue is kept, and goes on when moim is opened again.".to_owned(),
        ],
        choices: vec![Choice::new('q', "quit", vec![Effect::Quit.into()])],
    });
    Vec::new()
}

fn on_answer(state: &mut State, answer: Answer) -> Vec<Effect> {
    match answer {
        Answer::Stay => Vec::new(),
        Answer::Close => {
            close_overlay(state);
            Vec::new()
        }
        Answer::Act(binding) => {
            close_overlay(state);
            let mut effects = match binding.scope {
                Scope::On(screen) if screen != state.screen => show(state, screen),
                _ => Vec::new(),
            };
            effects.extend(act(state, binding.action));
            effects
        }
        Answer::Chosen(choice) => {
            close_overlay(state);
            carry_out(state, choice.commands)
        }
        Answer::Typed(input, text) => {
            close_overlay(state);
            typed(state, input.purpose, text.trim())
        }
        Answer::Filtered { text, is_done } => {
            if is_done {
                close_overlay(state);
            }
            with_screen(state, |screen, context| screen.set_filter(&text, context))
        }
    }
}

fn close_overlay(state: &mut State) {
    state.overlay = state.waiting.pop_front().map(Overlay::Dialog);
}

fn typed(state: &mut State, purpose: InputPurpose, text: &str) -> Vec<Effect> {
    if text.is_empty() {
        return Vec::new();
    }
    match purpose {
        InputPurpose::NewExperiment { text: content } => {
            let folder = match &state.world.index {
                Some(index) => index.experiments_dir.clone(),
                None => PathBuf::from("experiments"),
            };
            let name = text.strip_suffix(".toml").unwrap_or(text);
            if name.contains('/') || name.starts_with('.') {
                let advice = format!(
                    "{name:?} cannot be the name of an experiment: use no slash and no leading dot"
                );
                state.tell(advice, true);
                return Vec::new();
            }
            let path = folder.join(format!("{name}.toml"));
            let mut effects = vec![Effect::Write {
                path: path.clone(),
                text: content,
                replaces: None,
            }];
            effects.extend(carry_out(state, vec![Command::Plan(path)]));
            effects
        }
        InputPurpose::ExportTo { text: content } => vec![Effect::Write {
            path: PathBuf::from(text),
            text: content,
            replaces: None,
        }],
    }
}

/// Carries out what a screen wants.
pub fn carry_out(state: &mut State, commands: Vec<Command>) -> Vec<Effect> {
    let mut effects = Vec::new();
    for command in commands {
        match command {
            Command::Effect(effect) => {
                state.world.asked(&effect);
                effects.push(effect);
            }
            Command::Show(screen) => effects.extend(show(state, screen)),
            Command::Plan(path) => {
                state.screens.plan.load(&path);
                effects.extend(show(state, Screen::Plan));
            }
            Command::Attach { run, then } => {
                let is_open = state
                    .world
                    .open
                    .as_ref()
                    .is_some_and(|open| open.path == run);
                if !is_open {
                    state.world.attach(&run);
                    effects.push(Effect::OpenRun(run));
                }
                effects.extend(show(state, then));
            }
            Command::Ask(dialog) => state.ask(dialog),
            Command::Input(input) => state.ask_for_line(input),
            Command::Read { title, lines } => {
                state.overlay = Some(Overlay::Text {
                    title,
                    lines,
                    scroll: 0,
                });
            }
            Command::Tell(Notice { text, is_error }) => state.tell(text, is_error),
            Command::Enqueue(path) => {
                state.tell(format!("{} is queued", path.display()), false);
                state.world.queue.push(path);
                effects.push(Effect::KeepQueue(state.world.queue.clone()));
                effects.extend(start_next(state));
            }
            Command::ClearQueue => {
                state.world.queue.clear();
                effects.push(Effect::KeepQueue(Vec::new()));
                state.tell("the queue is empty", false);
            }
            Command::Leave => effects.extend(leave(state)),
            Command::LeaveWhenSaved => state.leaves_when_saved = true,
        }
    }
    effects
}

fn on_data(state: &mut State, data: Data) -> Vec<Effect> {
    let is_index = matches!(data, Data::Index(_));
    state.world.take_in(data);
    let mut effects = Vec::new();
    if is_index {
        let is_found = |launch: &Launch| {
            let index = state.world.index.as_ref();
            index.is_some_and(|index| index.runs.iter().any(|run| run.path == launch.run))
        };
        if state.launching.as_ref().is_some_and(is_found) {
            state.launching = None;
        }
        effects.extend(start_next(state));
    }
    effects.extend(refresh(state));
    effects
}

/// Starts the next experiment of the queue where nothing runs on this machine.
fn start_next(state: &mut State) -> Vec<Effect> {
    let Some(index) = &state.world.index else {
        return Vec::new();
    };
    let is_busy = index
        .runs
        .iter()
        .any(|run| run.condition().is_active_here());
    let is_launching = state.is_starting || state.launching.is_some();
    if is_busy || is_launching || state.world.queue.is_empty() {
        return Vec::new();
    }
    state.is_starting = true;
    let experiment = state.world.queue.remove(0);
    state.tell(format!("the queue starts {}", experiment.display()), false);
    vec![
        Effect::KeepQueue(state.world.queue.clone()),
        Effect::Start { experiment },
    ]
}

fn on_outcome(state: &mut State, outcome: Outcome) -> Vec<Effect> {
    match outcome {
        Outcome::Told(text) => state.tell(text, false),
        Outcome::Failed(text) => {
            state.leaves_when_saved = false;
            state.tell(text, true);
        }
        Outcome::Written { path } => {
            state.tell(format!("written: {}", path.display()), false);
            state.screens.plan.written(&path);
            let is_saved = state.screens.plan.unsaved().is_empty();
            if is_saved && std::mem::take(&mut state.leaves_when_saved) {
                return leave(state);
            }
            return vec![Effect::Rescan];
        }
        Outcome::Deleted { path } => {
            state.tell(format!("deleted: {}", path.display()), false);
            let mut effects = vec![Effect::Rescan];
            let mut open = state.world.open.iter();
            if open.any(|open| open.path == path) {
                state.world.detach();
                effects.push(Effect::CloseRun);
            }
            return effects;
        }
        Outcome::Started { run, log } => {
            state.is_starting = false;
            state.launching = Some(Launch {
                run: run.clone(),
                log,
            });
            let attach = Command::Attach {
                run,
                then: Screen::Train,
            };
            let mut effects = carry_out(state, vec![attach]);
            effects.push(Effect::Rescan);
            return effects;
        }
        Outcome::StartFailed {
            experiment,
            last_words,
        } => {
            state.is_starting = false;
            state.launching = None;
            let was_never_there = |open: &OpenRun| open.is_there != Some(true);
            if state.world.open.as_ref().is_some_and(was_never_there) {
                state.world.detach();
                state.screen = Screen::Experiments;
            }
            state.overlay = Some(Overlay::Text {
                title: format!("{} did not start", experiment.display()),
                lines: last_words.lines().map(str::to_owned).collect(),
                scroll: 0,
            });
        }
    }
    Vec::new()
}

#[cfg(test)]
mod tests;
