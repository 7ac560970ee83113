//! The terminal UI: one state, one `update` without input or output, one view, and workers that
//! read and do.
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

use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use jiff::Timestamp;

use effects::{Effects, Wish};
use input::Input;
use message::{Command, Message};
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
    /// Look at intervals only, without the system's notifications.
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
    /// Go on with this run.
    Resume(PathBuf),
    /// Show this run.
    Attach(PathBuf),
}

/// The shortest time between two drawings of what was read. A key is answered at once.
const FRAME: Duration = Duration::from_millis(16);

/// How long messages are taken in before what they changed is drawn.
const MOST_BEFORE_DRAWING: Duration = Duration::from_millis(8);

/// How often the clock is looked at: ages, remaining times and notices change with it.
const TICK: Duration = Duration::from_secs(1);

/// Runs the UI until the person or the system ends it. Answers the exit code.
///
/// # Errors
/// The terminal cannot be used.
pub fn run(options: &Options) -> Result<u8> {
    let (sender, receiver) = channel();
    terminal::hook_panics(sender.clone());
    let stop = input::listen_for_signals(sender.clone()).context("cannot listen for signals")?;
    let mut terminal = Terminal::take(options.has_mouse).context("the terminal cannot be used")?;
    let input = Input::start(sender.clone()).context("cannot read from the terminal")?;
    let size = terminal
        .size()
        .context("the terminal does not tell its size")?;
    let depth = color_depth();
    let settings = Settings::new(options.theme, depth, options.is_ascii, options.has_mouse);
    let mut state = State::new(settings, Timestamp::now(), size);
    let mut program = Program {
        effects: Effects::start(options, sender.clone()),
        input,
        sender,
        has_new_input: false,
    };
    state.world.queue = program.effects.kept_queue();
    let first = opening(options, &mut state);
    let mut is_over = program.carry_out(&mut terminal, first)?;
    let mut last_drawn: Option<Instant> = None;
    while !is_over {
        // Not every terminal tells of a new size, and none before something is drawn at it.
        let size = terminal.size()?;
        if size != state.size {
            let (width, height) = (size.width, size.height);
            let effects = update::update(&mut state, Message::Resize { width, height });
            if program.carry_out(&mut terminal, effects)? {
                break;
            }
        }
        let due = last_drawn
            .filter(|_| !program.has_new_input)
            .map_or(Duration::ZERO, |drawn| {
                FRAME.saturating_sub(drawn.elapsed())
            });
        if state.is_dirty && due.is_zero() {
            terminal.draw(|frame| view::draw(&state, frame))?;
            state.is_dirty = false;
            program.has_new_input = false;
            last_drawn = Some(Instant::now());
        }
        let patience = if state.is_dirty { due } else { TICK };
        is_over = program.take_in(&mut terminal, &mut state, &receiver, patience)?;
    }
    drop(terminal);
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
    input: Input,
    sender: Sender<Message>,
    /// A key, a click or pasted text has been taken in since the last drawing.
    has_new_input: bool,
}

impl Program {
    /// Waits for a message, takes in it and those behind it, and answers whether to end.
    fn take_in(
        &mut self,
        terminal: &mut Terminal,
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
        let began = Instant::now();
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
            if self.carry_out(terminal, effects)? {
                return Ok(true);
            }
            next = match began.elapsed() < MOST_BEFORE_DRAWING {
                true => receiver.try_recv().ok(),
                false => None,
            };
        }
        Ok(false)
    }

    /// Carries effects out; answers whether the program is to end.
    fn carry_out(
        &mut self,
        terminal: &mut Terminal,
        effects: Vec<message::Effect>,
    ) -> io::Result<bool> {
        for effect in effects {
            match self.effects.carry_out(effect) {
                None => {}
                Some(Wish::Quit) => return Ok(true),
                Some(Wish::Redraw) => terminal.clear()?,
                Some(Wish::SetMouse(is_on)) => terminal.set_mouse(is_on)?,
                Some(Wish::Copy(text)) => {
                    terminal.copy(&text)?;
                    let words = format!("{} characters copied (OSC 52)", text.chars().count());
                    self.tell(message::Outcome::Told(words));
                }
                Some(Wish::DumpScreen) => {
                    let outcome = effects::dump(terminal.drawn());
                    self.tell(outcome);
                }
                Some(Wish::Suspend) => {
                    let input = &self.input;
                    terminal.lend(|| input.while_paused(input::stop_this_process))?;
                    self.redraw(terminal)?;
                }
                Some(Wish::Edit(path)) => {
                    let input = &self.input;
                    let outcome = terminal.lend(|| input.while_paused(|| effects::edit(&path)))?;
                    self.tell(outcome);
                    self.redraw(terminal)?;
                }
            }
        }
        Ok(false)
    }

    /// The terminal may have another size since it was lent.
    fn redraw(&self, terminal: &Terminal) -> io::Result<()> {
        let size = terminal.size()?;
        // The receiver lives as long as the loop that calls this.
        let _ = self.sender.send(Message::Resize {
            width: size.width,
            height: size.height,
        });
        Ok(())
    }

    fn tell(&self, outcome: message::Outcome) {
        let _ = self.sender.send(Message::Done(outcome));
    }
}

/// Whether something on the screen changes with the clock alone.
fn shows_time(state: &State) -> bool {
    let is_active = |run: &data::run::OpenRun| run.condition().is_active();
    state.notice.is_some()
        || state.screen == Screen::Experiments
        || state.world.open.as_ref().is_some_and(is_active)
}

fn opening(options: &Options, state: &mut State) -> Vec<message::Effect> {
    let command = match options.opening.clone() {
        Opening::List => return Vec::new(),
        Opening::Start(experiment) => Command::Effect(message::Effect::Start { experiment }),
        Opening::Resume(run) => Command::Effect(message::Effect::Resume { run }),
        Opening::Attach(run) => Command::Attach {
            run,
            then: Screen::Train,
        },
    };
    update::carry_out(state, vec![command])
}
