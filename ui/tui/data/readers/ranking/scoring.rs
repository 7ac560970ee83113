//! Scores made by a process of its own: `moim rank RUN --json`, whose numbers stay in the run's
//! `scores` folder.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use moim_core::experiment::Experiment;

/// Lines of a failed process that are reported.
const LAST_LINES: usize = 3;

/// A process that ends with the one who holds it, wherever the thread that started it is.
#[derive(Default)]
pub(super) struct Process {
    child: Arc<Mutex<Option<Child>>>,
}

/// The same process, for the thread that starts and awaits it.
#[derive(Clone)]
pub(super) struct Handle {
    child: Arc<Mutex<Option<Child>>>,
}

impl Process {
    pub fn handle(&self) -> Handle {
        Handle {
            child: Arc::clone(&self.child),
        }
    }
}

impl Handle {
    fn slot(&self) -> std::sync::MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How the process ended, where it has.
    fn end(&self) -> Option<std::io::Result<ExitStatus>> {
        let mut slot = self.slot();
        let end = slot.as_mut()?.try_wait().transpose()?;
        *slot = None;
        Some(end)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let mut slot = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mut child) = slot.take() {
            // One that has ended meanwhile cannot be killed, and is only to be fetched.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Who makes the scores, and what has been tried.
pub(super) struct Scoring {
    run: PathBuf,
    program: Option<PathBuf>,
    process: Handle,
    /// What the process says.
    output: Option<File>,
    tried: Option<BTreeMap<String, u32>>,
}

impl Scoring {
    pub fn new(run: &Path, program: Option<PathBuf>, process: Handle) -> Self {
        Self {
            run: run.to_owned(),
            program,
            process,
            output: None,
            tried: None,
        }
    }

    /// Whether a process is at work.
    pub fn is_running(&self) -> bool {
        self.process.slot().is_some()
    }

    /// Whether scoring these versions of files was tried already.
    pub fn was_tried(&self, files: &BTreeMap<String, u32>) -> bool {
        self.tried.as_ref() == Some(files)
    }

    /// Forgets what was tried.
    pub fn try_again(&mut self) {
        self.tried = None;
    }

    /// Starts the process; returns what it does, as text.
    ///
    /// # Errors
    /// In words: there is no encoder to score with, or the process cannot be started.
    pub fn begin(
        &mut self,
        files: &BTreeMap<String, u32>,
        experiment: &Experiment,
    ) -> Result<String, String> {
        self.tried = Some(files.clone());
        if experiment.bertscore.model.is_none() {
            return Err(
                "no BERTScore encoder: the Final Mean needs one; name it as [bertscore] model"
                    .to_owned(),
            );
        }
        let program = self
            .program
            .as_ref()
            .ok_or("moim cannot find its own program to score with")?;
        let failed = |error: std::io::Error| format!("cannot start {}: {error}", program.display());
        let output = tempfile::tempfile().map_err(failed)?;
        let child = Command::new(program)
            .arg("rank")
            .arg(&self.run)
            .arg("--json")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(output.try_clone().map_err(failed)?)
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        *self.process.slot() = Some(child);
        self.output = Some(output);
        let names: Vec<&str> = files.keys().map(String::as_str).collect();
        Ok(format!("scoring {}", names.join(", ")))
    }

    /// Where the process has ended since the last call: what went wrong in it, if anything.
    pub fn take_end(&mut self) -> Option<Option<String>> {
        let end = self.process.end()?;
        let said = self.output.take().map(said).unwrap_or_default();
        Some(match end {
            // 1: there is no file that answers every label.
            Ok(status) if matches!(status.code(), Some(0 | 1)) => None,
            Ok(status) => Some(format!("scoring failed ({status}): {said}")),
            Err(error) => Some(format!("scoring failed: {error}")),
        })
    }
}

/// The last lines of what a process wrote.
fn said(mut output: File) -> String {
    let mut bytes = Vec::new();
    // What cannot be read is not reported.
    let _ = output
        .seek(SeekFrom::Start(0))
        .and_then(|_| output.read_to_end(&mut bytes));
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let last = lines.iter().rev().take(LAST_LINES).rev();
    last.copied().collect::<Vec<_>>().join(" ")
}
