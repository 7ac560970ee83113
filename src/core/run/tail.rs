//! A file of lines that grows, read from its beginning or from its end: then what follows, and what is before it.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

/// Bytes of the end that are read first.
const FIRST_BYTES: u64 = 1 << 20;

/// Bytes that are read at a time after that; a longer line is read whole.
const CHUNK_BYTES: u64 = 4 << 20;

/// A line longer than this is skipped, so that a file without line breaks cannot fill the memory.
const LONGEST_LINE: u64 = 64 << 20;

/// Bytes read last that are kept, to notice that a file was cut and has grown again.
const KEPT_BYTES: usize = 256;

/// Follows a file of lines while it grows. The part from `head` to `end` has been read.
#[derive(Debug)]
pub struct Tail {
    path: PathBuf,
    /// Whether the last lines are read first.
    is_end_first: bool,
    file: Option<File>,
    inode: u64,
    length: u64,
    /// Where the first line that was read starts.
    head: u64,
    /// Where the last whole line that was read ends.
    end: u64,
    has_begun: bool,
    /// The length at which no whole line was found after `end`.
    incomplete_at: Option<u64>,
    last_bytes: Vec<u8>,
    buffer: Vec<u8>,
}

/// Whole lines, with the line break of the last.
#[derive(Clone, Copy, Debug)]
pub struct LineChunk<'a> {
    /// The position of the first byte in the file.
    pub offset: u64,
    /// The lines.
    pub bytes: &'a [u8],
}

impl<'a> LineChunk<'a> {
    /// Each line with its position, without its line break; empty ones are left out.
    pub fn each(self) -> impl Iterator<Item = (u64, &'a [u8])> {
        let mut offset = self.offset;
        self.bytes
            .split_inclusive(|byte| *byte == b'\n')
            .filter_map(move |line| {
                let place = offset;
                offset += line.len() as u64;
                let line = line.trim_ascii();
                (!line.is_empty()).then_some((place, line))
            })
    }

    /// Each line as JSON.
    pub fn values<T: DeserializeOwned>(self) -> impl Iterator<Item = serde_json::Result<T>> {
        self.each().map(|(_, line)| serde_json::from_slice(line))
    }
}

impl Tail {
    /// Follows a file from its first line. It need not exist yet; nothing is read before [`look`](Self::look).
    pub fn from_start(path: &Path) -> Self {
        Self::new(path, false)
    }

    /// Follows a file whose last lines are read first; the others are read by [`earlier`](Self::earlier).
    pub fn from_end(path: &Path) -> Self {
        Self::new(path, true)
    }

    fn new(path: &Path, is_end_first: bool) -> Self {
        Self {
            path: path.to_owned(),
            is_end_first,
            file: None,
            inode: 0,
            length: 0,
            head: 0,
            end: 0,
            has_begun: false,
            incomplete_at: None,
            last_bytes: Vec::new(),
            buffer: Vec::new(),
        }
    }

    /// Bytes that were read, and bytes that there are.
    pub fn extent(&self) -> (u64, u64) {
        (self.end - self.head, self.length)
    }

    /// Whether there are lines before those that were read.
    pub fn has_earlier(&self) -> bool {
        self.has_begun && self.file.is_some() && self.head > 0
    }

    /// Checks whether the file has grown. Returns whether it was cut or replaced: then what was read
    /// before is no longer in it, and reading starts over. A file that does not exist counts as unchanged.
    ///
    /// # Errors
    /// The file exists and cannot be read. Like those of [`File::open`], errors do not name the file.
    pub fn look(&mut self) -> io::Result<bool> {
        let metadata = match std::fs::metadata(&self.path) {
            Ok(metadata) => metadata,
            Err(error) if is_absence(&error) => {
                self.file = None;
                return Ok(false);
            }
            Err(error) => return Err(error),
        };
        let is_another = self.inode != metadata.ino();
        self.length = metadata.len();
        if self.file.is_none() || is_another {
            self.file = Some(crate::regular_file::open(&self.path)?);
            self.inode = metadata.ino();
        }
        let has_restarted =
            self.has_begun && (is_another || self.length < self.end || !self.ends_as_before()?);
        if has_restarted {
            (self.head, self.end) = (0, 0);
            self.has_begun = false;
            self.incomplete_at = None;
            self.last_bytes.clear();
        }
        Ok(has_restarted)
    }

    fn ends_as_before(&self) -> io::Result<bool> {
        if self.length == self.end || self.incomplete_at == Some(self.length) {
            return Ok(true);
        }
        let mut there = vec![0; self.last_bytes.len()];
        if let Some(file) = &self.file {
            let start = self.end - self.last_bytes.len() as u64;
            file.read_exact_at(&mut there, start)?;
        }
        Ok(there == self.last_bytes)
    }

    /// The first line of the file, if it is whole; empty if it is longer than a megabyte.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn first_line(&self) -> io::Result<Option<Vec<u8>>> {
        let Some(file) = &self.file else {
            return Ok(None);
        };
        let mut bytes = vec![0; FIRST_BYTES.min(self.length) as usize];
        file.read_exact_at(&mut bytes, 0)?;
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let is_whole = end.is_some() || self.length >= FIRST_BYTES;
        bytes.truncate(end.unwrap_or(0));
        Ok(is_whole.then_some(bytes))
    }

    /// The lines that follow those that were read; at first the first ones of the file, or the last ones.
    /// `None` if no whole line follows.
    ///
    /// # Errors
    /// The file cannot be read, or was cut at this moment.
    pub fn newer(&mut self) -> io::Result<Option<LineChunk<'_>>> {
        if self.file.is_none() || self.length <= self.end || self.incomplete_at == Some(self.length)
        {
            return Ok(None);
        }
        if !self.has_begun {
            self.find_beginning()?;
        }
        let mut size = CHUNK_BYTES;
        loop {
            let stop = self.length.min(self.end + size);
            self.fill(self.end, stop)?;
            if let Some(last) = self.buffer.iter().rposition(|byte| *byte == b'\n') {
                self.buffer.truncate(last + 1);
                break;
            }
            if stop == self.length {
                self.incomplete_at = Some(self.length);
                return Ok(None);
            }
            if size >= LONGEST_LINE {
                // Read as a line, which its reader will report.
                break;
            }
            size *= 4;
        }
        let offset = self.end;
        self.end += self.buffer.len() as u64;
        self.incomplete_at = None;
        self.remember_end();
        Ok(Some(LineChunk {
            offset,
            bytes: &self.buffer,
        }))
    }

    /// The lines before those that were read; `None` if there are none.
    ///
    /// # Errors
    /// The file cannot be read, or was cut at this moment.
    pub fn earlier(&mut self) -> io::Result<Option<LineChunk<'_>>> {
        if !self.has_earlier() {
            return Ok(None);
        }
        let mut size = CHUNK_BYTES;
        let mut skipped;
        loop {
            let start = self.head.saturating_sub(size);
            self.fill(start, self.head)?;
            // The first line began earlier, unless the file begins here.
            skipped = match start {
                0 => 0,
                _ => self
                    .buffer
                    .iter()
                    .position(|byte| *byte == b'\n')
                    .map_or(0, |end| end + 1),
            };
            let has_line = start == 0 || (skipped > 0 && skipped < self.buffer.len());
            if has_line || size >= LONGEST_LINE {
                break;
            }
            size *= 4;
        }
        if skipped == self.buffer.len() {
            skipped = 0;
        }
        self.head -= (self.buffer.len() - skipped) as u64;
        Ok(Some(LineChunk {
            offset: self.head,
            bytes: self.buffer.get(skipped..).unwrap_or_default(),
        }))
    }

    /// The bytes of a part of the file.
    ///
    /// # Errors
    /// The file does not exist, cannot be read, or ends earlier.
    pub fn read_at(&self, start: u64, end: u64) -> io::Result<Vec<u8>> {
        let file = self.file.as_ref().ok_or(io::ErrorKind::NotFound)?;
        let mut bytes = vec![0; end.saturating_sub(start) as usize];
        file.read_exact_at(&mut bytes, start)?;
        Ok(bytes)
    }

    /// Sets `head` and `end` to where reading starts: 0, or the first line of the last megabyte.
    fn find_beginning(&mut self) -> io::Result<()> {
        let mut start = if self.is_end_first {
            self.length.saturating_sub(FIRST_BYTES)
        } else {
            0
        };
        while start > 0 {
            self.fill(start, self.length)?;
            let line_break = self.buffer.iter().position(|byte| *byte == b'\n');
            // A line break at the very end is of the line that is looked for.
            if let Some(end) = line_break.filter(|end| end + 1 < self.buffer.len()) {
                start += end as u64 + 1;
                break;
            }
            if self.length - start >= LONGEST_LINE {
                break;
            }
            start = self.length.saturating_sub((self.length - start) * 4);
        }
        (self.head, self.end) = (start, start);
        self.has_begun = true;
        Ok(())
    }

    fn fill(&mut self, start: u64, end: u64) -> io::Result<()> {
        let file = self.file.as_ref().ok_or(io::ErrorKind::NotFound)?;
        self.buffer.resize((end - start) as usize, 0);
        file.read_exact_at(&mut self.buffer, start)
    }

    fn remember_end(&mut self) {
        let from = self.buffer.len().saturating_sub(KEPT_BYTES);
        self.last_bytes.clear();
        self.last_bytes
            .extend_from_slice(self.buffer.get(from..).unwrap_or_default());
    }
}

/// Whether the file, or the folder that it was in, does not exist.
pub fn is_absence(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::StaleNetworkFileHandle
    )
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn texts(lines: Option<LineChunk<'_>>) -> Vec<String> {
        let lines = lines.into_iter().flat_map(LineChunk::each);
        lines
            .map(|(_, line)| String::from_utf8_lossy(line).into_owned())
            .collect()
    }

    fn append(path: &Path, text: &str) {
        let mut file = File::options()
            .append(true)
            .create(true)
            .open(path)
            .unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn growth_torn_lines_cuts_and_replacements() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("일지.jsonl");
        let mut tail = Tail::from_end(&path);
        assert!(!tail.look().unwrap());
        assert!(tail.newer().unwrap().is_none() && tail.earlier().unwrap().is_none());

        append(&path, "하나\n\n둘\n셋의 반");
        assert!(!tail.look().unwrap());
        assert_eq!(texts(tail.newer().unwrap()), ["하나", "둘"]);
        assert!(tail.newer().unwrap().is_none() && !tail.has_earlier());
        append(&path, "쪽\n");
        assert!(!tail.look().unwrap());
        assert_eq!(texts(tail.newer().unwrap()), ["셋의 반쪽"]);
        assert_eq!(tail.first_line().unwrap().unwrap(), "하나".as_bytes());

        // Cut and grown past its old length between two looks.
        std::fs::write(&path, format!("하나\n{}\n", "넷".repeat(20))).unwrap();
        assert!(tail.look().unwrap());
        assert_eq!(texts(tail.newer().unwrap()).len(), 2);
        let file = File::options().write(true).open(&path).unwrap();
        file.set_len("하나\n".len() as u64).unwrap();
        assert!(tail.look().unwrap());
        assert_eq!(texts(tail.newer().unwrap()), ["하나"]);

        std::fs::remove_file(&path).unwrap();
        assert!(!tail.look().unwrap());
        assert!(tail.newer().unwrap().is_none());
        std::fs::write(folder.path().join("other"), "하나\n둘\n").unwrap();
        std::fs::rename(folder.path().join("other"), &path).unwrap();
        assert!(tail.look().unwrap());
        assert_eq!(texts(tail.newer().unwrap()), ["하나", "둘"]);
    }

    #[test]
    fn from_the_start_every_line_comes_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut tail = Tail::from_start(&path);
        let mut next = || {
            let has_restarted = tail.look().unwrap();
            let mut lines = Vec::new();
            while let Some(chunk) = tail.newer().unwrap() {
                lines.extend(texts(Some(chunk)));
            }
            (has_restarted, lines)
        };
        assert_eq!(next(), (false, vec![]));
        let long: Vec<String> = (0..200_000).map(|line| format!("줄 {line:020}")).collect();
        std::fs::write(&path, long.join("\n") + "\n반").unwrap();
        assert!(next() == (false, long.clone()), "every line, in order");
        append(&path, "쪽\n끝\n");
        assert_eq!(next(), (false, vec!["반쪽".to_owned(), "끝".to_owned()]));

        // Cut and grown past the old length between two looks.
        std::fs::write(&path, format!("하나\n{}\n", "x".repeat(8_000_000))).unwrap();
        let (has_restarted, lines) = next();
        assert_eq!(
            (has_restarted, lines.len(), lines[0].as_str()),
            (true, 2, "하나")
        );
        std::fs::remove_file(&path).unwrap();
        assert_eq!(next(), (false, vec![]));
    }

    #[test]
    fn the_end_comes_first_and_every_line_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let lines: Vec<String> = (0..400_000)
            .map(|line| format!("줄 {line} {}.", "x".repeat(line % 40)))
            .collect();
        std::fs::write(&path, lines.join("\n") + "\n" + &"y".repeat(70_000)).unwrap();
        let mut tail = Tail::from_end(&path);
        tail.look().unwrap();
        let mut found = texts(tail.newer().unwrap());
        assert_eq!(found.last(), lines.last());
        assert!(found.len() < lines.len() / 2);
        assert!(tail.newer().unwrap().is_none());
        while tail.has_earlier() {
            let mut earlier = texts(tail.earlier().unwrap());
            earlier.append(&mut found);
            found = earlier;
        }
        assert!(found == lines, "every line, in order");
        let (read, total) = tail.extent();
        assert_eq!(total - read, 70_000);
    }

    #[test]
    fn lines_longer_than_a_chunk_are_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let long = "가".repeat(CHUNK_BYTES as usize / 2);
        std::fs::write(&path, format!("첫\n{long}\n{long}\n끝\n")).unwrap();
        let mut tail = Tail::from_end(&path);
        tail.look().unwrap();
        let mut found = texts(tail.newer().unwrap());
        while tail.has_earlier() {
            let mut earlier = texts(tail.earlier().unwrap());
            earlier.append(&mut found);
            found = earlier;
        }
        assert!(found == ["첫", &long, &long, "끝"]);
        append(&path, &format!("{long}\n"));
        tail.look().unwrap();
        assert!(texts(tail.newer().unwrap()) == [long]);
    }
}
