//! Reading files of JSON lines: whole, or as they grow.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

/// A complete line that is not what the file should hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}:{line}: {problem}", path.display())]
pub struct BadLine {
    /// The file.
    pub path: PathBuf,
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub problem: String,
}

fn parse<T: DeserializeOwned>(path: &Path, line: usize, bytes: &[u8]) -> Result<T, BadLine> {
    serde_json::from_slice(bytes).map_err(|error| {
        let problem = match error.classify() {
            serde_json::error::Category::Data => error.to_string(),
            _ => format!("not JSON: {error}"),
        };
        BadLine {
            path: path.to_owned(),
            line,
            problem,
        }
    })
}

/// The lines of a file from its beginning; see [`read_lines`].
#[derive(Debug)]
pub struct Lines<T> {
    path: PathBuf,
    reader: BufReader<File>,
    line: usize,
    is_torn: bool,
    item: PhantomData<fn() -> T>,
}

/// Reads a file of JSON lines ([`Event`](super::Event)s, say). A bad line in the middle is
/// reported and reading goes on behind it; a last line that lacks its line break is still being
/// written, or was torn by a crash, and is left out.
///
/// # Errors
/// The file cannot be opened.
pub fn read_lines<T: DeserializeOwned>(path: &Path) -> io::Result<Lines<T>> {
    let file = crate::regular_file::open(path).map_err(|error| named(path, error))?;
    Ok(Lines {
        path: path.to_owned(),
        reader: BufReader::new(file),
        line: 0,
        is_torn: false,
        item: PhantomData,
    })
}

fn named(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(
        error.kind(),
        format!("cannot read {}: {error}", path.display()),
    )
}

impl<T> Lines<T> {
    /// Whether the last line lacked its line break; known when the iteration has ended.
    pub fn is_torn(&self) -> bool {
        self.is_torn
    }
}

impl<T: DeserializeOwned> Iterator for Lines<T> {
    type Item = Result<T, BadLine>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut bytes = Vec::new();
        loop {
            bytes.clear();
            self.line += 1;
            match self.reader.read_until(b'\n', &mut bytes) {
                Err(error) => {
                    // Another read would meet the same error for ever.
                    self.is_torn = true;
                    self.reader.seek(SeekFrom::End(0)).ok();
                    let problem = format!("cannot be read: {error}");
                    return Some(Err(BadLine {
                        path: self.path.clone(),
                        line: self.line,
                        problem,
                    }));
                }
                Ok(0) => return None,
                Ok(_) if bytes.last() != Some(&b'\n') => {
                    self.is_torn = true;
                    return None;
                }
                Ok(_) if bytes.trim_ascii().is_empty() => {}
                Ok(_) => return Some(parse(&self.path, self.line, &bytes)),
            }
        }
    }
}

/// What a [`Follower`] found.
#[derive(Clone, Debug, PartialEq)]
pub struct Update<T> {
    /// The file was cut or replaced: forget everything from earlier updates.
    pub has_restarted: bool,
    /// The new complete lines.
    pub items: Vec<Result<T, BadLine>>,
    /// There is more to read at once.
    pub has_more: bool,
}

/// Follows a file of JSON lines while it grows.
#[derive(Debug)]
pub struct Follower<T> {
    path: PathBuf,
    offset: u64,
    line: usize,
    /// The last line that was read, to notice that the file was cut and grew again.
    last_line: Vec<u8>,
    item: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Follower<T> {
    /// The most bytes read by one [`Follower::poll`], so that a long file cannot hold a caller up.
    const MOST_BYTES: u64 = 8 * 1024 * 1024;

    /// Follows `path` from its beginning; it need not exist yet.
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            offset: 0,
            line: 0,
            last_line: Vec::new(),
            item: PhantomData,
        }
    }

    /// The lines that were completed since the last call. A file that is not there (yet, or any
    /// more) has no lines.
    ///
    /// # Errors
    /// The file is there and cannot be read.
    pub fn poll(&mut self) -> io::Result<Update<T>> {
        let mut update = Update {
            has_restarted: false,
            items: Vec::new(),
            has_more: false,
        };
        let mut file = match crate::regular_file::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                update.has_restarted = self.offset > 0;
                self.restart();
                return Ok(update);
            }
            Err(error) => return Err(named(&self.path, error)),
        };
        let length = file
            .metadata()
            .map_err(|error| named(&self.path, error))?
            .len();
        if length == self.offset {
            return Ok(update);
        }
        if !self
            .is_same_file(&mut file, length)
            .map_err(|error| named(&self.path, error))?
        {
            update.has_restarted = true;
            self.restart();
        }
        self.read_on(&mut file, &mut update)
            .map_err(|error| named(&self.path, error))?;
        Ok(update)
    }

    fn restart(&mut self) {
        self.offset = 0;
        self.line = 0;
        self.last_line.clear();
    }

    fn is_same_file(&self, file: &mut File, length: u64) -> io::Result<bool> {
        if length < self.offset {
            return Ok(false);
        }
        let mut there = vec![0; self.last_line.len()];
        file.seek(SeekFrom::Start(self.offset - self.last_line.len() as u64))?;
        file.read_exact(&mut there)?;
        Ok(there == self.last_line)
    }

    fn read_on(&mut self, file: &mut File, update: &mut Update<T>) -> io::Result<()> {
        file.seek(SeekFrom::Start(self.offset))?;
        let mut reader = BufReader::new(file);
        let begun_at = self.offset;
        let mut bytes = Vec::new();
        loop {
            bytes.clear();
            reader.read_until(b'\n', &mut bytes)?;
            if bytes.last() != Some(&b'\n') {
                return Ok(());
            }
            self.offset += bytes.len() as u64;
            self.line += 1;
            if !bytes.trim_ascii().is_empty() {
                update.items.push(parse(&self.path, self.line, &bytes));
            }
            std::mem::swap(&mut self.last_line, &mut bytes);
            if self.offset - begun_at >= Self::MOST_BYTES {
                update.has_more = true;
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::jsonl::JsonLines;
    use super::*;

    fn file(content: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        std::fs::write(&path, content).unwrap();
        (folder, path)
    }

    #[test]
    fn reading_reports_bad_lines_and_leaves_a_torn_one_out() {
        let (_folder, path) = file("{\"a\":1}\nnot json\n\n[1]\n{\"b\":");
        let mut lines = read_lines::<serde_json::Map<String, Value>>(&path).unwrap();
        assert_eq!(lines.next().unwrap().unwrap()["a"], 1);
        let bad = lines.next().unwrap().unwrap_err();
        assert!(
            bad.line == 2 && bad.to_string().contains("events.jsonl:2: not JSON"),
            "{bad}"
        );
        assert_eq!(lines.next().unwrap().unwrap_err().line, 4);
        assert!(lines.next().is_none());
        assert!(lines.is_torn());
        let missing = read_lines::<Value>(&path.with_file_name("absent")).unwrap_err();
        assert!(missing.to_string().contains("absent"), "{missing}");
    }

    #[test]
    fn following_sees_each_line_once_and_notices_a_cut() {
        let (_folder, path) = file("");
        std::fs::remove_file(&path).unwrap();
        let mut follower = Follower::<Value>::new(&path);
        let values = |update: Update<Value>| {
            update
                .items
                .into_iter()
                .map(|item| item.unwrap()["s"].as_i64().unwrap())
                .collect::<Vec<_>>()
        };
        assert!(follower.poll().unwrap().items.is_empty());
        std::fs::write(&path, "{\"s\":1}\n{\"s\":2}\n{\"s\"").unwrap();
        assert_eq!(values(follower.poll().unwrap()), [1, 2]);
        let mut lines = JsonLines::open(&path).unwrap();
        lines.append("{\"s\":3}").unwrap();
        assert_eq!(values(follower.poll().unwrap()), [3]);
        assert!(follower.poll().unwrap().items.is_empty());

        // Cut and grown past the old length between two polls.
        lines.truncate_to(8).unwrap();
        for line in ["{\"s\":22}", "{\"s\":33}", "{\"s\":44}"] {
            lines.append(line).unwrap();
        }
        let update = follower.poll().unwrap();
        assert!(update.has_restarted);
        assert_eq!(values(update), [1, 22, 33, 44]);

        lines.truncate_to(8).unwrap();
        let update = follower.poll().unwrap();
        assert!(update.has_restarted);
        assert_eq!(values(update), [1]);
        std::fs::remove_file(&path).unwrap();
        assert!(follower.poll().unwrap().has_restarted);
    }
}
