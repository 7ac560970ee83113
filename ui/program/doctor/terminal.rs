//! The capabilities of the terminal, as far as they can be queried.

use std::env;
use std::io::{self, IsTerminal, Write};

use crossterm::cursor;
use crossterm::terminal::{Clear, ClearType, disable_raw_mode, enable_raw_mode};
use crossterm::{execute, queue};
use unicode_width::UnicodeWidthStr;

use moim_ui::tui::color_depth;

/// The rows of the report.
pub fn rows() -> Vec<(&'static str, String)> {
    vec![
        ("terminal", size()),
        ("colours", colours()),
        ("width", widths()),
        ("clipboard", clipboard()),
    ]
}

fn size() -> String {
    let shown = |is_terminal: bool| {
        if is_terminal {
            "a terminal"
        } else {
            "not a terminal"
        }
    };
    let size = rustix::termios::tcgetwinsize(io::stderr())
        .or_else(|_| rustix::termios::tcgetwinsize(io::stdout()));
    let size = match size {
        Err(_) => "size unknown".to_owned(),
        Ok(size) if size.ws_col < 80 || size.ws_row < 24 => format!(
            "{} columns × {} rows, too small for the terminal UI (80 × 24)",
            size.ws_col, size.ws_row
        ),
        Ok(size) => format!("{} columns × {} rows", size.ws_col, size.ws_row),
    };
    format!(
        "stdout is {}, stderr is {}; {size}",
        shown(io::stdout().is_terminal()),
        shown(io::stderr().is_terminal())
    )
}

fn colours() -> String {
    let variable = |name: &str| env::var(name).unwrap_or_else(|_| "not set".to_owned());
    let depth = color_depth().name();
    let no_color = match env::var_os("NO_COLOR") {
        Some(value) if !value.is_empty() => ", turned off by NO_COLOR",
        _ => "",
    };
    format!(
        "{depth}{no_color} (TERM {}, COLORTERM {})",
        variable("TERM"),
        variable("COLORTERM")
    )
}

/// The width of characters in the terminal, found by drawing them and querying the cursor position.
fn widths() -> String {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return "unknown: measured only if stdin and stdout are a terminal".to_owned();
    }
    let drawn = ["한", "→", "⣿"].map(|text| drawn_width(text).ok());
    let [Some(korean), Some(ambiguous), Some(braille)] = drawn else {
        return "unknown: the terminal does not report its cursor position".to_owned();
    };
    let korean = if korean == UnicodeWidthStr::width("한") {
        "Korean 2 cells".to_owned()
    } else {
        format!("Korean {korean} cells instead of 2, so columns will not line up")
    };
    let advice = match (ambiguous, braille) {
        (1, 1) => "→ and braille 1 cell",
        _ => {
            "→ or braille 2 cells, so borders and charts break: use --ascii, or set the terminal's \
              ambiguous width to narrow"
        }
    };
    format!("{korean}; {advice}")
}

/// Draws a text at the start of a line and returns how many cells the cursor moved.
fn drawn_width(text: &str) -> io::Result<usize> {
    enable_raw_mode()?;
    let width = (|| {
        let mut stdout = io::stdout();
        queue!(stdout, cursor::MoveToColumn(0))?;
        write!(stdout, "{text}")?;
        stdout.flush()?;
        let (column, _) = cursor::position()?;
        execute!(
            stdout,
            cursor::MoveToColumn(0),
            Clear(ClearType::CurrentLine)
        )?;
        Ok(usize::from(column))
    })();
    disable_raw_mode()?;
    width
}

/// Support for OSC 52 cannot be queried, but some multiplexers that block it are known.
fn clipboard() -> String {
    let multiplexer = match (env::var_os("TMUX"), env::var_os("STY")) {
        (Some(_), _) => "; inside tmux it needs `set -g set-clipboard on`",
        (None, Some(_)) => "; GNU screen does not forward it",
        (None, None) => "",
    };
    format!("by OSC 52, if the terminal allows it{multiplexer}")
}
