//! Reading files of JSON lines from their beginning to their end.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
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

/// Reads a file of JSON lines, e.g. of [`Event`](super::Event)s. A bad line in the middle is reported and
/// reading continues after it; a last line without a line break is still being written, or is incomplete
/// after a crash, and is left out. A file that grows is followed by [`Tail`](super::Tail).
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

#[cfg(test)]
mod tests {
    use serde_json::Value;

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
}
