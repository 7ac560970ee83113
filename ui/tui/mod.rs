//! The terminal UI: one state, one `update` without input or output, one view, and workers.
//!
//! ```text
//! keys, mouse ─┐                 ┌─► effects ─► files, processes, clipboard
//! readers ─────┼─► Message ─► update ─► State ─► view ─► terminal
//! outcomes ────┘                              (drawn when something changed)
//! ```

mod data;
mod effects;
mod filter;
mod input;
pub mod keymap;
mod launch;
mod message;
mod overlay;
mod picture;
mod queue;
mod screens;
#[cfg(test)]
mod snapshots;
mod state;
mod terminal;
mod text;
mod theme;
mod update;
mod view;
mod widgets;

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use jiff::Timestamp;

use effects::Effects;
use message::{Command, Effect, Message};
use state::{Screen, Settings, State};
use terminal::Terminal;
pub use text::wrap;
pub use theme::{ColorDepth, ThemeName};
pub use widgets::chart::{Chart, Line};

/// What the UI is opened with.
#[derive(Clone, Debug)]
pub struct Options {
    /// The folder of experiment files.
    pub experiments: PathBuf,
    /// The folder of runs.
    pub outputs: PathBuf,
    pub theme: ThemeName,
    pub is_ascii: bool,
    pub has_mouse: bool,
    /// Poll only, without the system's notifications.
    pub is_polling: bool,
    pub opening: Opening,
}

/// What is done first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opening {
    /// The list of experiments and runs.
    List,
    /// Start this experiment.
    Start(PathBuf),
    /// Resume this run.
    Resume(PathBuf),
    /// Show this run.
    Attach(PathBuf),
}

/// The shortest time between two drawings of what was read. A key is answered immediately.
const FRAME: Duration = Duration::from_millis(16);

/// How long messages are received before what they changed is drawn.
const MOST_BEFORE_DRAWING: Duration = Duration::from_millis(8);

/// How often the clock is read: ages, remaining times and notices change with it.
const TICK: Duration = Duration::from_secs(1);

/// Runs the UI until the user or the system ends it. Returns the exit code.
///
/// # Errors
/// The terminal cannot be used.
pub fn run(options: &Options) -> Result<u8> {
    let (sender, receiver) = channel();
    terminal::hook_panics(sender.clone());
    let stop = input::listen_for_signals(sender.clone()).context("cannot listen for signals")?;
    let terminal = Terminal::take(options.has_mouse).context("the terminal cannot be used")?;
    let size = terminal
        .size()
        .context("the terminal does not report its size")?;
    let depth = color_depth();
    let settings = Settings::new(options.theme, depth, options.is_ascii, options.has_mouse);
    let mut state = State::new(settings, Timestamp::now(), size);
    let mut program = Program {
        effects: Effects::start(options, sender, terminal)?,
        has_new_input: false,
    };
    state.world.queue = program.effects.kept_queue();
    let first = opening(options, &mut state);
    let mut is_over = program.effects.execute(first)?;
    let mut last_drawn: Option<Instant> = None;
    while !is_over {
        // Not every terminal reports a new size, and none before something is drawn at it.
        let size = program.effects.terminal.size()?;
        if size != state.size {
            let (width, height) = (size.width, size.height);
            let effects = update::update(&mut state, Message::Resize { width, height });
            if program.effects.execute(effects)? {
                break;
            }
        }
        let due = last_drawn
            .filter(|_| !program.has_new_input)
            .map_or(Duration::ZERO, |drawn| {
                FRAME.saturating_sub(drawn.elapsed())
            });
        if state.is_dirty && due.is_zero() {
            let terminal = &mut program.effects.terminal;
            terminal.draw(|frame| view::draw(&state, frame))?;
            state.is_dirty = false;
            program.has_new_input = false;
            last_drawn = Some(Instant::now());
        }
        let patience = if state.is_dirty { due } else { TICK };
        is_over = program.receive(&mut state, &receiver, patience)?;
    }
    drop(program);
    Ok(stop.exit_code().unwrap_or(crate::failure::exit::DONE))
}

/// The colours that the environment promises.
pub fn color_depth() -> ColorDepth {
    let variable = |name| std::env::var(name).ok();
    ColorDepth::detect(
        variable("COLORTERM").as_deref(),
        variable("TERM").as_deref(),
        variable("NO_COLOR").as_deref(),
    )
}

/// What acts on the world outside the state.
struct Program {
    effects: Effects,
    /// A key, a click or pasted text has come since the last drawing.
    has_new_input: bool,
}

impl Program {
    /// Waits for a message and processes it and those behind it. Returns whether to end.
    fn receive(
        &mut self,
        state: &mut State,
        receiver: &Receiver<Message>,
        patience: Duration,
    ) -> Result<bool> {
        let first = match receiver.recv_timeout(patience) {
            Ok(message) => message,
            Err(RecvTimeoutError::Timeout) if state.is_dirty => return Ok(false),
            Err(RecvTimeoutError::Timeout) => Message::Tick(Timestamp::now()),
            Err(RecvTimeoutError::Disconnected) => return Ok(true),
        };
        let start = Instant::now();
        let mut next = Some(first);
        while let Some(message) = next {
            let is_idle_tick =
                matches!(message, Message::Tick(_)) && !state.is_dirty && !shows_time(state);
            self.has_new_input |= matches!(
                message,
                Message::Key(_) | Message::Mouse(_) | Message::Paste(_)
            );
            state.now = Timestamp::now();
            let effects = update::update(state, message);
            if is_idle_tick {
                state.is_dirty = false;
            }
            if self.effects.execute(effects)? {
                return Ok(true);
            }
            next = if start.elapsed() < MOST_BEFORE_DRAWING {
                receiver.try_recv().ok()
            } else {
                None
            };
        }
        Ok(false)
    }
}

/// Whether something on the screen changes with the clock only.
fn shows_time(state: &State) -> bool {
    let is_active = |run: &data::run::OpenRun| run.condition().is_active();
    state.notice.is_some()
        || state.screen == Screen::Experiments
        || state.world.open.as_ref().is_some_and(is_active)
}

fn opening(options: &Options, state: &mut State) -> Vec<Effect> {
    let command = match options.opening.clone() {
        Opening::List => return Vec::new(),
        Opening::Start(experiment) => Command::Effect(Effect::Start { experiment }),
        Opening::Resume(run) => Command::Effect(Effect::Resume { run }),
        Opening::Attach(run) => Command::Attach {
            run,
            then: Screen::Train,
        },
    };
    update::execute(state, vec![command])
}
