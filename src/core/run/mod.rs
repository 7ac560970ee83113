//! The run directory: the only thing that a trainer and its watchers share.
//!
//! A trainer takes the [`RunLock`], appends to the [`EventLog`], the [`CompletionLog`] and the
//! [`SystemLog`], keeps [`RunState`] (run.json) and [`Progress`] (progress.json) current and takes
//! [`Request`]s from `control/`. A watcher reads the same files, at any time, over any file system,
//! and drops requests. Every file that is not append-only
//! is written next to its final path and renamed ([`publish`](publish::publish)), so a reader never sees
//! half of it.

mod card;
mod checkpoints;
mod completions;
mod control;
mod directory;
mod events;
mod fields;
mod fingerprint;
mod host;
mod index;
mod jsonl;
mod lock;
mod process;
mod progress;
pub mod publish;
mod reading;
mod state;
mod system;
mod tail;

pub use card::Card;
pub use checkpoints::{Checkpoint, SavePoint, checkpoints, prune_checkpoints, set_aside};
pub use completions::{CompletionLog, CompletionRecord};
pub use control::{Control, Request};
pub use directory::RunDir;
pub use events::{
    Alarm, BatchSizes, Checkpoint as CheckpointEvent, Continued, Done, Event, EventKind, EventLog,
    Finding, Inference, MeanIntervals, Metric, Metrics, Moving, Observer, PartSizes, Paused,
    Preflight, Resume, Score, Severity, Stall, Start, Step,
};
pub use fields::{Field, Fields};
pub use fingerprint::{file_fingerprint, model_fingerprint};
pub use host::{HostMeter, resident_memory, total_memory};
pub use index::{Condition, RunEntry, is_run, list_runs, run_folders};
pub use lock::{LockError, LockOwner, RunLock};
pub use process::{Liveness, host_name};
pub use progress::Progress;
pub use publish::{WriteError, publish};
pub use reading::{BadLine, Lines, read_lines};
pub use state::{BestCheckpoint, RunState, RunStatus};
pub use system::{CardSample, DeviceSample, HostSample, SystemLog, SystemSample};
pub use tail::{LineChunk, Tail, is_absence};
