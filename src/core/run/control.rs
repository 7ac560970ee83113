//! Requests to a trainer: files dropped by name into `control/`, removed when they are taken. A
//! person can drop one with `touch control/stop`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::publish::{WriteError, publish};

/// What a trainer can be asked to do. The name of the file is the word in lower case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Request {
    /// Save and end.
    Stop,
    /// Save and continue.
    Save,
    /// Take no further step until [`Request::Resume`].
    Pause,
    /// Go on after [`Request::Pause`].
    Resume,
}

impl Request {
    /// Every request.
    pub const ALL: [Self; 4] = [Self::Stop, Self::Save, Self::Pause, Self::Resume];

    /// The name of the file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Save => "save",
            Self::Pause => "pause",
            Self::Resume => "resume",
        }
    }
}

/// The trainer's side of `control/`.
#[derive(Clone, Debug)]
pub struct Control {
    directory: PathBuf,
}

impl Control {
    /// The requests dropped into `directory`, the `control/` of a run.
    pub fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
        }
    }

    /// Drops a request into `control/` of the run directory `run`. Asking twice is asking once.
    ///
    /// # Errors
    /// Names the file that could not be written.
    pub fn request(run: &Path, request: Request) -> Result<(), WriteError> {
        let directory = run.join("control");
        fs::create_dir_all(&directory).map_err(WriteError::on("create", &directory))?;
        let content = format!(
            "{} process {}\n",
            jiff::Timestamp::now(),
            std::process::id()
        );
        publish(&directory.join(request.as_str()), content.as_bytes())
    }

    /// Takes what was requested since the last call, oldest first. A folder that does not exist has no
    /// requests.
    ///
    /// # Errors
    /// A request that cannot be removed, by name: it would be obeyed again and again.
    pub fn poll(&self) -> Result<Vec<Request>, WriteError> {
        let mut taken = Vec::new();
        for request in Request::ALL {
            let path = self.directory.join(request.as_str());
            let Ok(dropped_at) =
                fs::symlink_metadata(&path).and_then(|metadata| metadata.modified())
            else {
                continue;
            };
            match fs::remove_file(&path) {
                Ok(()) => taken.push((dropped_at, request)),
                // Somebody else took it back.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(WriteError::new("take the request", &path, error)),
            }
        }
        taken.sort();
        Ok(taken.into_iter().map(|(_, request)| request).collect())
    }

    /// Drops whatever was requested before this run began or resumed, and says what it was.
    ///
    /// # Errors
    /// As [`Control::poll`].
    pub fn clear(&self) -> Result<Vec<Request>, WriteError> {
        self.poll()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn requests_are_taken_once_and_in_order() {
        let run = tempfile::tempdir().unwrap();
        let control = Control::new(&run.path().join("control"));
        assert_eq!(control.poll().unwrap(), []);
        for (request, age) in [
            (Request::Resume, 1),
            (Request::Stop, 2),
            (Request::Pause, 3),
        ] {
            Control::request(run.path(), request).unwrap();
            let file = File::options()
                .write(true)
                .open(run.path().join("control").join(request.as_str()));
            file.unwrap()
                .set_modified(SystemTime::now() - Duration::from_secs(age))
                .unwrap();
        }
        File::create(run.path().join("control/note.txt")).unwrap();
        assert_eq!(
            control.poll().unwrap(),
            [Request::Pause, Request::Stop, Request::Resume]
        );
        assert_eq!(control.poll().unwrap(), []);
        assert!(run.path().join("control/note.txt").exists());
    }

    #[test]
    fn a_request_by_hand_counts_and_asking_twice_is_asking_once() {
        let run = tempfile::tempdir().unwrap();
        Control::request(run.path(), Request::Save).unwrap();
        Control::request(run.path(), Request::Save).unwrap();
        File::create(run.path().join("control/stop")).unwrap();
        let mut taken = Control::new(&run.path().join("control")).poll().unwrap();
        taken.sort();
        assert_eq!(taken, [Request::Stop, Request::Save]);
    }

    #[test]
    fn a_request_that_cannot_be_removed_is_named() {
        let run = tempfile::tempdir().unwrap();
        fs::create_dir_all(run.path().join("control/stop")).unwrap();
        let error = Control::new(&run.path().join("control"))
            .poll()
            .unwrap_err();
        assert!(error.to_string().contains("control/stop"), "{error}");
    }
}
