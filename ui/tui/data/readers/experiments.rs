//! The experiment files of a folder.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use moim_core::experiment::{Experiment, ExperimentError, Fault, experiment_name};

use super::stamp::{Stamp, stamp};
use crate::tui::data::index::ExperimentFile;

/// A file larger than this is no experiment, in bytes.
const LARGEST_FILE: u64 = 1 << 20;

/// The files of a folder, read again only where they have changed.
pub(super) struct Experiments {
    folder: PathBuf,
    files: HashMap<PathBuf, (Stamp, Arc<ExperimentFile>)>,
}

impl Experiments {
    /// Nothing is read yet.
    pub fn in_folder(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            files: HashMap::new(),
        }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Every experiment file by name, and what could not be read, as text.
    pub fn read(&mut self) -> (Vec<Arc<ExperimentFile>>, Vec<String>) {
        let mut problems = Vec::new();
        let paths = toml_files(&self.folder).unwrap_or_else(|error| {
            let folder = self.folder.display();
            problems.push(match error.kind() {
                io::ErrorKind::NotFound => format!("there is no folder {folder}"),
                _ => format!("cannot list {folder}: {error}"),
            });
            Vec::new()
        });
        let mut known = std::mem::take(&mut self.files);
        let mut files = Vec::with_capacity(paths.len());
        for path in paths {
            // Vanished since it was listed.
            let Some(stamp) = stamp(&path) else { continue };
            let file = match known.remove(&path) {
                Some((before, file)) if before == stamp => file,
                _ => match read(&path, stamp) {
                    Ok(file) => Arc::new(file),
                    Err(problem) => {
                        problems.push(problem);
                        continue;
                    }
                },
            };
            self.files.insert(path, (stamp, Arc::clone(&file)));
            files.push(file);
        }
        (files, problems)
    }
}

fn toml_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let is_hidden = path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if path
            .extension()
            .is_some_and(|extension| extension == "toml")
            && !is_hidden
            && path.is_file()
        {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn read(path: &Path, stamp: Stamp) -> Result<ExperimentFile, String> {
    if stamp.len > LARGEST_FILE {
        return Err(format!(
            "{} has more than a megabyte and is not read",
            path.display()
        ));
    }
    let bytes = moim_core::regular_file::read(path)
        .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let (text, experiment) = match String::from_utf8(bytes) {
        Ok(text) => {
            let experiment = Experiment::parse(&text, &[]);
            (text, experiment)
        }
        // Loading reports the position of the bytes that are no text.
        Err(error) => (
            String::from_utf8_lossy(error.as_bytes()).into_owned(),
            Experiment::load(path, &[]).map_err(faults_of),
        ),
    };
    Ok(ExperimentFile {
        path: path.to_owned(),
        name: experiment_name(path),
        modified: Timestamp::from_nanosecond(stamp.modified_ns).ok(),
        description: description(&text),
        text: text.into(),
        experiment: experiment.map(Arc::new),
    })
}

fn faults_of(error: ExperimentError) -> Vec<Fault> {
    match error {
        ExperimentError::Faults { faults, .. } => faults,
        ExperimentError::Unreadable { source, .. } => {
            vec![Fault::new(
                "",
                None,
                format!("cannot be read: {source}"),
                "see to its rights",
            )]
        }
    }
}

/// The comment at the head of a file.
fn description(text: &str) -> Vec<String> {
    let head = text
        .lines()
        .map(str::trim_start)
        .skip_while(|line| line.is_empty());
    let comment = head.map_while(|line| line.strip_prefix('#'));
    comment
        .map(|line| line.strip_prefix(' ').unwrap_or(line).trim_end().to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_with_their_comment_and_their_faults_and_again_when_they_change() {
        let folder = tempfile::tempdir().unwrap();
        let write =
            |name: &str, text: &[u8]| std::fs::write(folder.path().join(name), text).unwrap();
        let good = "# 데모: 두 에폭\n#   moim experiments/b.toml\n\n[model]\npath = \"m\"\n[data]\ntrain = \"t\"\neval = \"e\"\n";
        write("b.toml", good.as_bytes());
        write("a.toml", b"[grpo]\nnum_generation = 4\n");
        write("c.toml", b"# \xff\n");
        write("notes.md", b"");
        write(".hidden.toml", b"");
        let mut experiments = Experiments::in_folder(folder.path());
        let (files, problems) = experiments.read();
        let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
        assert_eq!((names, problems), (vec!["a", "b", "c"], vec![]));
        assert_eq!(
            files[1].description,
            ["데모: 두 에폭", "  moim experiments/b.toml"]
        );
        assert_eq!(
            files[1].experiment.as_ref().unwrap().data.train,
            Path::new("t")
        );
        assert!(
            files[0]
                .experiment
                .as_ref()
                .is_err_and(|faults| faults.len() > 1)
        );
        assert!(files[2].experiment.is_err());

        let (again, _) = experiments.read();
        assert!(
            files
                .iter()
                .zip(&again)
                .all(|(old, new)| Arc::ptr_eq(old, new))
        );
        write("a.toml", good.as_bytes());
        let (again, _) = experiments.read();
        assert!(again[0].experiment.is_ok() && Arc::ptr_eq(&files[1], &again[1]));
    }

    #[test]
    fn a_folder_that_does_not_exist_is_reported() {
        let (files, problems) = Experiments::in_folder(Path::new("/nowhere/experiments")).read();
        assert!(files.is_empty());
        assert_eq!(problems, ["there is no folder /nowhere/experiments"]);
    }
}
