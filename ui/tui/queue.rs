//! Experiments that wait to be started, kept on the disk so that they outlive the terminal.

use std::path::{Path, PathBuf};

use moim_core::run::publish;

/// The folder for what belongs to no run, in the folder of runs.
pub const OWN_FOLDER: &str = ".moim";

fn file(outputs: &Path) -> PathBuf {
    outputs.join(OWN_FOLDER).join("queue.json")
}

/// The queue that was kept; empty if there is none.
///
/// # Errors
/// A file that is no queue, by name and with a hint.
pub fn read(outputs: &Path) -> Result<Vec<PathBuf>, String> {
    let path = file(outputs);
    let bytes = match moim_core::regular_file::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(format!("cannot read {}: {error}", path.display())),
    };
    serde_json::from_slice(&bytes).map_err(|error| {
        format!(
            "{} is no queue ({error}); it should be a JSON list of experiment files: delete it",
            path.display()
        )
    })
}

/// Keeps the queue.
///
/// # Errors
/// Names the file that cannot be written.
pub fn keep(outputs: &Path, queue: &[PathBuf]) -> Result<(), String> {
    let path = file(outputs);
    if queue.is_empty() {
        return match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(format!("cannot remove {}: {error}", path.display()))
            }
            _ => Ok(()),
        };
    }
    let folder = outputs.join(OWN_FOLDER);
    std::fs::create_dir_all(&folder)
        .map_err(|error| format!("cannot create {}: {error}", folder.display()))?;
    let json = serde_json::to_vec_pretty(queue).map_err(|error| error.to_string())?;
    publish(&path, &json).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_outlives_the_program() {
        let outputs = tempfile::tempdir().unwrap();
        assert_eq!(read(outputs.path()), Ok(Vec::new()));
        let queue = [
            PathBuf::from("experiments/가.toml"),
            PathBuf::from("b.toml"),
        ];
        keep(outputs.path(), &queue).unwrap();
        assert_eq!(read(outputs.path()).unwrap(), queue);
        keep(outputs.path(), &[]).unwrap();
        assert_eq!(read(outputs.path()), Ok(Vec::new()));
        keep(outputs.path(), &[]).unwrap();
    }

    #[test]
    fn a_file_that_is_no_queue_is_named() {
        let outputs = tempfile::tempdir().unwrap();
        std::fs::create_dir(outputs.path().join(OWN_FOLDER)).unwrap();
        std::fs::write(file(outputs.path()), "{").unwrap();
        assert!(read(outputs.path()).unwrap_err().contains("queue.json"));
    }
}
