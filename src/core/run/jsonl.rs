//! Writing append-only files of one JSON object per line, so that they survive a crash.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::publish::{WriteError, sync_folder_of};

/// The version of the formats that are written with [`Versioned`].
const VERSION: u64 = 1;

/// An object with the version of its format in front, as `v`. Reading ignores it: a later version
/// that an old reader must not take for its own changes the file's name.
#[derive(Debug, Serialize)]
pub(super) struct Versioned<'a, T> {
    v: u64,
    #[serde(flatten)]
    content: &'a T,
}

impl<'a, T> Versioned<'a, T> {
    /// `content` with the version in front.
    pub(super) fn new(content: &'a T) -> Self {
        Self {
            v: VERSION,
            content,
        }
    }
}

/// The one writer of a file of lines.
#[derive(Debug)]
pub(super) struct JsonLines {
    path: PathBuf,
    file: File,
    position: u64,
}

impl JsonLines {
    /// Opens for appending, creating the file where there is none. A last line that a crash left
    /// incomplete is moved to `<name>.discarded.jsonl`.
    pub(super) fn open(path: &Path) -> Result<Self, WriteError> {
        let is_new = !path.exists();
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(path)
            .map_err(WriteError::on("open", path))?;
        if is_new {
            sync_folder_of(path).map_err(WriteError::on("open", path))?;
        }
        let position = file.metadata().map_err(WriteError::on("open", path))?.len();
        let mut lines = Self {
            path: path.to_owned(),
            file,
            position,
        };
        lines.mend_tail().map_err(WriteError::on("mend", path))?;
        Ok(lines)
    }

    fn mend_tail(&mut self) -> io::Result<()> {
        let end_of_lines = end_of_last_line(&mut self.file, self.position)?;
        if end_of_lines == self.position {
            return Ok(());
        }
        self.file.seek(SeekFrom::Start(end_of_lines))?;
        let mut torn = Vec::new();
        self.file.read_to_end(&mut torn)?;
        // A whole object without its line break is no loss.
        if serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&torn).is_ok() {
            self.file.write_all(b"\n")?;
            self.position += 1;
            return self.file.sync_data();
        }
        self.cut(end_of_lines)
    }

    /// Appends one line in one write. If that fails, the part that was written is removed,
    /// so that the file stays whole.
    pub(super) fn append(&mut self, line: &str) -> Result<(), WriteError> {
        let mut bytes = Vec::with_capacity(line.len() + 1);
        bytes.extend_from_slice(line.as_bytes());
        bytes.push(b'\n');
        if let Err(error) = self.file.write_all(&bytes) {
            // If even this fails, the incomplete line is repaired when the file is next opened.
            let _ = self.file.set_len(self.position);
            return Err(WriteError::new("append to", &self.path, error));
        }
        self.position += bytes.len() as u64;
        Ok(())
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The length in bytes: where the next line goes.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Waits until everything appended is on the disk.
    pub(super) fn sync(&self) -> Result<(), WriteError> {
        self.file
            .sync_data()
            .map_err(WriteError::on("sync", &self.path))
    }

    /// Cuts the file back to `position`, the end of some line. What is cut goes to
    /// `<name>.discarded.jsonl`, and is safe there before it is removed here.
    pub(super) fn truncate_to(&mut self, position: u64) -> Result<(), WriteError> {
        self.check_length(position)?;
        if position == self.position {
            return Ok(());
        }
        let end = end_of_last_line(&mut self.file, position)
            .map_err(WriteError::on("read", &self.path))?;
        if end != position {
            return Err(self.refuse(format!("byte {position} is in the middle of a line")));
        }
        self.cut(position)
            .map_err(WriteError::on("cut", &self.path))
    }

    /// Whether [`JsonLines::truncate_to`] has as much to keep as is asked of it.
    pub(super) fn check_length(&self, position: u64) -> Result<(), WriteError> {
        if position <= self.position {
            Ok(())
        } else {
            Err(self.refuse(format!(
            "it has {} bytes of whole lines, fewer than the {position} it had at the save point; the file was \
             replaced or cut by something else: put a copy of it back",
            self.position
        )))
        }
    }

    fn refuse(&self, problem: String) -> WriteError {
        let problem = io::Error::new(io::ErrorKind::InvalidInput, problem);
        WriteError::new("cut", &self.path, problem)
    }

    fn cut(&mut self, position: u64) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(position))?;
        let mut cut = Vec::new();
        self.file.read_to_end(&mut cut)?;
        if cut.last() != Some(&b'\n') {
            cut.push(b'\n');
        }
        let mut discarded = OpenOptions::new()
            .append(true)
            .create(true)
            .open(self.path.with_extension("discarded.jsonl"))?;
        discarded.write_all(&cut)?;
        discarded.sync_all()?;
        self.file.set_len(position)?;
        self.position = position;
        self.file.sync_all()
    }
}

/// The end of the last complete line that ends at or before `limit`.
fn end_of_last_line(file: &mut File, limit: u64) -> io::Result<u64> {
    const BLOCK: u64 = 64 * 1024;
    let mut block = Vec::new();
    let mut end = limit;
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        file.seek(SeekFrom::Start(start))?;
        block.clear();
        Read::by_ref(file)
            .take(end - start)
            .read_to_end(&mut block)?;
        if let Some(newline) = block.iter().rposition(|&byte| byte == b'\n') {
            return Ok(start + newline as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(content: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        std::fs::write(&path, content).unwrap();
        (folder, path)
    }

    fn read(path: &Path) -> String {
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn a_torn_tail_is_moved_away_before_appending() {
        let (_folder, path) = file("{\"a\":1}\n{\"b\":");
        let mut lines = JsonLines::open(&path).unwrap();
        assert_eq!(lines.position(), 8);
        lines.append("{\"c\":3}").unwrap();
        lines.sync().unwrap();
        assert_eq!(read(&path), "{\"a\":1}\n{\"c\":3}\n");
        assert_eq!(
            read(&path.with_file_name("events.discarded.jsonl")),
            "{\"b\":\n"
        );
    }

    #[test]
    fn a_whole_last_line_only_gets_its_line_break() {
        let (folder, path) = file("{\"a\":1}\n{\"b\":2}");
        assert_eq!(JsonLines::open(&path).unwrap().position(), 16);
        assert_eq!(read(&path), "{\"a\":1}\n{\"b\":2}\n");
        assert!(!folder.path().join("events.discarded.jsonl").exists());
    }

    #[test]
    fn a_torn_tail_longer_than_a_block_is_found() {
        let long = format!("{{\"a\":1}}\n{{\"b\":\"{}", "가".repeat(60_000));
        let (_folder, path) = file(&long);
        assert_eq!(JsonLines::open(&path).unwrap().position(), 8);
        let (_folder, path) = file("{\"only\":");
        assert_eq!(JsonLines::open(&path).unwrap().position(), 0);
    }

    #[test]
    fn truncating_keeps_what_it_cuts() {
        let (_folder, path) = file("");
        let mut lines = JsonLines::open(&path).unwrap();
        lines.append("{\"step\":1}").unwrap();
        let saved = lines.position();
        lines.append("{\"step\":2}").unwrap();
        lines.append("{\"step\":3}").unwrap();
        assert!(
            lines
                .truncate_to(saved + 1)
                .unwrap_err()
                .to_string()
                .contains("middle of a line")
        );
        assert!(
            lines
                .truncate_to(1000)
                .unwrap_err()
                .to_string()
                .contains("fewer than the 1000")
        );
        lines.truncate_to(saved).unwrap();
        lines.append("{\"step\":22}").unwrap();
        assert_eq!(read(&path), "{\"step\":1}\n{\"step\":22}\n");
        assert_eq!(
            read(&path.with_file_name("events.discarded.jsonl")),
            "{\"step\":2}\n{\"step\":3}\n"
        );
        lines.truncate_to(0).unwrap();
        assert_eq!(read(&path), "");
    }

    #[test]
    fn a_full_disk_leaves_the_file_whole_and_is_named() {
        // Every write to /dev/full fails as on a full disk.
        let Ok(full) = OpenOptions::new().append(true).open("/dev/full") else {
            return;
        };
        let mut lines = JsonLines {
            path: PathBuf::from("run/events.jsonl"),
            file: full,
            position: 0,
        };
        let text = lines.append("{}").unwrap_err().to_string();
        assert!(
            text.starts_with("cannot append to run/events.jsonl: ")
                && text.contains("free some space"),
            "{text}"
        );
        assert_eq!(lines.position(), 0);
    }
}
