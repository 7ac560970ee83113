//! Signals: the first interrupt makes a run save and stop, the second stops it immediately.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::console::Console;
use crate::failure::exit;

/// Whether the program should stop. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct StopSignal {
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Whether there is something to save before stopping.
    is_armed: AtomicBool,
    /// The first signal received while armed; 0 before.
    received: AtomicI32,
}

impl StopSignal {
    /// Handles SIGINT, SIGTERM and SIGHUP from now on. Until [`Self::arm`] the first two end the program
    /// immediately. SIGHUP never does, so that a run continues when its terminal is closed.
    ///
    /// # Errors
    /// The system refuses the handlers.
    pub fn listen(console: Console) -> io::Result<Self> {
        let stop = Self::default();
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
        let state = Arc::clone(&stop.state);
        std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                for signal in signals.forever() {
                    if signal != SIGHUP {
                        state.receive(signal, &console);
                    }
                }
            })?;
        Ok(stop)
    }

    /// From now on the first signal requests a stop and the second ends the program.
    pub fn arm(&self) {
        self.state.is_armed.store(true, Ordering::Relaxed);
    }

    /// Whether the program should save and stop. Cheap.
    pub fn is_requested(&self) -> bool {
        self.state.received.load(Ordering::Relaxed) != 0
    }

    /// The exit code of the received signal, if any: 130 or 143.
    pub fn exit_code(&self) -> Option<u8> {
        match self.state.received.load(Ordering::Relaxed) {
            0 => None,
            signal => Some(code(signal)),
        }
    }
}

impl State {
    fn receive(&self, signal: i32, console: &Console) {
        let is_first = self.received.load(Ordering::Relaxed) == 0;
        if is_first && self.is_armed.load(Ordering::Relaxed) {
            self.received.store(signal, Ordering::Relaxed);
            console.report(
                "stopping: will save as soon as the current work allows; press again to stop immediately",
            );
            return;
        }
        console.clear_bars();
        if !is_first {
            console.report(
                "stopped immediately; the last save point is complete, and --resume resumes from it",
            );
        }
        // No destructors: those of a device could wait for the work that is being abandoned.
        signal_hook::low_level::exit(i32::from(code(signal)));
    }
}

fn code(signal: i32) -> u8 {
    exit::SIGNAL + u8::try_from(signal).unwrap_or(0)
}
