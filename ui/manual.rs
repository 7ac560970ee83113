//! The manual page and shell completions, generated from the definition of the command line.

use clap::CommandFactory;
use clap_mangen::roff::{Roff, bold, roman};

use crate::cli::Cli;
use crate::console::to_stdout;
use crate::failure::{Outcome, exit};
use crate::tui::keymap::{BINDINGS, Scope};

/// Writes the manual page, in roff.
pub fn page() -> Outcome {
    let mut page = Vec::new();
    clap_mangen::Man::new(Cli::command()).render(&mut page)?;
    keys(&mut page)?;
    to_stdout(&String::from_utf8_lossy(&page))?;
    Ok(exit::DONE)
}

/// Writes the completions of a shell.
pub fn completions(shell: clap_complete::Shell) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "moim", &mut script);
    to_stdout(&String::from_utf8_lossy(&script))?;
    Ok(exit::DONE)
}

/// The section on the keys of the terminal UI.
fn keys(page: &mut Vec<u8>) -> std::io::Result<()> {
    let mut roff = Roff::new();
    roff.control("SH", ["KEYS OF THE TERMINAL UI"]);
    for binding in BINDINGS {
        let scope = match binding.scope {
            Scope::Everywhere => String::new(),
            Scope::On(screen) => format!(" ({})", screen.title()),
        };
        roff.control("TP", []);
        roff.text([bold(binding.keys.join("  "))]);
        roff.text([roman(format!("{}{scope}", binding.help))]);
    }
    roff.to_writer(page)
}
