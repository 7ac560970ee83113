//! The terminal: taken over, and restored whatever happens.

use std::fs::File;
use std::io::{self, BufWriter, Stdout, Write};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;

use base64::Engine;
use crossterm::cursor::{Hide, Show};
use crossterm::event::{
    DisableBracketedPaste, DisableMouseCapture, EnableBracketedPaste, EnableMouseCapture,
};
use crossterm::terminal::{
    BeginSynchronizedUpdate, Clear, ClearType, EndSynchronizedUpdate, EnterAlternateScreen,
    LeaveAlternateScreen, SetTitle, disable_raw_mode, enable_raw_mode,
};
use crossterm::{execute, queue};
use ratatui::Frame;
use ratatui::backend::CrosstermBackend;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::message::{Message, Outcome};
use super::text::width;

/// Whether the terminal is taken over, so that an emergency exit knows whether to restore it.
static IS_TAKEN: AtomicBool = AtomicBool::new(false);

/// The terminal while it is taken over; restored on drop.
pub struct Terminal {
    inner: ratatui::Terminal<CrosstermBackend<BufWriter<Stdout>>>,
    has_mouse: bool,
    /// Where stderr went before: nothing may overwrite the screen.
    stderr: Option<OwnedFd>,
    /// What is on the screen.
    drawn: Buffer,
}

impl Terminal {
    /// Takes the terminal over.
    ///
    /// # Errors
    /// The terminal refuses raw mode or cannot be written to.
    pub fn take(has_mouse: bool) -> io::Result<Self> {
        let stderr = silence_stderr();
        let taken = enter(has_mouse).and_then(|()| fresh());
        match taken {
            Ok(inner) => Ok(Self {
                inner,
                has_mouse,
                stderr,
                drawn: Buffer::empty(Rect::ZERO),
            }),
            Err(error) => {
                restore();
                restore_stderr(stderr);
                Err(error)
            }
        }
    }

    /// The size in cells.
    ///
    /// # Errors
    /// The terminal does not report it.
    pub fn size(&self) -> io::Result<Rect> {
        let size = self.inner.size()?;
        Ok(Rect::new(0, 0, size.width, size.height))
    }

    /// Draws a frame. Terminals that know synchronized updates show it in one piece.
    ///
    /// # Errors
    /// The terminal cannot be written to.
    pub fn draw(&mut self, view: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        queue!(self.inner.backend_mut(), BeginSynchronizedUpdate)?;
        let frame = self.inner.draw(view)?;
        self.drawn.clone_from(frame.buffer);
        execute!(self.inner.backend_mut(), EndSynchronizedUpdate)
    }

    /// What is on the screen.
    pub fn drawn(&self) -> &Buffer {
        &self.drawn
    }

    /// Draws every cell again at the next [`Terminal::draw`].
    ///
    /// # Errors
    /// The terminal cannot be written to.
    pub fn clear(&mut self) -> io::Result<()> {
        // ratatui's own `clear` asks for the position of the cursor, and the thread that reads the
        // keys would get the reply. A new one draws every cell as well.
        execute!(io::stdout(), Clear(ClearType::All))?;
        self.inner = fresh()?;
        Ok(())
    }

    /// Switches reports of the mouse.
    ///
    /// # Errors
    /// The terminal cannot be written to.
    pub fn set_mouse(&mut self, is_on: bool) -> io::Result<()> {
        self.has_mouse = is_on;
        if is_on {
            execute!(self.inner.backend_mut(), EnableMouseCapture)
        } else {
            execute!(self.inner.backend_mut(), DisableMouseCapture)
        }
    }

    /// Puts `text` into the clipboard of the terminal by OSC 52, through tmux as well if its
    /// `allow-passthrough` or `set-clipboard` is on.
    ///
    /// # Errors
    /// The terminal cannot be written to.
    pub fn copy(&mut self, text: &str) -> io::Result<()> {
        let encoded = base64::engine::general_purpose::STANDARD.encode(text);
        let backend = self.inner.backend_mut();
        write!(backend, "\x1b]52;c;{encoded}\x07")?;
        io::Write::flush(backend)
    }

    /// Restores the terminal while `work` runs, for an editor or a stopped process.
    ///
    /// # Errors
    /// The terminal cannot be taken over again.
    pub fn lend<T>(&mut self, work: impl FnOnce() -> T) -> io::Result<T> {
        restore();
        restore_stderr(self.stderr.take());
        let result = work();
        self.stderr = silence_stderr();
        enter(self.has_mouse)?;
        self.clear()?;
        Ok(result)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        restore();
        restore_stderr(self.stderr.take());
    }
}

fn fresh() -> io::Result<ratatui::Terminal<CrosstermBackend<BufWriter<Stdout>>>> {
    ratatui::Terminal::new(CrosstermBackend::new(BufWriter::new(io::stdout())))
}

fn enter(has_mouse: bool) -> io::Result<()> {
    enable_raw_mode()?;
    IS_TAKEN.store(true, Ordering::SeqCst);
    let mut stdout = io::stdout();
    execute!(
        stdout,
        EnterAlternateScreen,
        EnableBracketedPaste,
        Hide,
        SetTitle("moim")
    )?;
    if has_mouse {
        execute!(stdout, EnableMouseCapture)?;
    }
    Ok(())
}

/// Restores the terminal; if a step fails, the rest is still tried. Does nothing if the
/// terminal is not taken over.
pub fn restore() {
    if !IS_TAKEN.swap(false, Ordering::SeqCst) {
        return;
    }
    let mut stdout = io::stdout();
    let _ = execute!(stdout, EndSynchronizedUpdate);
    let _ = execute!(stdout, DisableMouseCapture, DisableBracketedPaste);
    let _ = execute!(stdout, LeaveAlternateScreen, Show);
    let _ = disable_raw_mode();
}

/// Discards stderr: a library that prints would break the screen. Returns where it went before;
/// `None` if that is no terminal and nothing has to be done.
fn silence_stderr() -> Option<OwnedFd> {
    if !io::IsTerminal::is_terminal(&io::stderr()) {
        return None;
    }
    let before = rustix::io::fcntl_dupfd_cloexec(io::stderr(), 3).ok()?;
    let nowhere = File::options().write(true).open("/dev/null").ok()?;
    rustix::stdio::dup2_stderr(nowhere).ok()?;
    Some(before)
}

fn restore_stderr(before: Option<OwnedFd>) {
    if let Some(before) = before {
        let _ = rustix::stdio::dup2_stderr(before);
    }
}

/// A panic of the main thread restores the terminal before it is reported; one of a worker becomes
/// a message, and the terminal stays.
pub fn hook_panics(sender: Sender<Message>) {
    let main = std::thread::current().id();
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if std::thread::current().id() == main {
            restore();
            // stderr may be discarded; the terminal is where stdout is.
            let _ = writeln!(io::stdout(), "moim: this is a bug: {panic}");
            before(panic);
        } else {
            let text = format!("a worker failed, which is a bug: {panic}");
            let _ = sender.send(Message::Done(Outcome::Failed(text)));
        }
    }));
}

/// The lines of a buffer without trailing blanks.
pub fn text_of(buffer: &Buffer) -> String {
    let mut text = String::new();
    for y in buffer.area.top()..buffer.area.bottom() {
        let mut line = String::new();
        let mut covered = 0;
        for x in buffer.area.left()..buffer.area.right() {
            let symbol = buffer[(x, y)].symbol();
            // The second cell of a wide character is empty.
            if covered > 0 {
                covered -= 1;
                continue;
            }
            covered = width(symbol).saturating_sub(1);
            line.push_str(symbol);
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}
