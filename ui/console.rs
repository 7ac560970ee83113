//! Writes to stdout and stderr.
//!
//! No colours are used, so `NO_COLOR` has no effect.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use indicatif::{
    HumanDuration, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle,
};

use crate::log::Log;

/// The reader of our stdout has exited (`moim … | head`). Not an error to report: the program ends
/// quietly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stdout is closed")]
pub struct StdoutClosed;

/// Writes a result to stdout unchanged.
///
/// # Errors
/// [`StdoutClosed`], or stdout is a file that cannot be written.
pub fn to_stdout(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(StdoutClosed.into()),
        Err(error) => Err(anyhow::Error::new(error).context("cannot write to stdout")),
    }
}

/// Writes a JSON value to stdout, indented.
///
/// # Errors
/// Those of [`to_stdout`].
pub fn json_to_stdout(value: &serde_json::Value) -> anyhow::Result<()> {
    to_stdout(&format!("{}\n", serde_json::to_string_pretty(value)?))
}

/// Writes a line to stderr. Errors are ignored: a training run continues when its terminal is closed.
pub fn to_stderr(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// The templates of bars: for counted work, and for work without a count.
const COUNTED: &str = "{prefix:<10} [{bar:30}] {pos}/{len}  eta {left}  {msg}";
const UNCOUNTED: &str = "{prefix:<10} {msg}";

/// The remaining time, which is unknown before the first unit of work is done.
fn write_time_left(state: &ProgressState, writer: &mut dyn fmt::Write) {
    let left = state.eta();
    let is_unknown = left.is_zero() && state.len().is_some_and(|length| state.pos() < length);
    let _ = if is_unknown {
        writer.write_str("?")
    } else {
        write!(writer, "{:#}", HumanDuration(left))
    };
}

/// Stderr, shared by lines and progress bars, and the log of a run. Clones share both.
#[derive(Clone, Debug)]
pub struct Console {
    bars: MultiProgress,
    has_bars: bool,
    is_quiet: bool,
    log: Arc<Mutex<Log>>,
}

impl Console {
    /// Bars are drawn if stderr is a terminal and `is_quiet` is not set.
    pub fn new(is_quiet: bool) -> Self {
        let has_bars = !is_quiet && io::stderr().is_terminal();
        // Ten frames per second are enough for a terminal over ssh.
        let target = if has_bars {
            ProgressDrawTarget::stderr_with_hz(10)
        } else {
            ProgressDrawTarget::hidden()
        };
        Self {
            bars: MultiProgress::with_draw_target(target),
            has_bars,
            is_quiet,
            log: Arc::default(),
        }
    }

    /// The same, keeping every line until [`Self::open_log`] names the log file.
    pub fn with_log(is_quiet: bool) -> Self {
        Self {
            log: Arc::new(Mutex::new(Log::Waiting(Vec::new()))),
            ..Self::new(is_quiet)
        }
    }

    /// Logs to `path`, starting with the lines kept so far.
    pub fn open_log(&self, path: &Path) {
        let opened = self.with_lock(|log| log.open(path));
        if let Err(error) = opened {
            self.show(&format!(
                "warning: {}: no log is written: {error}",
                path.display()
            ));
        }
    }

    /// Whether bars are drawn.
    pub fn has_bars(&self) -> bool {
        self.has_bars
    }

    /// A line of information, not shown if quiet.
    pub fn note(&self, line: &str) {
        self.log(line);
        if !self.is_quiet {
            self.show(line);
        }
    }

    /// A line that is always shown.
    pub fn report(&self, line: &str) {
        self.log(line);
        self.show(line);
    }

    /// A line only for the log.
    pub fn log(&self, line: &str) {
        if let Err(error) = self.with_lock(|log| log.add(line)) {
            self.show(&format!("warning: log.txt ends here: {error}"));
        }
    }

    fn with_lock<T>(&self, act: impl FnOnce(&mut Log) -> T) -> T {
        // A thread that panicked with the lock held left the log usable.
        act(&mut self.log.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Shows a line above the bars.
    fn show(&self, line: &str) {
        self.bars.suspend(|| to_stderr(line));
    }

    /// A new bar below the others; `total` up to 1 is work without a count.
    pub fn bar(&self, name: &str, total: usize) -> ProgressBar {
        let template = if total > 1 { COUNTED } else { UNCOUNTED };
        // Both templates are constants and parse; an error would only change the appearance.
        let style = ProgressStyle::with_template(template)
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .progress_chars("=> ")
            .with_key("left", write_time_left);
        let bar = self.bars.add(ProgressBar::new(total as u64));
        bar.set_style(style);
        bar.set_prefix(name.to_owned());
        if self.has_bars {
            // Keeps the remaining time current during a long batch.
            bar.enable_steady_tick(Duration::from_millis(500));
        }
        bar
    }

    /// Removes every bar from the screen.
    pub fn clear_bars(&self) {
        let _ = self.bars.clear();
    }
}
