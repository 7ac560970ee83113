//! Distinguishes versions of a file without reading it.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

pub(super) use moim_core::watch::Stamp;

/// The stamp of a file; `None` if it does not exist or cannot be read.
pub(super) fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = std::fs::metadata(path).ok()?;
    Some(Stamp {
        inode: metadata.ino(),
        len: metadata.len(),
        modified_ns: i128::from(metadata.mtime()) * 1_000_000_000
            + i128::from(metadata.mtime_nsec()),
    })
}
