//! Input from the user and the system: keys, mouse, pasted text, sizes, signals.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossterm::event::{self, Event};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGTSTP};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

use super::message::Message;
use super::terminal::restore;
use crate::failure::exit;

/// How long the reader locks the terminal before it checks whether it is wanted elsewhere.
const PATIENCE: Duration = Duration::from_millis(100);

/// How long the reader waits at a time while the terminal is lent.
const ASIDE: Duration = Duration::from_millis(5);

/// The thread that reads the terminal.
pub struct Input {
    /// Locked while the terminal is read, and while it is lent.
    gate: Arc<Mutex<()>>,
    /// Another thread waits at the gate. A mutex is not fair, so the reader steps aside.
    is_wanted: Arc<AtomicBool>,
    is_over: Arc<AtomicBool>,
}

impl Input {
    /// Starts to read.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start(sender: Sender<Message>) -> io::Result<Self> {
        let input = Self {
            gate: Arc::default(),
            is_wanted: Arc::default(),
            is_over: Arc::default(),
        };
        let (gate, is_wanted) = (Arc::clone(&input.gate), Arc::clone(&input.is_wanted));
        let is_over = Arc::clone(&input.is_over);
        std::thread::Builder::new()
            .name("input".to_owned())
            .spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    if is_wanted.load(Ordering::SeqCst) {
                        std::thread::sleep(ASIDE);
                        continue;
                    }
                    let read = {
                        let _held = gate.lock().unwrap_or_else(PoisonError::into_inner);
                        read()
                    };
                    let message = match read {
                        Ok(Some(message)) => message,
                        Ok(None) => continue,
                        // The terminal was closed.
                        Err(_) => Message::Terminate,
                    };
                    let is_end = matches!(message, Message::Terminate);
                    if sender.send(message).is_err() || is_end {
                        return;
                    }
                }
            })?;
        Ok(input)
    }

    /// Nothing is read from the terminal until the result is dropped.
    pub fn pause(&self) -> Paused<'_> {
        self.is_wanted.store(true, Ordering::SeqCst);
        Paused {
            _gate: self.gate.lock().unwrap_or_else(PoisonError::into_inner),
            is_wanted: &self.is_wanted,
        }
    }
}

/// While this lives nothing is read from the terminal.
pub struct Paused<'a> {
    _gate: MutexGuard<'a, ()>,
    is_wanted: &'a AtomicBool,
}

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        self.is_wanted.store(false, Ordering::SeqCst);
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

fn read() -> io::Result<Option<Message>> {
    if !event::poll(PATIENCE)? {
        return Ok(None);
    }
    Ok(match event::read()? {
        Event::Key(key) => Some(Message::Key(key)),
        Event::Mouse(mouse) => Some(Message::Mouse(mouse)),
        Event::Paste(text) => Some(Message::Paste(text)),
        Event::Resize(width, height) => Some(Message::Resize { width, height }),
        Event::FocusGained | Event::FocusLost => None,
    })
}

/// Which signal ended the program, if one did.
#[derive(Clone, Debug, Default)]
pub struct Ended {
    signal: Arc<AtomicI32>,
}

impl Ended {
    /// 130, 143 or the like.
    pub fn exit_code(&self) -> Option<u8> {
        match self.signal.load(Ordering::Relaxed) {
            0 => None,
            signal => Some(exit::SIGNAL + u8::try_from(signal).unwrap_or(0)),
        }
    }
}

/// SIGTERM, SIGHUP and SIGINT end the program with the terminal restored; the second one does so
/// even if the program hangs. Ctrl-C on the keyboard is a key, not a signal.
///
/// # Errors
/// The system refuses the handlers.
pub fn listen_for_signals(sender: Sender<Message>) -> io::Result<Ended> {
    let ended = Ended::default();
    let mut signals = Signals::new([SIGTERM, SIGHUP, SIGINT, SIGTSTP])?;
    let first = Arc::clone(&ended.signal);
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            for signal in signals.forever() {
                if signal == SIGTSTP {
                    // As if Ctrl-Z had been pressed: the screen is left first.
                    let key = crossterm::event::KeyEvent::new(
                        crossterm::event::KeyCode::Char('z'),
                        crossterm::event::KeyModifiers::CONTROL,
                    );
                    let _ = sender.send(Message::Key(key));
                    continue;
                }
                if first.swap(signal, Ordering::Relaxed) != 0 {
                    restore();
                    let code = exit::SIGNAL + u8::try_from(signal).unwrap_or(0);
                    signal_hook::low_level::exit(i32::from(code));
                }
                let _ = sender.send(Message::Terminate);
            }
        })?;
    Ok(ended)
}

/// Stops this process as the terminal's suspend character would; returns when it is continued.
pub fn stop_this_process() {
    // Fails only for signals that do not exist.
    let _ = emulate_default_handler(SIGTSTP);
}
