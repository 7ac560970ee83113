//! Opening what must be a file with an end: no folder, no pipe, no device.
//!
//! Opening a named pipe waits for a writer that may never come, and `/dev/zero` never ends. Whatever
//! a person or another program names is therefore opened here, which looks at what it opened before
//! it reads, and waits for nothing.

use std::fs::{File, FileType, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;

/// Opens a regular file for reading.
///
/// # Errors
/// Those of opening, and [`io::ErrorKind::InvalidInput`] for what is no regular file; neither names
/// the path, as those of [`File::open`] do not.
pub fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(path)?;
    let kind = file.metadata()?.file_type();
    if kind.is_file() {
        return Ok(file);
    }
    let problem = format!("it is {}, not a file", in_words(kind));
    Err(io::Error::new(io::ErrorKind::InvalidInput, problem))
}

/// Reads a regular file whole.
///
/// # Errors
/// As [`open`], and those of reading.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads a regular file of UTF-8 whole.
///
/// # Errors
/// As [`read`], and [`io::ErrorKind::InvalidData`] for what is not UTF-8.
pub fn read_to_string(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    open(path)?.read_to_string(&mut text)?;
    Ok(text)
}

fn in_words(kind: FileType) -> &'static str {
    if kind.is_dir() {
        "a folder"
    } else if kind.is_fifo() {
        "a pipe"
    } else {
        "a device"
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::{CWD, Mode};

    use super::*;

    #[test]
    fn only_files_are_opened_and_nothing_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "한글").unwrap();
        assert_eq!(read_to_string(&file).unwrap(), "한글");
        assert_eq!(read(&file).unwrap(), "한글".as_bytes());

        let pipe = folder.path().join("pipe");
        rustix::fs::mkfifoat(CWD, &pipe, Mode::RWXU).unwrap();
        let message = |path: &Path| read(path).unwrap_err().to_string();
        assert_eq!(message(&pipe), "it is a pipe, not a file");
        assert_eq!(message(folder.path()), "it is a folder, not a file");
        assert_eq!(
            message(Path::new("/dev/zero")),
            "it is a device, not a file"
        );
        assert_eq!(
            open(&folder.path().join("absent")).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
    }
}
