//! Trainers: started as separate processes, asked, and killed.
//!
//! A trainer runs in its own process group with its output in a file, so that a key pressed here or
//! the end of this terminal does not reach it, and a failed device there does not reach this side.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::Sender;

use anyhow::{Context, Result, bail};
use moim_core::experiment::{Experiment, experiment_name};
use moim_core::run::{Liveness, RunDir, RunState};
use rustix::process::{Pid, Signal, getpgid, kill_process, kill_process_group};

use super::message::{Message, Outcome};
use super::queue::OWN_FOLDER;

/// The last lines of a trainer's output that are shown when it did not start.
const LAST_LINES: usize = 40;

/// The file for the output of a trainer, before and after its run directory exists.
pub fn launch_log(outputs: &Path, run_name: &str) -> PathBuf {
    outputs
        .join(OWN_FOLDER)
        .join(format!("launch-{run_name}.log"))
}

/// Starts a trainer for an experiment file. Returns its run directory, which the trainer creates
/// when it has loaded what it needs, and its log.
///
/// # Errors
/// The experiment is not valid, with every fault; the process cannot be started.
pub fn start(experiment: &Path, sender: Sender<Message>) -> Result<(PathBuf, PathBuf)> {
    let loaded = Experiment::load(experiment, &[])?;
    let outputs = loaded.run.output_dir;
    let parent = outputs.join(experiment_name(experiment));
    // The name is chosen here, so that the path is known.
    let name = match loaded.run.name {
        Some(name) if parent.join(&name).exists() => bail!(
            "the run {} exists and is not overwritten; resume it (R on the Experiments screen), \
             or choose another run.name",
            parent.join(&name).display()
        ),
        Some(name) => name,
        None => free_name(&parent),
    };
    let log = launch_log(&outputs, &name);
    let mut command = trainer()?;
    command.arg(experiment);
    command.arg("--set").arg(format!("run.name={name:?}"));
    let child = spawn(command, &log)?;
    let run = parent.join(&name);
    wait(
        child,
        experiment.to_owned(),
        run.clone(),
        log.clone(),
        sender,
    );
    Ok((run, log))
}

/// Starts a trainer that resumes a run.
///
/// # Errors
/// It is no run, a trainer is running it, or the process cannot be started.
pub fn resume(run: &Path, sender: Sender<Message>) -> Result<PathBuf> {
    let directory = RunDir::open(run)?;
    if let Ok(state) = RunState::read(&directory.run_json())
        && state.liveness() == Liveness::Alive
    {
        bail!(
            "{} is already running, as process {}",
            run.display(),
            state.pid
        );
    }
    let outputs = run.parent().and_then(Path::parent).unwrap_or(run);
    let log = launch_log(outputs, &directory.name());
    let mut command = trainer()?;
    command.arg("--resume").arg(run);
    let child = spawn(command, &log)?;
    wait(child, run.to_owned(), run.to_owned(), log.clone(), sender);
    Ok(log)
}

/// Kills the trainer of a run, and the programs it started if it leads its own process group.
///
/// # Errors
/// No trainer of this machine is running it, or the system refuses.
pub fn kill(run: &Path) -> Result<u32> {
    let state = RunState::read(&RunDir::open(run)?.run_json())?;
    if state.liveness() != Liveness::Alive {
        bail!(
            "no trainer of this machine is running {} ({} on {})",
            run.display(),
            state.state,
            state.host
        );
    }
    let pid = i32::try_from(state.pid).ok().and_then(Pid::from_raw);
    let pid = pid.with_context(|| format!("{} is no process id", state.pid))?;
    let is_leader = getpgid(Some(pid)).is_ok_and(|group| group == pid);
    if is_leader {
        kill_process_group(pid, Signal::KILL)
    } else {
        kill_process(pid, Signal::KILL)
    }
    .with_context(|| format!("cannot kill process {}", state.pid))?;
    Ok(state.pid)
}

/// Deletes a run directory or a file. A running run stays.
///
/// # Errors
/// A trainer is running it, or it cannot be deleted, by name.
pub fn delete(path: &Path) -> Result<()> {
    let cannot = || format!("cannot delete {}", path.display());
    if !path.is_dir() {
        return fs::remove_file(path).with_context(cannot);
    }
    let run = RunDir::open(path)?;
    if let Ok(state) = RunState::read(&run.run_json())
        && matches!(state.liveness(), Liveness::Alive | Liveness::Unknown)
    {
        bail!(
            "{} is running ({} on {}); stop it first",
            path.display(),
            state.state,
            state.host
        );
    }
    fs::remove_dir_all(path).with_context(cannot)
}

/// The local time, with a number behind it if a run of that name exists.
fn free_name(parent: &Path) -> String {
    let stamp = jiff::Zoned::now().strftime("%Y-%m-%d_%H-%M-%S").to_string();
    let mut name = stamp.clone();
    let mut number = 1;
    while parent.join(&name).exists() {
        number += 1;
        name = format!("{stamp}-{number}");
    }
    name
}

fn trainer() -> Result<Command> {
    let program = std::env::current_exe().context("cannot find the program that is running")?;
    let mut command = Command::new(program);
    command.arg("--no-ui");
    Ok(command)
}

fn spawn(mut command: Command, log: &Path) -> Result<Child> {
    if let Some(folder) = log.parent() {
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
    }
    let output = File::options()
        .create(true)
        .append(true)
        .open(log)
        .with_context(|| format!("cannot write {}", log.display()))?;
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(output)
        .process_group(0)
        .spawn()
        .context("cannot start the trainer")
}

/// Waits for the end of a trainer, so that it does not stay behind as a zombie, and reports how
/// it ended.
fn wait(mut child: Child, what: PathBuf, run: PathBuf, log: PathBuf, sender: Sender<Message>) {
    std::thread::spawn(move || {
        let Ok(status) = child.wait() else { return };
        let has_begun =
            RunState::read(&run.join("run.json")).is_ok_and(|state| state.pid == child.id());
        let outcome = match (status.success(), has_begun) {
            (true, _) => Outcome::Done(format!("{} has ended", run.display())),
            (false, true) => Outcome::Failed(format!(
                "the trainer of {} has ended ({status}): {}",
                run.display(),
                last_lines(&log, 1)
            )),
            (false, false) => Outcome::StartFailed {
                experiment: what,
                last_words: last_lines(&log, LAST_LINES),
            },
        };
        // The receiver is closed if the terminal was closed.
        let _ = sender.send(Message::Done(outcome));
    });
}

fn last_lines(log: &Path, count: usize) -> String {
    let text = moim_core::regular_file::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}
