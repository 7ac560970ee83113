//! Opens only regular files: no folders, pipes or devices.
//!
//! Opening a named pipe waits for a writer that may never come, and `/dev/zero` never ends. So every
//! path from a user or another program is opened here, without waiting, and its kind is checked before
//! it is read.

use std::fs::{File, FileType, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;

/// Opens a regular file for reading.
///
/// # Errors
/// Those of opening, and [`io::ErrorKind::InvalidInput`] if it is not a regular file. As in
/// [`File::open`], the message does not name the path.
pub fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(path)?;
    let kind = file.metadata()?.file_type();
    if kind.is_file() {
        return Ok(file);
    }
    let problem = format!("it is {}, not a file", kind_name(kind));
    Err(io::Error::new(io::ErrorKind::InvalidInput, problem))
}

/// Reads a whole regular file.
///
/// # Errors
/// As [`open`], and those of reading.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads a whole regular file of UTF-8.
///
/// # Errors
/// As [`read`], and [`io::ErrorKind::InvalidData`] if it is not UTF-8.
pub fn read_to_string(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    open(path)?.read_to_string(&mut text)?;
    Ok(text)
}

fn kind_name(kind: FileType) -> &'static str {
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
    fn only_files_are_opened_without_waiting() {
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
