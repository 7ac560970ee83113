//! log.txt of a run: the lines of the console, with the time of each.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// The log of a run. The run has its directory only after the first lines, so they wait until then.
#[derive(Debug, Default)]
pub enum Log {
    /// Nothing is kept.
    #[default]
    Off,
    /// Lines that wait until the file is open.
    Waiting(Vec<String>),
    /// Lines are appended.
    Open(File),
}

impl Log {
    /// Adds a line.
    ///
    /// # Errors
    /// The file cannot be written; nothing is kept from then on.
    pub fn add(&mut self, line: &str) -> io::Result<()> {
        let stamped = format!("{:.0} {line}\n", jiff::Timestamp::now());
        match self {
            Self::Off => {}
            Self::Waiting(lines) => lines.push(stamped),
            Self::Open(file) => {
                if let Err(error) = file.write_all(stamped.as_bytes()) {
                    *self = Self::Off;
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Appends to `path` from now on, the waiting lines first.
    ///
    /// # Errors
    /// The file cannot be written; nothing is kept from then on.
    pub fn open(&mut self, path: &Path) -> io::Result<()> {
        let Self::Waiting(lines) = std::mem::take(self) else {
            return Ok(());
        };
        let mut file = OpenOptions::new().create(true).append(true).open(path)?;
        file.write_all(lines.concat().as_bytes())?;
        *self = Self::Open(file);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_wait_for_their_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.txt");
        let mut log = Log::Waiting(Vec::new());
        log.add("first").unwrap();
        log.open(&path).unwrap();
        log.add("second").unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text
            .lines()
            .map(|line| line.split_once(' ').unwrap().1)
            .collect();
        assert_eq!(lines, ["first", "second"]);
        let mut log = Log::Waiting(Vec::new());
        assert!(log.open(&folder.path().join("absent/log.txt")).is_err());
        log.add("lost").unwrap();
        assert!(matches!(log, Log::Off));
    }
}
