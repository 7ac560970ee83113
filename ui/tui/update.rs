//! How the state changes with each message. No input or output is done here: what must be done is
//! collected in [`State::effects`] and returned.

use std::path::Path;

use crossterm::event::{KeyEvent, KeyEventKind, MouseButton, MouseEvent, MouseEventKind};
use jiff::SignedDuration;
use moim_core::run::Request;
use ratatui::layout::{Position, Rect};

use super::data::run::OpenRun;
use super::keymap::{Action, Lookup, Scope, key_name, lookup};
use super::message::{
    Choice, Command, Data, Dialog, Effect, InputPurpose, Message, Notice, Outcome,
};
use super::overlay::{Answer, Overlay, Palette, help_lines};
use super::screens::ScreenState;
use super::state::{Context, Launch, Screen, State};

/// How long a notice stays.
const NOTICE_SECONDS: i64 = 8;

/// Applies a message. The screen must be drawn again if `state.is_dirty` is set.
pub fn update(state: &mut State, message: Message) -> Vec<Effect> {
    if is_ignored(&message) {
        return Vec::new();
    }
    state.is_dirty = true;
    match message {
        Message::Key(key) => on_key(state, key),
        Message::Paste(text) => on_paste(state, &text),
        Message::Mouse(event) => on_mouse(state, event),
        Message::Resize { width, height } => {
            state.size = Rect::new(0, 0, width, height);
            refresh(state);
        }
        Message::Tick(now) => {
            state.now = now;
            let is_old =
                |since| now.duration_since(since) > SignedDuration::from_secs(NOTICE_SECONDS);
            if state
                .notice
                .as_ref()
                .is_some_and(|(_, since)| is_old(*since))
            {
                state.notice = None;
            }
        }
        Message::Data(data) => on_data(state, data),
        Message::Done(outcome) => on_outcome(state, outcome),
        Message::Terminate => state.effects.push(Effect::Quit),
    }
    std::mem::take(&mut state.effects)
}

/// Executes what a screen requests.
pub fn execute(state: &mut State, commands: Vec<Command>) -> Vec<Effect> {
    run(state, commands);
    std::mem::take(&mut state.effects)
}

/// Keys and buttons that are released, and movements of the mouse.
fn is_ignored(message: &Message) -> bool {
    match message {
        Message::Key(key) => key.kind == KeyEventKind::Release,
        Message::Mouse(event) => matches!(
            event.kind,
            MouseEventKind::Up(_) | MouseEventKind::Drag(_) | MouseEventKind::Moved
        ),
        _ => false,
    }
}

fn on_key(state: &mut State, key: KeyEvent) {
    if let Some(overlay) = &mut state.overlay {
        let answer = overlay.key(key, state.screen);
        return on_answer(state, answer);
    }
    let Some(name) = key_name(key) else {
        if state.screens.get(state.screen).is_typing() {
            with_screen(state, |screen, context| screen.type_key(key, context));
        }
        return;
    };
    if state.screens.get(state.screen).is_typing() && name != "ctrl-c" {
        return with_screen(state, |screen, context| screen.type_key(key, context));
    }
    let keys = match state.pending_keys.take() {
        Some(first) => format!("{first} {name}"),
        None => name,
    };
    match lookup(state.screen, &keys) {
        Lookup::Action(action) => act(state, action),
        Lookup::Prefix => state.pending_keys = Some(keys),
        Lookup::Nothing => {}
    }
}

fn on_paste(state: &mut State, text: &str) {
    if let Some(overlay) = &mut state.overlay {
        let answer = overlay.paste(text);
        on_answer(state, answer);
    } else if state.screens.get(state.screen).is_typing() {
        with_screen(state, |screen, context| screen.paste(text, context));
    }
    // Else nothing: pasted text is never taken for keys, a stray line would delete things.
}

fn on_mouse(state: &mut State, event: MouseEvent) {
    if state.overlay.is_some() {
        return;
    }
    let at = Position::new(event.column, event.row);
    match event.kind {
        MouseEventKind::ScrollDown => act(state, Action::Down),
        MouseEventKind::ScrollUp => act(state, Action::Up),
        MouseEventKind::Down(MouseButton::Left) => {
            if let Some(screen) = super::view::screen_at(state, at) {
                show(state, screen);
            } else if state.body().contains(at) {
                with_screen(state, |screen, context| screen.click(at, context));
            }
        }
        _ => {}
    }
}

/// Lets the screen at the front do something and executes what it requests.
fn with_screen(
    state: &mut State,
    work: impl FnOnce(&mut dyn ScreenState, &Context<'_>) -> Vec<Command>,
) {
    // The screens are taken out so that one can be changed while it reads the rest.
    let mut screens = std::mem::take(&mut state.screens);
    let commands = work(screens.get_mut(state.screen), &state.context());
    state.screens = screens;
    run(state, commands);
}

fn refresh(state: &mut State) {
    with_screen(state, |screen, context| screen.refresh(context));
}

fn show(state: &mut State, screen: Screen) {
    state.screen = screen;
    refresh(state);
}

/// Executes an action of the key table.
fn act(state: &mut State, action: Action) {
    match action {
        Action::Show(screen) => show(state, screen),
        Action::Quit => quit(state),
        Action::Help => {
            let title = format!("Keys of {}", state.screen.title());
            state.overlay = Some(Overlay::text(title, help_lines(state.screen)));
        }
        Action::Palette => state.overlay = Some(Overlay::Palette(Palette::default())),
        Action::Filter => {
            let present = state.screens.get(state.screen).filter();
            state.overlay = Some(Overlay::filter(present));
        }
        Action::Rescan => {
            state.effects.push(Effect::Rescan);
            with_screen(state, |screen, context| screen.act(Action::Rescan, context));
        }
        Action::NextTheme => {
            state.settings = state.settings.with_next_theme();
            let theme = state.settings.theme_name.name();
            state.tell(format!("theme: {theme}"), false);
        }
        Action::ToggleMouse => {
            let is_on = !state.settings.has_mouse;
            state.settings.has_mouse = is_on;
            state.tell(if is_on { "mouse on" } else { "mouse off" }, false);
            state.effects.push(Effect::SetMouse(is_on));
        }
        Action::DumpScreen => state.effects.push(Effect::DumpScreen),
        Action::Suspend => state.effects.push(Effect::Suspend),
        Action::Redraw => state.effects.push(Effect::Redraw),
        other => with_screen(state, |screen, context| screen.act(other, context)),
    }
}

/// Edits on the Plan screen exist only here, so they are asked about first.
fn quit(state: &mut State) {
    let plan = &mut state.screens.plan;
    let unsaved = plan.unsaved();
    if unsaved.is_empty() {
        return leave(state);
    }
    let mut save: Vec<Command> = plan.save_all().into_iter().map(Command::Effect).collect();
    save.push(Command::LeaveWhenSaved);
    let files = unsaved.iter().map(|path| path.display().to_string());
    let files = files.collect::<Vec<_>>().join(", ");
    state.ask(Dialog {
        title: "Quit".to_owned(),
        lines: vec![format!("Edits are not saved: {files}.")],
        choices: vec![
            Choice::new('s', "save them, then quit", save),
            Choice::new('d', "discard them and quit", vec![Command::Leave]),
        ],
    });
}

/// Asks only if a run would keep running or the queue would wait.
fn leave(state: &mut State) {
    let running = state.world.open.as_ref();
    let running = running.filter(|open| open.condition().is_active_here());
    let mut lines = Vec::new();
    let mut choices = Vec::new();
    if let Some(open) = running {
        lines.extend([
            format!("{} is running.", open.id()),
            "It keeps running without this terminal; open moim again to return to it.".to_owned(),
        ]);
        let run = open.path.clone();
        let stop = Effect::Ask {
            run: run.clone(),
            request: Request::Stop,
        };
        let choice = |key, label: &str, effect: Option<Effect>| {
            let effects = effect.into_iter().chain([Effect::Quit]);
            Choice::new(key, label, effects.map(Command::from).collect())
        };
        choices.extend([
            choice('d', "detach: let it run", None),
            choice('s', "save and stop it, then quit", Some(stop)),
            choice(
                'k',
                "kill it without saving, then quit",
                Some(Effect::Kill { run }),
            ),
        ]);
    }
    let waiting = state.world.queue.len();
    if waiting > 0 {
        lines.push(format!(
            "{waiting} experiment(s) wait in the queue. It is kept, but starts nothing until moim \
             is opened again."
        ));
    }
    if lines.is_empty() {
        return state.effects.push(Effect::Quit);
    }
    if choices.is_empty() {
        choices.push(Choice::new('q', "quit", vec![Effect::Quit.into()]));
    }
    state.ask(Dialog {
        title: "Quit".to_owned(),
        lines,
        choices,
    });
}

fn on_answer(state: &mut State, answer: Answer) {
    let stays = matches!(
        answer,
        Answer::Stay | Answer::Filtered { is_done: false, .. }
    );
    if !stays {
        state.overlay = state.waiting.pop_front().map(Overlay::Dialog);
    }
    match answer {
        Answer::Stay | Answer::Close => {}
        Answer::Act(binding) => {
            if let Scope::On(screen) = binding.scope
                && screen != state.screen
            {
                show(state, screen);
            }
            act(state, binding.action);
        }
        Answer::Chosen(choice) => run(state, choice.commands),
        Answer::Typed(input, text) => typed(state, input.purpose, text.trim()),
        Answer::Filtered { text, .. } => {
            with_screen(state, |screen, context| screen.set_filter(&text, context));
        }
    }
}

fn typed(state: &mut State, purpose: InputPurpose, text: &str) {
    if text.is_empty() {
        return;
    }
    let mut write = |path: &Path, text| {
        state.effects.push(Effect::Write {
            path: path.to_owned(),
            text,
            replaces: None,
        });
    };
    match purpose {
        InputPurpose::ExportTo { text: content } => write(Path::new(text), content),
        InputPurpose::NewExperiment { text: content } => {
            let name = text.strip_suffix(".toml").unwrap_or(text);
            if name.contains('/') || name.starts_with('.') {
                let advice = format!(
                    "{name:?} cannot be the name of an experiment: use no slash and no leading dot"
                );
                return state.tell(advice, true);
            }
            let index = state.world.index.as_ref();
            let folder = index.map_or(Path::new("experiments"), |index| {
                index.experiments_dir.as_path()
            });
            let path = folder.join(format!("{name}.toml"));
            write(&path, content);
            run(state, vec![Command::Plan(path)]);
        }
    }
}

fn run(state: &mut State, commands: Vec<Command>) {
    for command in commands {
        match command {
            Command::Effect(effect) => {
                state.world.asked(&effect);
                state.effects.push(effect);
            }
            Command::Show(screen) => show(state, screen),
            Command::Plan(path) => {
                state.screens.plan.load(&path);
                show(state, Screen::Plan);
            }
            Command::Attach { run, then } => {
                let open = state.world.open.as_ref();
                if open.is_none_or(|open| open.path != run) {
                    state.world.attach(&run);
                    state.effects.push(Effect::OpenRun(run));
                }
                show(state, then);
            }
            Command::Ask(dialog) => state.ask(dialog),
            Command::Input(input) => state.ask_for_line(input),
            Command::Read { title, lines } => state.overlay = Some(Overlay::text(title, lines)),
            Command::Tell(Notice { text, is_error }) => state.tell(text, is_error),
            Command::Enqueue(path) => {
                state.tell(format!("{} is queued", path.display()), false);
                state.world.queue.push(path);
                keep_queue(state);
                start_next(state);
            }
            Command::ClearQueue => {
                state.world.queue.clear();
                keep_queue(state);
                state.tell("the queue is empty", false);
            }
            Command::Leave => leave(state),
            Command::LeaveWhenSaved => state.leaves_when_saved = true,
        }
    }
}

fn keep_queue(state: &mut State) {
    let queue = state.world.queue.clone();
    state.effects.push(Effect::KeepQueue(queue));
}

fn on_data(state: &mut State, data: Data) {
    let is_index = matches!(data, Data::Index(_));
    state.world.apply(data);
    if is_index {
        let is_found = |launch: &Launch| {
            let index = state.world.index.as_ref();
            index.is_some_and(|index| index.runs.iter().any(|run| run.path == launch.run))
        };
        if state.launching.as_ref().is_some_and(is_found) {
            state.launching = None;
        }
        start_next(state);
    }
    refresh(state);
}

/// Starts the next experiment of the queue if nothing runs on this machine.
fn start_next(state: &mut State) {
    let Some(index) = &state.world.index else {
        return;
    };
    let mut runs = index.runs.iter();
    let is_busy = runs.any(|run| run.condition().is_active_here());
    let is_launching = state.is_starting || state.launching.is_some();
    if is_busy || is_launching || state.world.queue.is_empty() {
        return;
    }
    state.is_starting = true;
    let experiment = state.world.queue.remove(0);
    state.tell(format!("the queue starts {}", experiment.display()), false);
    keep_queue(state);
    state.effects.push(Effect::Start { experiment });
}

fn on_outcome(state: &mut State, outcome: Outcome) {
    match outcome {
        Outcome::Done(text) => state.tell(text, false),
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
            state.effects.push(Effect::Rescan);
        }
        Outcome::Deleted { path } => {
            state.tell(format!("deleted: {}", path.display()), false);
            state.effects.push(Effect::Rescan);
            let open = state.world.open.as_ref();
            if open.is_some_and(|open| open.path == path) {
                state.world.detach();
                state.effects.push(Effect::CloseRun);
            }
        }
        Outcome::Started { run: path, log } => {
            state.is_starting = false;
            state.launching = Some(Launch {
                run: path.clone(),
                log,
            });
            let attach = Command::Attach {
                run: path,
                then: Screen::Train,
            };
            run(state, vec![attach]);
            state.effects.push(Effect::Rescan);
        }
        Outcome::StartFailed {
            experiment,
            last_words,
        } => {
            state.is_starting = false;
            state.launching = None;
            let never_existed = |open: &OpenRun| open.is_there != Some(true);
            if state.world.open.as_ref().is_some_and(never_existed) {
                state.world.detach();
                state.screen = Screen::Experiments;
            }
            let title = format!("{} did not start", experiment.display());
            let lines = last_words.lines().map(str::to_owned).collect();
            state.overlay = Some(Overlay::text(title, lines));
        }
    }
}

#[cfg(test)]
mod tests;
