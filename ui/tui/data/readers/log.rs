//! The end of text logs.

use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::stamp::stamp;

/// Bytes at the end of a log that are read.
const END_BYTES: u64 = 64 << 10;

/// Lines that a dead run leaves as its last words.
const LAST_WORDS: usize = 6;

/// The last lines of a text file; none if it cannot be read.
pub(super) fn last_lines(path: &Path, count: usize) -> Vec<String> {
    let text = end_of(path).unwrap_or_default();
    let mut lines: Vec<String> = text.lines().rev().take(count).map(str::to_owned).collect();
    lines.reverse();
    lines
}

fn end_of(path: &Path) -> io::Result<String> {
    let file = moim_core::regular_file::open(path)?;
    let length = file.metadata()?.len();
    let start = length.saturating_sub(END_BYTES);
    let mut bytes = vec![0; (length - start) as usize];
    file.read_exact_at(&mut bytes, start)?;
    let text = String::from_utf8_lossy(&bytes);
    // The first line is whole only if the file starts with it.
    let whole = match (start, text.split_once('\n')) {
        (1.., Some((_, rest))) => rest,
        _ => &text,
    };
    Ok(whole.to_owned())
}

/// The output of a trainer that was started from a terminal:
/// `<output_dir>/.moim/launch-<run>.log`.
pub(super) fn launch_log(run: &Path) -> Option<PathBuf> {
    let output_dir = run.parent()?.parent()?;
    let name = run.file_name()?.to_string_lossy();
    Some(output_dir.join(".moim").join(format!("launch-{name}.log")))
}

/// The log of a run that is shown: its own, or that of its launch while it has none.
pub(super) fn shown_log(run: &Path) -> Option<PathBuf> {
    let is_written = |path: &PathBuf| stamp(path).is_some_and(|stamp| stamp.len > 0);
    let own = Some(run.join("log.txt")).filter(is_written);
    own.or_else(|| launch_log(run).filter(is_written))
}

/// The last lines of a run before it died. Its output to a terminal is preferred if it is as new as the
/// run's log: it includes what was written in the last moment, e.g. a panic.
pub(super) fn last_words(run: &Path) -> Vec<String> {
    let own = run.join("log.txt");
    let written = |path: &Path| {
        stamp(path)
            .filter(|stamp| stamp.len > 0)
            .map(|stamp| stamp.modified_ns)
    };
    let launch = launch_log(run).filter(|launch| {
        let at = written(launch);
        at.is_some() && at >= written(&own) && is_only_run(run)
    });
    let path = launch.unwrap_or(own);
    let mut lines = last_lines(&path, LAST_WORDS * 2);
    lines.retain(|line| !line.trim().is_empty());
    lines.split_off(lines.len().saturating_sub(LAST_WORDS))
}

/// Whether no other experiment has a run of this name: both would share a launch log.
fn is_only_run(run: &Path) -> bool {
    let (Some(output_dir), Some(name)) = (run.parent().and_then(Path::parent), run.file_name())
    else {
        return true;
    };
    let experiments = std::fs::read_dir(output_dir)
        .into_iter()
        .flatten()
        .flatten();
    experiments
        .filter(|entry| entry.path().join(name).is_dir())
        .count()
        <= 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_log_in_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.txt");
        assert!(last_lines(&path, 3).is_empty());
        let text: String = (0..20_000).map(|line| format!("줄 {line}\r\n")).collect();
        std::fs::write(&path, text).unwrap();
        assert_eq!(last_lines(&path, 2), ["줄 19998", "줄 19999"]);
        let all = last_lines(&path, 100_000);
        assert!(all.len() > 3000 && all[0].starts_with("줄 1"), "{}", all[0]);
        std::fs::write(&path, b"\xff broken").unwrap();
        assert_eq!(last_lines(&path, 9), ["\u{fffd} broken"]);
    }

    #[test]
    fn last_words_are_of_the_launch_where_it_is_newer_and_surely_of_this_run() {
        let outputs = tempfile::tempdir().unwrap();
        let run = outputs.path().join("demo/seed42");
        std::fs::create_dir_all(&run).unwrap();
        std::fs::write(run.join("log.txt"), "step 1\n\nstep 2\n").unwrap();
        assert_eq!(last_words(&run), ["step 1", "step 2"]);
        let launch = launch_log(&run).unwrap();
        std::fs::create_dir_all(launch.parent().unwrap()).unwrap();
        std::fs::write(&launch, "thread 'main' panicked\n").unwrap();
        assert_eq!(last_words(&run), ["thread 'main' panicked"]);
        assert_eq!(shown_log(&run), Some(run.join("log.txt")));
        std::fs::create_dir_all(outputs.path().join("other/seed42")).unwrap();
        assert_eq!(last_words(&run), ["step 1", "step 2"]);
        std::fs::remove_file(run.join("log.txt")).unwrap();
        assert_eq!(shown_log(&run), Some(launch));
    }
}
